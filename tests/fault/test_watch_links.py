"""Watches at a node whose link is cut: who asked to be told hears that there is no leader, who did not waits, and then misses
nothing. The same at a leader, which the others replace meanwhile."""

import pytest

import namespaces
from kvcluster import STREAM_ITEM, kv
from namespaces import NamespaceCluster
from reference import Reference, complaint, read_events
from stream_load import done_at
from swarm import Stream

REASON = namespaces.reason_to_skip()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
CREDIT_BYTES = 1 << 20


class Watcher:
    def __init__(self, node, **fields):
        self.client = node.client()
        self.stream = Stream(kv.Watch(range=kv.KeyRange(special=kv.KeyRange.ALL), credit=CREDIT_BYTES, **fields))
        self.client.send_request(watch=self.stream.wanted)
        self.stream.take(self.client.receive(STREAM_ITEM))

    def read(self, revision):
        while self.stream.end is None and self.stream.told < revision:
            self.stream.take(self.client.receive(STREAM_ITEM))
        self.client.close()
        return self.stream


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_node_that_is_cut_off(tmp_path, who):
    with NamespaceCluster(tmp_path) as cluster:
        node = cluster.leader() if who == "leader" else cluster.followers()[0]
        other = next(n for n in cluster.nodes.values() if n is not node)
        done_at(cluster, put=kv.Put(key=b"before", value=b"x"))
        demanding = Watcher(node, require_leader_ms=500)
        patient = Watcher(node)
        elsewhere = Watcher(other, require_leader_ms=20_000)
        node.cut()
        end = demanding.read(1 << 60).end
        assert end.code == kv.NO_LEADER, end
        for number in range(20):
            revision = done_at(cluster, put=kv.Put(key=b"meanwhile/%d" % number, value=b"x"))
        assert elsewhere.read(revision).end is None
        node.mend()
        stream = patient.read(revision)
        reference = Reference(read_events(other, revision))
        for told in (stream, elsewhere.stream):
            assert complaint(told, reference) is None and len(told.entries) >= 20
        # The judgement can fail.
        stream.entries.pop(7)
        assert complaint(stream, reference)
