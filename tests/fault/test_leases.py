"""Leases while nodes die, hang and are cut off. Of those that libkv keeps alive none ends while it is said to be held; those
that nobody renews end, not before their time and not long behind it; their keys end once. KV_FAULT_SEED replays the choice of
faults."""

import json
import subprocess
import threading
import time

import pytest

import namespaces
from faults import one_fault
from kvcluster import PATIENCE_S, Cluster, kv, select_pause, wait_until
from load import DEADLINE_MS, seconds, seeded
from namespaces import NamespaceCluster, NamespaceNode, run
from programs import compile_program
from reference import read_events
from stream_load import done_at
from swarm import PROGRESS_MS, Link, Stream, Swarm

LEASES = 400
TTL_MS = 6000
# Of those that nobody renews.
LEFT_TTL_MS = range(1000, 3000)
LEFT = kv.KeyRange(start=b"left/", special=kv.KeyRange.PREFIX)
# Behind its time a lease may end by the time that a failover loses, and what a busy machine needs.
LATE_S = 5


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_program("libkv_leases", tmp_path_factory.mktemp("program"))


class Held:
    """The program that holds leases."""

    def __init__(self, program, endpoints, *arguments, leases=LEASES, within=()):
        self.process = subprocess.Popen([*within, program, endpoints, str(leases), str(TTL_MS), *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def finish(self):
        output, _ = self.process.communicate("", timeout=2 * PATIENCE_S)
        assert self.process.returncode == 0
        result = json.loads(output)
        print(result)
        return result


class TimedStream(Stream):
    """Knows when each entry came."""

    def __init__(self, wanted):
        super().__init__(wanted)
        self.times = {}

    def take(self, item):
        super().take(item)
        now = time.monotonic()
        for entry in self.entries[len(self.times):]:
            self.times[entry] = now


class Leaver(threading.Thread):
    """Grants leases, gives each some keys, puts one with a ttl of its own, and leaves them. left: key ->
    [when its grant or its put was asked for, when the key was there, ttl in seconds, may it have been revoked]."""

    def __init__(self, cluster, rng):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.random = rng
        self.left = {}
        self.stop = False
        self.failure = None

    def leave(self, client):
        ttl_ms = self.random.choice(LEFT_TTL_MS)
        asked = time.monotonic()
        granted = client.call(lease_grant=kv.LeaseGrant(ttl_ms=ttl_ms), deadline_ms=DEADLINE_MS)
        assert granted.code == kv.OK
        lease = granted.lease_grant.lease_id
        for number in range(3):
            key = b"left/%d/%d" % (lease, number)
            reply = client.put(key, b"x", lease_id=lease, deadline_ms=DEADLINE_MS)
            assert reply.code == kv.OK
            self.left[key] = [asked, time.monotonic(), ttl_ms / 1000, False]
        own = b"left/own/%d" % lease
        ttl_ms = self.random.choice(LEFT_TTL_MS)
        asked = time.monotonic()
        reply = client.put(own, b"x", ttl_ms=ttl_ms, deadline_ms=DEADLINE_MS)
        assert reply.code == kv.OK
        self.left[own] = [asked, time.monotonic(), ttl_ms / 1000, False]
        if self.random.random() < 0.1:
            for number in range(3):
                self.left[b"left/%d/%d" % (lease, number)][3] = True
            client.call(lease_revoke=kv.LeaseRevoke(lease_id=lease), deadline_ms=DEADLINE_MS)

    def run(self):
        try:
            while not self.stop:
                client = None
                try:
                    client = self.random.choice(list(self.cluster.nodes.values())).client(timeout_s=3)
                    while not self.stop:
                        self.leave(client)
                        select_pause(0.02)
                except (OSError, EOFError, AssertionError):
                    pass  # nobody there, refused, or broken off in the middle
                if client:
                    client.close()
                select_pause(0.005)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            self.failure = error

    def end(self):
        self.stop = True
        self.join(PATIENCE_S)
        assert self.failure is None, self.failure


def wrong_ends(left, events, times):
    """What is wrong with the ends of the keys that were left, by all events and when each was told."""
    found = []
    of_key = {}
    for event in events:
        of_key.setdefault(event[2], []).append(event)
    for key, (asked, _there, ttl_s, revoked) in left.items():
        kinds = [event[1] for event in of_key.get(key, [])]
        if kinds != [kv.EVENT_PUT, kv.EVENT_EXPIRE] and not (revoked and kinds == [kv.EVENT_PUT, kv.EVENT_DELETE]):
            found.append(f"{key}: its events are {kinds}")
        elif kinds[1] == kv.EVENT_EXPIRE and times[of_key[key][1]] < asked + ttl_s:
            found.append(f"{key} ended {times[of_key[key][1]] - asked:.6f} s after its lease was asked for, of {ttl_s} s")
    return found


def all_end(cluster, left):
    """Waits for it, and tells how late the last one was."""
    client = cluster.leader().client()
    faultless = time.monotonic()
    due = max([faultless] + [there + ttl_s for _asked, there, ttl_s, _revoked in left.values()])
    wait_until(lambda: client.call(count=kv.Count(range=LEFT)).count.count == 0, "all keys that were left end",
               patience_s=due - faultless + LATE_S)
    client.close()
    return time.monotonic() - due


def judge_left(cluster, leaver, stream, swarm):
    leaver.end()
    late_s = all_end(cluster, leaver.left)
    revision = done_at(cluster, put=kv.Put(key=b"last", value=b"word"))
    swarm.wait_told(revision)
    events = [event for event in read_events(cluster.leader(), revision) if event[2].startswith(b"left/")]
    assert stream.wrong is None and [e for e in stream.entries if e[0] <= revision] == events
    assert len(leaver.left) > 60, len(leaver.left)
    found = wrong_ends(leaver.left, events, stream.times)
    assert not found, (len(found), found[:5])
    print(f"{len(leaver.left)} keys were left; the last one had gone {late_s:.2f} s after its time")
    # The judgement can fail: one end twice, one missing, one that came too early.
    key, lease = next((key, lease) for key, lease in leaver.left.items() if not lease[3])
    end = next(e for e in events if e[2] == key and e[1] == kv.EVENT_EXPIRE)
    assert wrong_ends({key: lease}, events + [(end[0] + 1, *end[1:])], stream.times)
    assert wrong_ends({key: lease}, [e for e in events if e != end], stream.times)
    assert wrong_ends({key: lease}, events, {**stream.times, end: lease[0] + lease[2] - 0.01})


def play(cluster, held, rng, length_s, fault):
    stream = TimedStream(kv.Watch(range=LEFT, progress_ms=PROGRESS_MS))
    with Swarm(cluster, [Link([stream])], rng) as swarm:
        swarm.wait_told(1)
        leaver = Leaver(cluster, rng)
        leaver.start()
        end = time.monotonic() + length_s
        while time.monotonic() < end:
            fault()
        cluster.wait_serving()
        judge_left(cluster, leaver, stream, swarm)
    result = held.finish()
    assert result["torn"] == 0 and result["twice"] == 0 and result["looks"] > 100, result
    return result


def test_leases_while_nodes_die(program, tmp_path):
    rng = seeded()
    with Cluster(tmp_path) as cluster:
        held = Held(program, cluster.endpoints())
        result = play(cluster, held, rng, seconds(6, 60), lambda: one_fault(cluster, rng))
        # The cluster is never away for as long as a lease lives.
        assert result["lost"] == 0 and result["expired"] == 0, result


def test_a_key_that_goes_is_seen(program, tmp_path):
    """Or the test above would prove nothing."""
    with Cluster(tmp_path, nodes=1) as cluster:
        held = Held(program, cluster.endpoints(), "doctored", leases=5)
        client = cluster.nodes[1].client()
        wait_until(lambda: client.get(b"held/0").code == kv.NOT_FOUND, "the key ends before its lease")
        client.close()
        result = held.finish()
        assert result["torn"] > 0 and result["held"] == 5, result


# ---------------------------------------------------------------- links


class OutsideNode(NamespaceNode):
    """Its clients come from outside, so that a cut link cuts them off, too."""

    def command(self, *options):
        port = self.cluster.client_ports[self.number]
        command = [part for part in super().command(*options) if not part.startswith("--client-listen=")]
        return [*command, f"--client-listen=0.0.0.0:{port}", f"--client-address={self.address}:{port}"]


class OutsideCluster(NamespaceCluster):
    node_class = OutsideNode

    def build(self):
        super().build()
        run("ip", "-n", self.bridge, "addr", "add", "10.99.0.254/24", "dev", "br0")

    def endpoints(self):
        return ",".join(f"{node.address}:{self.client_ports[node.number]}" for node in self.nodes.values())


REASON = namespaces.reason_to_skip()


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_leases_while_links_are_cut(program, tmp_path):
    rng = seeded()

    def cut():
        leader = cluster.leader()
        others = [node for node in cluster.nodes.values() if node is not leader]
        node = rng.choice([leader, *others])
        what = rng.choice(["cut", "cut-leader", "deaf-leader", "mute-leader", "kill-leader"])
        print(f"{what} {(node if what == 'cut' else leader).number}")
        begin, end = {
            "cut": (node.cut, node.mend),
            "cut-leader": (leader.cut, leader.mend),
            "deaf-leader": (lambda: [leader.deafen(o) for o in others], lambda: [leader.deafen(o, False) for o in others]),
            "mute-leader": (lambda: [o.deafen(leader) for o in others], lambda: [o.deafen(leader, False) for o in others]),
            "kill-leader": (leader.kill, leader.start),
        }[what]
        begin()
        select_pause(rng.uniform(0.1, 2))
        end()
        select_pause(rng.uniform(0.05, 0.7))

    with OutsideCluster(tmp_path) as cluster:
        held = Held(program, cluster.endpoints(), within=["ip", "netns", "exec", cluster.bridge])
        # Longer than a lease lives its keeper may well be cut off: then it must say so.
        play(cluster, held, rng, seconds(6, 60), cut)
