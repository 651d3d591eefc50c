"""Real processes under load while clocks of nodes are wrong: the wall clock jumps, back as well; the monotonic clock jumps
forward and runs at another rate. Nothing acknowledged is missing, and the history is linearizable. KV_FAULT_SEED
replays the choice of faults."""

import os
import time

import pytest

from kvcluster import kv, select_pause, wait_until
from load import Load, seconds, seeded
from wrong_clocks import WrongCluster

pytestmark = pytest.mark.skipif(bool(os.environ.get("KVD_SANITIZE")),
                                reason="a sanitizer wants to be loaded first, as the wrong clock does")


def test_clocks_that_are_wrong(tmp_path):
    rng = seeded()
    with WrongCluster(tmp_path) as cluster:
        load = Load(cluster)
        end = time.monotonic() + seconds(8, 60)
        while time.monotonic() < end:
            node = cluster.leader() if rng.random() < 0.3 else rng.choice(list(cluster.nodes.values()))
            wrong = rng.choice([
                dict(wall_s=rng.randrange(-10**6, 10**6)),
                dict(ahead_s=rng.choice([0.1, 0.4, 2, 100])),
                dict(rate=rng.choice([0.05, 0.3, 0.8, 1.2, 3, 10])),
                dict(rate=rng.choice([0.5, 2]), ahead_s=1, wall_s=-1000),
            ])
            print(f"clock of {node.number}: {wrong}")
            node.set_clock(**wrong)
            select_pause(rng.uniform(0.1, 1.5))
            if rng.random() < 0.3:
                node.kill()
                node.start()
            if rng.random() < 0.7:
                node.set_clock()
        for node in cluster.nodes.values():
            node.set_clock()
        load.end(tmp_path)


def test_the_clocks_are_wrong(tmp_path):
    """Or the test above would prove nothing."""

    with WrongCluster(tmp_path, nodes=1) as cluster:
        node = cluster.nodes[1]
        client = node.client()

        def uptime_s():
            return client.call(status=kv.Status()).status.uptime_ms / 1000

        tomorrow = time.strftime("\n%Y-%m-%dT", time.gmtime(time.time() + 86400))
        assert tomorrow not in node.log.read_text() and uptime_s() < 1000
        node.set_clock(wall_s=86400, ahead_s=1000)
        assert 1000 < uptime_s() < 2000
        node.set_clock(rate=1000)
        wait_until(lambda: uptime_s() > 2000, "its time flies")
        node.set_clock(wall_s=86400)
        wait_until(node.serves, "it serves")
        assert node.terminate() == 0 and tomorrow in node.log.read_text()
