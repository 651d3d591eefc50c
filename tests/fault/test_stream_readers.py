"""Clients that do not read their streams, among a thousand that do: nobody else waits for them, the node's memory stays
bounded, and they miss nothing, or are told why they do."""

import contextlib
import random
import resource
import socket

import pytest

import kvctl_process
from kvcluster import CREDIT, KEPT_BYTES, STREAM_ITEM, Cluster, kv, wait_until
from load import seeded
from reference import Reference, complaint, read_events
from swarm import Link, Stream, Swarm

READERS = 1000
DEAF = 10
WRITES = 120
VALUE_BYTES = 100_000
KEY = b"everybody"
MIB = 1 << 20


class Deaf:
    """Watches with all values and as much credit as there can be, and reads when it is told to."""

    def __init__(self, node):
        self.client = node.client()
        # So that what waits is with the node, not in the system's buffers.
        self.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.stream = Stream(kv.Watch(range=kv.KeyRange(start=KEY)))
        self.stream.wanted.credit = 16 * MIB
        self.id = self.client.send_request(watch=self.stream.wanted)
        self.stream.take(self.client.receive(STREAM_ITEM))

    def read(self, revision):
        self.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
        while self.stream.end is None and self.stream.told < revision:
            item = self.client.receive(STREAM_ITEM)
            self.stream.take(item)
            if not item.end:
                self.client.send(CREDIT, kv.Credit(id=self.id, bytes=item.ByteSize()))
        self.client.close()
        return self.stream


@pytest.fixture
def cluster(tmp_path):
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < 3 * READERS:
        pytest.skip(f"only {files} files may be open here")
    with Cluster(tmp_path, nodes=1) as cluster:
        yield cluster


def write(client, rng, times):
    for _ in range(times):
        reply = client.put(KEY, rng.randbytes(VALUE_BYTES))
        assert reply.code == kv.OK
    return reply.revision


def test_clients_that_do_not_read(cluster):
    rng = seeded()
    node = cluster.nodes[1]
    client = node.client()
    links = [Link([Stream(kv.Watch(range=kv.KeyRange(start=KEY), keys_only=True))]) for _ in range(READERS)]
    for link in links:
        link.streams[0].wanted.progress_ms = 1000
    with Swarm(cluster, links, rng) as swarm, contextlib.ExitStack() as stack:
        swarm.wait_told(1)
        deaf = [Deaf(node) for _ in range(DEAF)]
        for one in deaf:
            stack.callback(one.client.close)
        before = node.memory_bytes()
        revision = write(client, rng, WRITES)
        # All others have it, while these have not read a byte.
        swarm.wait_told(revision)
        grown = node.memory_bytes() - before
        print(f"{grown / MIB:.0f} MiB more, for {WRITES * VALUE_BYTES / MIB:.0f} MiB written and {DEAF} that do not read")
        # The history is seen in it; what waits for each is not.
        assert 0.8 * WRITES * VALUE_BYTES < grown < 2 * WRITES * VALUE_BYTES + DEAF * MIB + KEPT_BYTES
        reference = Reference(read_events(node, revision))
        found = [text for text in (complaint(stream, reference) for stream in swarm.streams()) if text]
        assert not found and swarm.losses() == 0, (swarm.losses(), found[:5])
        # Half of them read now, and miss nothing.
        for one in deaf[::2]:
            assert complaint(one.read(revision), reference) is None
        # For the others what they need is gone then: what they are told is right, and at its end stands why.
        kvctl_process.run(cluster.endpoints(), "config", "set", "history-bytes", str(MIB))
        last = write(client, random.Random(1), 20)
        swarm.wait_told(last)
        wait_until(lambda: client.get(KEY, at_revision=revision).code == kv.COMPACTED, "the history has gone")
        for one in deaf[1::2]:
            stream = one.read(last)
            assert stream.end is not None and stream.end.code == kv.COMPACTED, stream.end
            assert stream.told + 1 < stream.end.hint.oldest_revision and stream.told < revision
            stream.end = None
            assert complaint(stream, reference) is None
    client.close()
