"""Real processes under load while nodes are killed, stopped and hung: no acknowledged write is missing, no read goes back in
time, and the history of all commands is linearizable. KV_FAULT_SEED replays the choice of faults, KV_FAULT_SECONDS says
how long; in tests/run --long two minutes."""

import time

from faults import one_fault
from kvcluster import Cluster
from load import Load, seconds, seeded


def test_nothing_acknowledged_is_lost_and_no_read_goes_back(tmp_path):
    rng = seeded()
    with Cluster(tmp_path) as cluster:
        load = Load(cluster)
        end = time.monotonic() + seconds(12, 120)
        while time.monotonic() < end:
            one_fault(cluster, rng)
        load.end(tmp_path)
