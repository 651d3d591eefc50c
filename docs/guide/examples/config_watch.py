"""A service that takes its configuration from config/ and reloads it on each change, as shared_config.c does, with the
protocol alone (docs/protocol.md): no library but protobuf's.

    protoc --proto_path=proto --python_out=. kv.proto        # makes kv_pb2.py
    PYTHONPATH=. python3 config_watch.py ENDPOINTS NAME
"""

import socket
import struct
import sys
import time

import kv_pb2 as kv

KINDS = {kv.Request: 1, kv.Hello: 4, kv.Credit: 8}
MESSAGES = {2: kv.Reply, 3: kv.StreamItem, 5: kv.HelloReply, 6: kv.Goodbye}
CONFIG = kv.KeyRange(start=b"config/", special=kv.KeyRange.PREFIX)
CREDIT = 1 << 20
# The server says at least so often how far all was told; who hears nothing for three times as long has lost it.
PROGRESS_MS = 1000
PAUSE_S = 0.2


class Ended(Exception):
    """The stream, with this code: kv.COMPACTED is one that the program has to mind."""

    def __init__(self, item):
        super().__init__(item.message)
        self.code = item.code


class Connection:
    def __init__(self, endpoint):
        host, port = endpoint.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=3 * PROGRESS_MS / 1000)
        self.file = self.socket.makefile("rwb")
        self.send(kv.Hello(protocol_version=1, client_name="config_watch"))
        hello = self.receive()
        if hello.code != kv.OK:
            raise ConnectionError(hello.message)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, message):
        body = message.SerializeToString()
        self.file.write(struct.pack("<IBBH", len(body), KINDS[type(message)], 0, 0) + body)
        self.file.flush()

    def read_bytes(self, size):
        data = self.file.read(size)
        if len(data) < size:
            raise ConnectionError("the server closed the connection")
        return data

    def receive(self):
        length, kind, _flags, _zero = struct.unpack("<IBBH", self.read_bytes(8))
        message = MESSAGES[kind].FromString(self.read_bytes(length))
        if kind == 6:
            raise ConnectionError(message.message)
        return message

    def read(self):
        """All keys and the revision that they are of."""
        settings, request = {}, kv.Range(range=CONFIG)
        while True:
            self.send(kv.Request(id=1, range=request))
            reply = self.receive()
            if reply.code != kv.OK:
                raise ConnectionError(reply.message)
            settings.update({pair.key: pair.value for pair in reply.range.kvs})
            request.cursor = reply.range.cursor
            request.at_revision = reply.range.revision
            if not reply.range.more:
                return settings, reply.range.revision

    def watch(self, start_revision):
        """Pairs of a revision and the events up to it; whole revisions only."""
        watch = kv.Watch(range=CONFIG, start_revision=start_revision, progress_ms=PROGRESS_MS, credit=CREDIT)
        self.send(kv.Request(id=2, watch=watch))
        events = []
        while True:
            item = self.receive()
            if item.end:
                raise Ended(item)
            self.send(kv.Credit(id=2, bytes=item.ByteSize()))
            events += item.watch.events
            if not item.more_fragments:
                yield item.watch.revision, events
                events = []


class Service:
    def __init__(self, name):
        self.name = name
        self.settings = {}
        self.revision = 0  # up to which all is in the settings; 0: nothing was read yet

    def reload(self, revision):
        words = [f"{key.decode()[len('config/'):]}={value.decode()}" for key, value in sorted(self.settings.items())]
        print(" ".join([f"{self.name} {revision}:", *words]), flush=True)

    def apply(self, events):
        for i, event in enumerate(events):
            if event.kind == kv.EVENT_PUT:
                self.settings[event.kv.key] = event.kv.value
            else:
                self.settings.pop(event.kv.key, None)
            # One reload for all that a transaction changed.
            if i + 1 == len(events) or events[i + 1].kv.mod_revision != event.kv.mod_revision:
                self.reload(event.kv.mod_revision)

    def follow(self, endpoint):
        with Connection(endpoint) as connection:
            if not self.revision:
                self.settings, self.revision = connection.read()
                self.reload(self.revision)
            for revision, events in connection.watch(self.revision + 1):
                self.apply(events)
                self.revision = revision

    def run(self, endpoints):
        while True:
            for endpoint in endpoints:
                try:
                    self.follow(endpoint)
                except Ended as end:
                    if end.code == kv.COMPACTED:
                        self.revision = 0  # away for longer than the history goes back: read anew
                    elif end.code in (kv.INVALID, kv.PERMISSION):
                        raise
                except OSError:
                    pass  # the next node goes on where this one ended
                time.sleep(PAUSE_S)


if __name__ == "__main__":
    Service(sys.argv[2]).run(sys.argv[1].split(","))
