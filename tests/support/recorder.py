"""Records what clients ask and are told, for kv_check_history (tests/sim/check_history.c says what it checks, and how the
file looks)."""

import json
import os
import pathlib
import subprocess
import time

from kvcluster import ROOT, Client, kv

BUILD = pathlib.Path(os.environ.get("KVD_BUILD_DIR", ROOT / "build" / "dev"))
CHECK_HISTORY = os.environ.get("KV_CHECK_HISTORY_BIN", str(BUILD / "tests" / "sim" / "kv_check_history"))
GOOD, BAD, UNREADABLE, GAVE_UP = range(4)


def record(client, node, begin, end, request, reply):
    """One operation; end and reply None: no answer."""
    operation = {"client": client, "node": node, "begin": begin, "request": request.SerializeToString().hex()}
    if end is not None:
        operation.update(end=end, reply=reply.SerializeToString().hex())
    return operation


class RecordingClient(Client):
    """A connection that adds all its calls to a list. `number` is that of the client, over all its connections."""

    def __init__(self, port, operations, number, **options):
        super().__init__(port, **options)
        self.operations = operations
        self.number = number

    def call(self, **fields):
        begin = time.monotonic_ns()
        reply = end = None
        try:
            reply = super().call(**fields)
            end = time.monotonic_ns()
        finally:
            # Appending is safe from many threads.
            self.operations.append(record(self.number, self.hello.node_id, begin, end, kv.Request(**fields), reply))
        return reply


def check(operations, path):
    """Exit code and output of the checker."""
    path.write_text("".join(json.dumps(operation) + "\n" for operation in operations))
    result = subprocess.run([CHECK_HISTORY, path], capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr
