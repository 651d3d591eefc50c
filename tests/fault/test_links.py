"""Real processes under load, in network namespaces whose links are cut both ways and one way, lose their routes, and are
slowed: nothing acknowledged is missing, and the history is linearizable. KV_FAULT_SEED replays the choice of faults."""

import time

import pytest

import namespaces
from kvcluster import kv, select_pause, wait_until
from load import Load, seconds, seeded
from namespaces import NamespaceCluster

REASON = namespaces.reason_to_skip()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def one_fault(nodes, rng):
    what = rng.choice(["cut", "cut-leader", "deaf", "deaf-leader", "mute-leader", "pair", "route", "slow"])
    leader = rng.choice(nodes) if "leader" not in what else next(iter(nodes)).cluster.leader()
    node = leader
    others = [n for n in nodes if n is not node]
    print(f"{what} {node.number}")
    if what.startswith("cut"):
        begin, end = node.cut, node.mend
    elif what == "slow":
        begin, end = node.slow, node.quicken
    else:
        changes = {
            # It hears nobody, though all hear it; the other way round; two do not see each other, the third sees both.
            "deaf": lambda yes: [node.deafen(other, yes) for other in others],
            "deaf-leader": lambda yes: [node.deafen(other, yes) for other in others],
            "mute-leader": lambda yes: [other.deafen(node, yes) for other in others],
            "pair": lambda yes: (node.deafen(others[0], yes), others[0].deafen(node, yes)),
            "route": lambda yes: node.lose_route(others[0], yes),
        }
        begin, end = (lambda: changes[what](True)), (lambda: changes[what](False))
    begin()
    select_pause(rng.uniform(0.1, 2))
    end()
    select_pause(rng.uniform(0.05, 0.7))


def test_links_that_come_and_go(tmp_path):
    rng = seeded()
    with NamespaceCluster(tmp_path) as cluster:
        load = Load(cluster)
        end = time.monotonic() + seconds(9, 120)
        while time.monotonic() < end:
            one_fault(list(cluster.nodes.values()), rng)
        load.end(tmp_path)


def get(node, **fields):
    client = node.client()
    reply = client.get(b"key0", **fields)
    client.close()
    return reply


def test_who_is_cut_off_neither_leads_nor_serves(tmp_path):
    """The faults do what they say, or the test above would prove nothing."""
    with NamespaceCluster(tmp_path) as cluster:
        load = Load(cluster)
        for begin, end in [
                (lambda n, _others: n.cut(), lambda n, _others: n.mend()),
                (lambda n, others: [n.deafen(o) for o in others], lambda n, others: [n.deafen(o, False) for o in others]),
                (lambda n, others: [o.deafen(n) for o in others], lambda n, others: [o.deafen(n, False) for o in others])]:
            leader = cluster.leader()
            others = [node for node in cluster.nodes.values() if node is not leader]
            begin(leader, others)
            wait_until(lambda n=leader: not n.serves(), "the cut leader does not serve")
            assert get(leader, deadline_ms=300).code in (kv.DEADLINE, kv.NO_LEADER)
            assert get(leader, serializable=True).code == kv.OK
            wait_until(lambda o=others: any(node.serves() for node in o), "the others serve")
            before = load.acknowledged()
            wait_until(lambda n=before: load.acknowledged() > n + 50, "the others take writes")
            end(leader, others)
            cluster.wait_serving()
        load.end(tmp_path)
