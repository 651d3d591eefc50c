"""Several processes count under one mutex, reading and then writing, while its holders are stopped for longer than their lease
lives, and nodes die: the fencing token lets no update get lost. KV_FAULT_SEED replays the choice of faults."""

import json
import signal
import subprocess
import threading
import time

import pytest

from faults import one_fault
from kvcluster import PATIENCE_S, Cluster, kv, select_pause, wait_until
from load import seconds, seeded
from programs import compile_program
from reference import read_key

PROCESSES = 4
TTL_MS = 1000
KEY = b"count"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_program("libkv_locked", tmp_path_factory.mktemp("program"))


class Counter:
    def __init__(self, program, cluster, *arguments):
        self.process = subprocess.Popen([program, cluster.endpoints(), "mutex", KEY.decode(), str(TTL_MS), *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def has_read(self):
        assert self.process.stdout.readline() == "read\n"

    def finish(self, line=""):
        output, _ = self.process.communicate(line, timeout=2 * PATIENCE_S)
        assert self.process.returncode == 0
        return json.loads(output)


def numbers(cluster):
    """All that the key has ever been, from first to last."""
    client = cluster.leader().client()
    revision = client.get(KEY).revision
    client.close()
    return [int(value) for _revision, _deleted, _key, value in read_key(cluster.leader(), KEY, revision)]


def holder(cluster):
    """The process that has the lock, as far as can be seen now: that of the oldest entry."""
    for node in cluster.nodes.values():
        try:
            client = node.client(timeout_s=0.5)
            reply = client.call(range=kv.Range(range=kv.KeyRange(start=b"mutex/", special=kv.KeyRange.PREFIX)), deadline_ms=500)
            client.close()
        except (OSError, EOFError, AssertionError):
            continue
        if reply.code == kv.OK and reply.range.kvs:
            return int(min(reply.range.kvs, key=lambda entry: entry.create_revision).value)
    return None


def lost_updates(history):
    """Numbers that are not one more than the one before."""
    return [(before, after) for before, after in zip([0, *history], history) if after != before + 1]


def test_no_update_is_lost(program, tmp_path):
    rng = seeded()
    with Cluster(tmp_path) as cluster:
        counters = [Counter(program, cluster) for _ in range(PROCESSES)]
        stopping = threading.Event()
        lengths_s = [rng.uniform(0.8, 2.0) * TTL_MS / 1000 for _ in range(1000)]

        def stop_processes():
            """Whoever has the lock, one after the other, for about as long as its lease lives."""
            for length_s in lengths_s:
                pid = holder(cluster)
                process = next((counter.process for counter in counters if counter.process.pid == pid), None)
                if process:
                    process.send_signal(signal.SIGSTOP)
                    select_pause(length_s)
                    process.send_signal(signal.SIGCONT)
                if stopping.is_set():
                    return
                select_pause(0.1)

        thread = threading.Thread(target=stop_processes)
        thread.start()
        end = time.monotonic() + seconds(9, 90)
        while time.monotonic() < end:
            one_fault(cluster, rng)
        stopping.set()
        thread.join()
        cluster.wait_serving()
        results = [counter.finish() for counter in counters]
        print(results)
        history = numbers(cluster)
        done = sum(result["done"] for result in results)
        assert lost_updates(history) == []
        assert done <= len(history) <= done + sum(result["unknown"] for result in results), (done, len(history))
        assert done > 20 and min(result["done"] for result in results) > 0


@pytest.mark.parametrize("mode", ["steps", "unguarded"])
def test_a_holder_that_was_paused(program, tmp_path, mode):
    """The token refuses what it writes; without it the same run loses an update, which is seen."""
    with Cluster(tmp_path, nodes=1) as cluster, Counter(program, cluster, mode) as paused:
        paused.has_read()
        paused.process.send_signal(signal.SIGSTOP)
        with Counter(program, cluster) as other:
            client = cluster.nodes[1].client()
            wait_until(lambda: client.get(KEY).code == kv.OK, "another holds the lock and counts")
            client.close()
            counted = other.finish()
        paused.process.send_signal(signal.SIGCONT)
        result = paused.finish("go on\n")
        history = numbers(cluster)
        if mode == "steps":
            assert result["refused"] == 1 and lost_updates(history) == [] and len(history) == counted["done"]
        else:
            assert result["done"] == 1 and lost_updates(history) == [(counted["done"], 1)]
