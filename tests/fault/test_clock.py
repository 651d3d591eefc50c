"""Real processes under load while the clock of one node is wrong (libfaketime): its wall clock jumps and runs at another rate,
its monotonic clock runs at another rate, jumps forward, or stands nearly still. Nothing acknowledged is missing, and the history
is linearizable. KV_FAULT_SEED replays the choice of faults."""

import glob
import os
import time

import pytest

from kvcluster import Cluster, Node, kv, select_pause, wait_until
from load import Load, seconds, seeded

FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
pytestmark = [
    pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not here (deploy/deps --test)"),
    pytest.mark.skipif(bool(os.environ.get("KVD_SANITIZE")), reason="a sanitizer wants to be loaded first, as libfaketime does"),
]


class FakedNode(Node):
    """What its clock says is read from a file at every look, and may be changed while it runs."""

    monotonic = False

    def __init__(self, cluster, number):
        super().__init__(cluster, number)
        self.clock = cluster.directory / f"node{number}.clock"
        self.set_clock("+0")

    def set_clock(self, what):
        # In one step: half of it would be another time.
        other = self.clock.with_suffix(".next")
        other.write_text(what + "\n")
        other.rename(self.clock)

    def command(self, *options):
        faked = [f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={self.clock}", "FAKETIME_NO_CACHE=1",
                 f"FAKETIME_DONT_FAKE_MONOTONIC={0 if self.monotonic else 1}"]
        return ["env", *faked, *super().command(*options)]


class FakedCluster(Cluster):
    node_class = FakedNode


def wall_clock(rng):
    """Jumps, also back; other rates."""
    return rng.choice([f"+{rng.randrange(1, 10**6)}", f"-{rng.randrange(1, 10**6)}", f"+0 x{rng.choice([0.1, 0.5, 2, 10])}"])


def monotonic_clock(rng):
    """Never back: the system promises that. What counts is the rate, from here on."""
    return f"+0 x{rng.choice([0.05, 0.3, 0.7, 1.5, 3, 10])}"


@pytest.mark.parametrize("monotonic", [False, True])
def test_a_clock_that_is_wrong(tmp_path, monotonic):
    rng = seeded()
    with FakedCluster(tmp_path) as cluster:
        load = Load(cluster)
        end = time.monotonic() + seconds(4, 60)
        while time.monotonic() < end:
            node = cluster.leader() if rng.random() < 0.3 else rng.choice(list(cluster.nodes.values()))
            what = (monotonic_clock if monotonic else wall_clock)(rng)
            print(f"clock of {node.number}: {what}")
            if monotonic:
                # A rate counts from the start of a process.
                node.monotonic = True
                node.kill()
                node.set_clock(what)
                node.start()
            else:
                node.set_clock(what)
            select_pause(rng.uniform(0.1, 1))
            if rng.random() < 0.5:
                node.kill()
                node.set_clock("+0")
                node.start()
        for node in cluster.nodes.values():
            node.kill()
            node.set_clock("+0")
            node.start()
        load.end(tmp_path)


def test_the_clock_is_faked(tmp_path):
    """Or the test above would prove nothing: a day later, the node's log says so; with a slow clock it has been up for less."""
    with FakedCluster(tmp_path, nodes=1) as cluster:
        node = cluster.nodes[1]
        tomorrow = time.strftime("%Y-%m-%dT", time.gmtime(time.time() + 86400))
        assert tomorrow not in node.log.read_text()
        node.set_clock("+86400")
        assert node.terminate() == 0
        assert f"\n{tomorrow}" in node.log.read_text()
        node.monotonic = True
        node.set_clock("+0 x100")
        began = time.monotonic()
        node.start()
        wait_until(node.serves, "it serves")
        uptime_ms = node.client().call(status=kv.Status()).status.uptime_ms
        assert uptime_ms > 10 * 1000 * (time.monotonic() - began)
