"""Locks, barriers and elections against a server that refuses watches, or does what it says it did not."""

import subprocess

from fakeserver import FakeServer
from kvcluster import HOST, KVCTL, PATIENCE_S, kv
from player import Player

LEASE = 7
OWN = f"-{LEASE:016x}".encode()
OTHER = b"-0000000000000001"


class Coordination:
    """Grants leases, refuses watches, and keeps what a test says of keys. As one goes on, `looks` counts the reads."""

    def __init__(self):
        self.looks = 0
        self.watches = 0

    def answer(self, request):
        command = request.WhichOneof("command")
        if command == "lease_grant":
            return kv.Reply(lease_grant=kv.LeaseResult(lease_id=LEASE, ttl_ms=10000))
        if command == "put":
            return kv.Reply(revision=5, put=kv.PutResult(version=1))
        if command == "watch":
            self.watches += 1
            return kv.Reply(code=kv.BUSY, message="no room for a watch")
        if command == "range":
            self.looks += 1
            return kv.Reply(revision=9, range=kv.RangeResult(kvs=self.keys(), revision=9))
        if command == "txn":
            return self.commit(request.txn)
        if command == "lease_keep_alive":
            lease = kv.LeaseResult(lease_id=LEASE, ttl_ms=10000)
            return kv.Reply(lease_keep_alive=kv.LeaseKeepAliveResult(leases=[lease]))
        assert command == "lease_revoke"
        return kv.Reply(lease_revoke=kv.CountResult(count=1))

    @staticmethod
    def key(name, created):
        return kv.KeyValue(key=name, type=kv.TYPE_STRING, create_revision=created, mod_revision=created, version=1)

    def keys(self):
        raise NotImplementedError

    def commit(self, txn):
        raise NotImplementedError


class Lock(Coordination):
    def keys(self):
        """Somebody is before us for three looks."""
        before = [self.key(b"n/x" + OTHER, 2)] if self.looks <= 3 else []
        return before + [self.key(b"n/x" + OWN, 5)]


def test_a_lock_is_waited_for_when_there_is_no_room_for_a_watch():
    """It looks again now and then, and neither spins nor sleeps through its turn."""
    lock = Lock()
    with FakeServer(lock.answer) as server:
        result = subprocess.run([KVCTL, "-e", f"{HOST}:{server.port}", "lock", "n", "-t", "20s", "--", "echo", "mine"],
                                capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert (result.returncode, result.stdout) == (0, "mine\n"), result.stderr
    assert (lock.looks, lock.watches) == (4, 3)


class Barrier(Coordination):
    """Two parties: the other one is inside; our second transaction is done, but answered by "unavailable"."""

    inside = False

    def keys(self):
        return [self.key(b"gate/b" + OTHER, 2), self.key(b"gate/b" + OWN, 5), self.key(b"gate/go", 6)]

    def commit(self, txn):
        if txn.compares[0].range.end or self.inside:
            return kv.Reply(revision=9, txn=kv.TxnResult(succeeded=False))
        self.inside = True
        return kv.Reply(code=kv.DEADLINE, message="no answer in time: it may have been done")


def test_a_party_that_is_in_without_knowing_finds_it_out():
    barrier = Barrier()
    with FakeServer(barrier.answer) as server, Player(f"{HOST}:{server.port}") as player:
        assert player.ask("enter", "gate", 2) == "in"
