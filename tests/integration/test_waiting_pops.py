"""Pops that wait, through kvctl on real processes: served in their order, at the other nodes, and when the leader is killed
while they wait."""

import subprocess

import pytest

from kvcluster import KVCTL, PATIENCE_S, Cluster, kv, wait_until


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as cluster:
        cluster.wait_serving()
        yield cluster


def start(cluster, *words):
    return subprocess.Popen([KVCTL, *words, "--endpoints", cluster.endpoints()], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def ended(process):
    output, errors = process.communicate(timeout=PATIENCE_S)
    return output, process.returncode, errors


def push(cluster, key, *elements):
    output, code, errors = ended(start(cluster, "rpush", key, *elements))
    assert code == 0, errors
    return output


def test_an_element_goes_to_who_waits(cluster):
    waiting = start(cluster, "blpop", "jobs", "60s")
    wait_until(lambda: push(cluster, "jobs", "one") and waiting.poll() is not None, "the pop's end")
    assert ended(waiting)[:2] == ("one\n", 0)


def test_none_came(cluster):
    output, code, errors = ended(start(cluster, "brpop", "nothing", "300ms"))
    assert (output, code) == ("(nil)\n", 2), errors


def test_a_killed_leader_loses_no_waiter_and_no_element(cluster):
    waiting = [start(cluster, "blpop", "jobs", "100s") for _ in range(6)]
    push(cluster, "other", "x")
    cluster.leader().kill()
    elements = {f"job-{i}" for i in range(12)}
    for element in sorted(elements):
        push(cluster, "jobs", element)
    taken = [ended(process) for process in waiting]
    assert [code for _, code, _ in taken] == [0] * 6, taken
    got = [output.strip() for output, _, _ in taken]
    left = ended(start(cluster, "lrange", "jobs", "0", "-1"))[0].split()
    # Each once: the pushes are exactly-once, too.
    assert sorted(got + left) == sorted(elements)


def test_a_pop_that_waits_needs_a_session(cluster):
    client = cluster.nodes[1].client()
    reply = client.call(list_pop=kv.ListPop(key=b"jobs", block_ms=1000))
    assert reply.code == kv.INVALID and "session" in reply.message
    client.close()
