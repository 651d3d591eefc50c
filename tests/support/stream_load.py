"""Writers of keys that are watched: single keys, many at once, large revisions, deletions, and keys that end by themselves."""

import random
import threading

from kvcluster import PATIENCE_S, kv, select_pause, wait_until
from load import DEADLINE_MS, SEED


class Writer(threading.Thread):
    """Writes through whichever node answers. What was acknowledged goes into a list: (revision, key, value)."""

    def __init__(self, cluster, keys, number, pause_s):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.keys = keys
        self.number = number
        self.pause_s = pause_s
        self.random = random.Random(f"{SEED}/{number}")
        self.n_written = 0
        self.acknowledged = []
        self.client = None
        self.stop = False
        self.failure = None

    def value(self, size=0):
        self.n_written += 1
        return b"%d.%d " % (self.number, self.n_written) + b"x" * size

    def command(self):
        """A command, and what it writes for good."""
        rng = self.random
        key = rng.choice(self.keys)
        what = rng.choice(["put"] * 6 + ["delete", "ttl", "txn", "txn"] + ["large"] * (rng.random() < 0.1))
        if what == "delete":
            return dict(delete=kv.Delete(keys=[key])), []
        if what in ("txn", "large"):
            several = rng.sample(self.keys, 60 if what == "large" else rng.randrange(2, 6))
            writes = [(k, self.value(4000 if what == "large" else 0)) for k in several]
            return dict(txn=kv.Txn(then=[kv.Request(put=kv.Put(key=k, value=v)) for k, v in writes])), writes
        value = self.value()
        fields = dict(ttl_ms=rng.randrange(100, 800)) if what == "ttl" else {}
        return dict(put=kv.Put(key=key, value=value, **fields)), [(key, value)]

    def act(self):
        if self.client is None:
            node = self.random.choice(list(self.cluster.nodes.values()))
            self.client = node.client(timeout_s=3)
        command, writes = self.command()
        reply = self.client.call(deadline_ms=DEADLINE_MS, **command)
        if reply.code == kv.OK:
            self.acknowledged += [(reply.revision, key, value) for key, value in writes]
        else:
            self.lose()

    def lose(self):
        if self.client is not None:
            self.client.close()
        self.client = None

    def run(self):
        try:
            while not self.stop:
                try:
                    self.act()
                except (OSError, EOFError, AssertionError):
                    # Nobody there, broken off in the middle, or a goodbye.
                    self.lose()
                select_pause(self.pause_s)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            self.failure = error

    def end(self):
        self.stop = True
        self.join(PATIENCE_S)
        assert self.failure is None, self.failure
        self.lose()


def done_at(cluster, **command):
    """The revision of a write that is done again until it succeeds: who leads may still change."""

    def done():
        client = cluster.leader().client()
        reply = client.call(**command)
        client.close()
        return reply.revision if reply.code == kv.OK else None

    return wait_until(done, "a write is done")


def last_word(cluster, keys):
    """Puts all keys at one revision, so that every stream has something to wait for, and returns it."""
    return done_at(cluster, txn=kv.Txn(then=[kv.Request(put=kv.Put(key=key, value=b"last")) for key in keys]))
