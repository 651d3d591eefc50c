"""Real processes under load while nodes are killed, stopped and hung: no acknowledged write is missing, no read goes back in
time, and the history of all commands is linearizable. KV_FAULT_SEED replays the choice of faults, KV_FAULT_SECONDS says
how long; in tests/run --long two minutes."""

import signal
import threading
import time

from kvcluster import Cluster, select_pause
from load import Load, seconds, seeded


def one_fault(cluster, rng):
    """Something bad to one node or to all, and its end."""
    what = rng.choice(["kill", "kill", "kill-leader", "terminate", "hang", "kill-all", "kill-two", "mix", "mix"])
    nodes = list(cluster.nodes.values())
    if what == "mix":
        mix(nodes, rng)
        return
    victims = {"kill-all": nodes, "kill-two": rng.sample(nodes, 2), "kill-leader": None}.get(what, [rng.choice(nodes)])
    if victims is None:
        victims = [cluster.leader()]
    print(f"{what} {[node.number for node in victims]}")
    for node in victims:
        if what == "hang":
            node.signal(signal.SIGSTOP)
        elif what == "terminate":
            assert node.terminate() == 0
        else:
            node.kill()
    select_pause(rng.uniform(0.05, 1.2))
    for node in victims:
        if what == "hang":
            node.signal(signal.SIGCONT)
        else:
            node.start()
    select_pause(rng.uniform(0.05, 1.0))


def mix(nodes, rng):
    """Each of some nodes is killed or stopped at a moment of its own, and comes back at one of its own."""
    victims = rng.sample(nodes, rng.randrange(1, len(nodes) + 1))
    plans = [(node, rng.choice(["kill", "hang"]), rng.uniform(0, 0.5), rng.uniform(0.02, 1.2)) for node in victims]
    print("mix " + ", ".join(f"{what} {node.number} at {begin:.3f} for {length:.3f}" for node, what, begin, length in plans))

    def carry_out(node, what, begin, length):
        select_pause(begin)
        if what == "kill":
            node.kill()
        else:
            node.signal(signal.SIGSTOP)
        select_pause(length)
        if what == "kill":
            node.start()
        else:
            node.signal(signal.SIGCONT)

    threads = [threading.Thread(target=carry_out, args=plan) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(node.is_running() for node in nodes)


def test_nothing_acknowledged_is_lost_and_no_read_goes_back(tmp_path):
    rng = seeded()
    with Cluster(tmp_path) as cluster:
        load = Load(cluster)
        end = time.monotonic() + seconds(12, 120)
        while time.monotonic() < end:
            one_fault(cluster, rng)
        load.end(tmp_path)
