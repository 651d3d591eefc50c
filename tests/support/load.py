"""A load on a cluster that breaks: what clients ask and are told is recorded, and judged in the end. Used by tests/fault."""

import itertools
import os
import random
import threading
import time

import recorder
from history import Read, Register, Write, violations
from kvcluster import kv, select_pause, wait_until
from recorder import RecordingClient

SEED = int(os.environ.get("KV_FAULT_SEED", random.randrange(1 << 30)))
KEYS = 4
DEADLINE_MS = 2000
INF = float("inf")
DECIDED = (kv.OK, kv.NOT_FOUND, kv.EXISTS, kv.CONDITION_FAILED)


def seconds(short, long):
    """How long faults go on: KV_FAULT_SECONDS, or as tests/run or tests/run --long want it."""
    return float(os.environ.get("KV_FAULT_SECONDS", long if os.environ.get("KV_LONG") else short))


def seeded():
    """Chance for a test; the seed is printed, and taken from KV_FAULT_SEED."""
    print(f"KV_FAULT_SEED={SEED}")
    return random.Random(SEED)


class Worker(threading.Thread):
    """Writes its register, or reads all of them, through whichever node answers. All that it asks goes into operations."""

    numbers = itertools.count(1)

    def __init__(self, cluster, registers, operations, key=None):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.registers = registers
        self.operations = operations
        self.key = key
        self.client_number = next(self.numbers)
        self.random = random.Random(f"{SEED}/{key}/{self.client_number}")
        self.client = None
        self.number = 0
        self.stop = False
        self.failure = None

    def connect(self):
        node = self.random.choice(list(self.cluster.nodes.values()))
        try:
            self.client = node.connect(RecordingClient, self.operations, self.client_number, timeout_s=3)
        except (OSError, EOFError, AssertionError):
            # Nobody there, or a goodbye instead of the hello: it is shutting down.
            self.client = None

    def write(self):
        self.number += 1
        record = Write(self.number, time.monotonic(), INF, False)
        self.registers[self.key].writes.append(record)
        reply = self.client.put(b"key%d" % self.key, b"%d" % self.number, deadline_ms=DEADLINE_MS)
        if reply.code == kv.OK:
            record.acknowledged = True
            record.ended = time.monotonic()
        return reply

    def read(self):
        key = self.random.randrange(KEYS)
        began = time.monotonic()
        reply = self.client.get(b"key%d" % key, deadline_ms=DEADLINE_MS)
        if reply.code in (kv.OK, kv.NOT_FOUND):
            number = int(reply.get.kv.value) if reply.code == kv.OK else 0
            self.registers[key].reads.append(Read(number, began, time.monotonic(), str(self.client.hello.node_id)))
        return reply

    def act(self):
        return self.write() if self.key is not None else self.read()

    def run(self):
        try:
            while not self.stop:
                if self.client is None:
                    self.connect()
                    if self.client is None:
                        select_pause(0.005)
                        continue
                try:
                    reply = self.act()
                except (OSError, EOFError, AssertionError):
                    # Broken off in the middle, or a goodbye: what was under way may have been done.
                    self.client.close()
                    self.client = None
                    continue
                if reply.code not in DECIDED or self.random.random() < 0.002:
                    self.client.close()
                    self.client = None
        except Exception as error:  # noqa: BLE001 - told by the main thread
            self.failure = error


class MixedWorker(Worker):
    """All kinds of commands on keys that several workers share."""

    def act(self):
        rng = self.random
        self.number += 1
        key = b"mixed%d" % rng.randrange(3)
        value = b"%d.%d," % (self.client_number, self.number)
        everything = kv.KeyRange(special=kv.KeyRange.ALL)
        command = rng.choice([
            dict(put=kv.Put(key=key, value=value, return_previous=True)),
            dict(put=kv.Put(key=key, value=value, if_absent=True)),
            dict(put=kv.Put(key=key, value=value, if_mod_revision=rng.randrange(1, 1000))),
            dict(append=kv.Append(key=key, value=value)),
            dict(getset=kv.GetSet(key=key, value=value)),
            dict(getdel=kv.GetDel(key=key)),
            dict(delete=kv.Delete(keys=[key, b"mixed0"])),
            dict(exists=kv.Exists(keys=[key, b"mixed0"])),
            dict(count=kv.Count(range=everything)),
            dict(range=kv.Range(range=everything)),
            dict(get=kv.Get(key=key)),
        ])
        return self.client.call(deadline_ms=DEADLINE_MS, **command)


def check_recorded(operations, path):
    """The history is good; with an older value in its last read it is not."""
    code, text = recorder.check(operations, path / "history.jsonl")
    print(text)
    assert code == recorder.GOOD, text
    reads = [o for o in operations if o["client"] == 0 and "reply" in o]
    reply = kv.Reply.FromString(bytes.fromhex(reads[-1]["reply"]))
    key = kv.Request.FromString(bytes.fromhex(reads[-1]["request"])).get.key
    reply.get.kv.value = b"%d" % (int(reply.get.kv.value) - 1)
    bad = [dict(o, reply=reply.SerializeToString().hex()) if o is reads[-1] else o for o in operations]
    code, text = recorder.check(bad, path / "bad.jsonl")
    assert code == recorder.BAD and f'key "{key.decode()}"' in text, text


class Load:
    """Workers of both kinds on a cluster that serves. To be ended once it serves again."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.registers = [Register() for _ in range(KEYS)]
        self.operations = []
        self.workers = [Worker(cluster, self.registers, self.operations, key) for key in range(KEYS)]
        self.workers += [Worker(cluster, self.registers, self.operations) for _ in range(3)]
        self.workers += [MixedWorker(cluster, self.registers, self.operations) for _ in range(3)]
        for worker in self.workers:
            worker.start()

    def acknowledged(self):
        return sum(w.acknowledged for register in self.registers for w in register.writes)

    def goes_on(self, writes=5):
        """Waits until each writer has begun so many more writes."""
        before = [worker.number for worker in self.workers[:KEYS]]
        wait_until(lambda: all(w.number > n + writes for w, n in zip(self.workers, before)), "writes go on")

    def end(self, path):
        """All nodes serve again: nothing acknowledged is missing, no read went back, and the history is linearizable."""
        self.cluster.wait_serving()
        self.goes_on()
        for worker in self.workers:
            worker.stop = True
        for worker in self.workers:
            worker.join(30)
            assert worker.failure is None, worker.failure
        # Every node's last word.
        for node in self.cluster.nodes.values():
            client = node.connect(RecordingClient, self.operations, 0)
            for key, register in enumerate(self.registers):
                began = time.monotonic()
                reply = client.get(b"key%d" % key)
                assert reply.code == kv.OK
                register.reads.append(Read(int(reply.get.kv.value), began, time.monotonic(), f"last {node.number}"))
            client.close()
        reads = sum(len(register.reads) for register in self.registers)
        print(f"{self.acknowledged()} writes acknowledged, {reads} reads")
        assert self.acknowledged() > 100 and reads > 100
        found = [text for register in self.registers for text in violations(register)]
        assert not found, found[:5]
        check_recorded(self.operations, path)
