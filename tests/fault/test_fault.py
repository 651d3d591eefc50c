"""Real processes under load while nodes are killed, stopped and hung: no acknowledged write is missing, no read goes back in
time, and the history of all commands is linearizable. KV_FAULT_SEED replays the choice of faults, KV_FAULT_SECONDS makes
it longer."""

import itertools
import os
import random
import signal
import threading
import time

import recorder
from history import Read, Register, Write, violations
from kvcluster import Cluster, kv, select_pause, wait_until
from recorder import RecordingClient

SEED = int(os.environ.get("KV_FAULT_SEED", random.randrange(1 << 30)))
SECONDS = float(os.environ.get("KV_FAULT_SECONDS", "12"))
KEYS = 4
DEADLINE_MS = 2000
INF = float("inf")
DECIDED = (kv.OK, kv.NOT_FOUND, kv.EXISTS, kv.CONDITION_FAILED)


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
            self.client = RecordingClient(node.ports["client"], self.operations, self.client_number, timeout_s=3)
        except (OSError, EOFError):
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


def one_fault(cluster, rng):
    """Something bad to one node or to all, and its end."""
    what = rng.choice(["kill", "kill", "kill-leader", "terminate", "hang", "kill-all", "kill-two"])
    nodes = list(cluster.nodes.values())
    victims = {"kill-all": nodes, "kill-two": rng.sample(nodes, 2), "kill-leader": None}.get(what, [rng.choice(nodes)])
    if victims is None:
        victims = [cluster.leader()]
    print(f"{what} {[node.number for node in victims]}")
    for node in victims:
        if what == "hang":
            node.signal(signal.SIGSTOP)
        elif what == "terminate":
            assert node.terminate() == 0
        else:
            node.kill()
    select_pause(rng.uniform(0.05, 1.2))
    for node in victims:
        if what == "hang":
            node.signal(signal.SIGCONT)
        else:
            node.start()
    select_pause(rng.uniform(0.05, 1.0))


def test_nothing_acknowledged_is_lost_and_no_read_goes_back(tmp_path):
    print(f"KV_FAULT_SEED={SEED}")
    rng = random.Random(SEED)
    registers = [Register() for _ in range(KEYS)]
    operations = []
    with Cluster(tmp_path) as cluster:
        workers = [Worker(cluster, registers, operations, key) for key in range(KEYS)]
        workers += [Worker(cluster, registers, operations) for _ in range(3)]
        workers += [MixedWorker(cluster, registers, operations) for _ in range(3)]
        for worker in workers:
            worker.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            one_fault(cluster, rng)
        cluster.wait_serving()
        written = [worker.number for worker in workers[:KEYS]]
        wait_until(lambda: all(w.number > n + 5 for w, n in zip(workers, written)), "writes go on after the faults")
        for worker in workers:
            worker.stop = True
        for worker in workers:
            worker.join(30)
            assert worker.failure is None, worker.failure
        # Every node's last word.
        for node in cluster.nodes.values():
            client = RecordingClient(node.ports["client"], operations, 0)
            for key, register in enumerate(registers):
                began = time.monotonic()
                reply = client.get(b"key%d" % key)
                assert reply.code == kv.OK
                register.reads.append(Read(int(reply.get.kv.value), began, time.monotonic(), f"last {node.number}"))
    acknowledged = sum(w.acknowledged for r in registers for w in r.writes)
    reads = sum(len(r.reads) for r in registers)
    print(f"{acknowledged} writes acknowledged, {reads} reads")
    assert acknowledged > 100 and reads > 100
    found = [text for register in registers for text in violations(register)]
    assert not found, found[:5]
    check_recorded(operations, tmp_path)
