"""Three real processes: writes and reads through each, nodes that die, stop, hang and come back."""

import signal
import time

import pytest

from kvcluster import Cluster, kv, wait_until

OK = kv.OK


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as made:
        yield made


def put_ok(node, key, value):
    client = node.client()
    reply = client.put(key, value)
    client.close()
    assert reply.code == OK, reply
    return reply


def value_of(node, key):
    client = node.client()
    reply = client.get(key)
    client.close()
    assert reply.code == OK, reply
    return reply.get.kv.value


def test_every_node_takes_writes_and_linearizable_reads(cluster):
    for number, node in cluster.nodes.items():
        put_ok(node, b"key", b"from %d" % number)
        for other in cluster.nodes.values():
            assert value_of(other, b"key") == b"from %d" % number


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_leader_goes_and_nothing_is_lost(cluster, how):
    leader = cluster.leader()
    put_ok(leader, b"before", b"1")
    if how == "kill":
        leader.kill()
    else:
        assert leader.terminate() == 0
    others = [node for node in cluster.nodes.values() if node is not leader]
    put_ok(others[0], b"after", b"2")
    assert value_of(others[1], b"before") == b"1"
    leader.start()
    wait_until(leader.serves, "the old leader serves again")
    assert value_of(leader, b"after") == b"2"


def test_a_stopped_and_continued_leader_serves_nothing_stale(cluster):
    leader = cluster.leader()
    put_ok(leader, b"key", b"old")
    waiting = leader.client()
    leader.signal(signal.SIGSTOP)
    waiting.send_request(get=kv.Get(key=b"key"))
    others = [node for node in cluster.nodes.values() if node is not leader]
    wait_until(lambda: any(node.client().call(status=kv.Status()).status.role == "leader" for node in others),
               "another leader")
    put_ok(others[0], b"key", b"new")
    leader.signal(signal.SIGCONT)
    reply = waiting.receive()
    assert reply.code != OK or reply.get.kv.value == b"new"
    assert value_of(leader, b"key") == b"new"


def test_a_follower_that_was_gone_catches_up(cluster):
    away = cluster.followers()[0]
    away.kill()
    client = cluster.leader().client()
    for i in range(300):
        assert client.put(b"key%d" % i, b"x" * 5000).code == OK
    away.start()
    wait_until(away.serves, "the follower serves")
    assert value_of(away, b"key299") == b"x" * 5000


def test_all_killed_at_once_come_back_whole(cluster):
    client = cluster.leader().client()
    for i in range(50):
        assert client.put(b"key%d" % i, b"value%d" % i).code == OK
    for node in cluster.nodes.values():
        node.kill()
    for node in cluster.nodes.values():
        node.start()
    cluster.wait_serving()
    reply = cluster.nodes[2].client().call(range=kv.Range(range=kv.KeyRange(start=b"key", special="PREFIX")))
    assert reply.code == OK and len(reply.range.kvs) == 50
    assert reply.revision == 51


def test_without_a_majority_writes_wait_and_say_so_and_local_reads_go_on(cluster):
    put_ok(cluster.leader(), b"key", b"value")
    survivor = cluster.nodes[1]
    wait_until(lambda: survivor.client().get(b"key", serializable=True).code == OK, "the value is on node 1")
    for number in (2, 3):
        cluster.nodes[number].kill()
    client = survivor.client()
    began = time.monotonic()
    reply = client.put(b"key", b"other", deadline_ms=700)
    assert reply.code in (kv.NO_LEADER, kv.DEADLINE) and time.monotonic() - began >= 0.7
    assert "majority" in reply.message
    assert client.get(b"key", deadline_ms=300).code == kv.NO_LEADER
    reply = client.get(b"key", serializable=True)
    assert reply.code == OK and reply.get.kv.value == b"value"
    assert survivor.http("/health")[0] == 503


def test_leadership_is_handed_over_on_request(cluster):
    leader = cluster.leader()
    target = cluster.followers()[0]
    reply = leader.client().call(leader_transfer=kv.LeaderTransfer(node_id=target.number))
    assert reply.code == OK, reply
    assert cluster.leader() is target


def test_a_large_range_is_streamed_at_one_revision(cluster):
    client = cluster.leader().client()
    for i in range(400):
        assert client.put(b"key%04d" % i, b"v" * 1000).code == OK
    writer = cluster.nodes[1].client()
    client.send_request(range=kv.Range(range=kv.KeyRange(special="ALL"), stream=True, credit=100_000))
    seen, revisions = [], set()
    while True:
        item = client.receive()
        assert isinstance(item, kv.StreamItem) and item.code == OK
        if item.end:
            break
        seen += [pair.key for pair in item.range.kvs]
        revisions.add(item.revision)
        assert writer.put(b"key0399", b"changed").code == OK
        client.send(8, kv.Credit(id=item.id, bytes=item.ByteSize()))
    assert seen == [b"key%04d" % i for i in range(400)]
    assert len(revisions) == 1


def test_pipelined_requests_of_one_connection_apply_in_their_order(cluster):
    client = cluster.followers()[0].client()
    for i in range(500):
        client.send_request(append=kv.Append(key=b"log", value=b"%03d," % i))
    lengths = {client.receive().append.length for _ in range(500)}
    assert len(lengths) == 500
    assert client.get(b"log").get.kv.value == b"".join(b"%03d," % i for i in range(500))


def test_http_port_tells_state_and_metrics(cluster):
    node = cluster.leader()
    assert node.http("/livez") == (200, "alive\n")
    assert node.http("/ready")[0] == 200
    code, text = node.http("/metrics")
    assert code == 200 and "kvd_leader 1\n" in text
    for line in text.splitlines():
        assert line.startswith("# ") or len(line.split()) == 2
    code, text = node.http("/status")
    assert code == 200 and '"role":"leader"' in text
    assert node.http("/nothing")[0] == 404
