"""Faults of real processes that come by chance: nodes are killed, stopped and hung, and the leader is moved."""

import signal
import threading

from kvcluster import kv, select_pause


def one_fault(cluster, rng):
    """Something bad to one node or to all, and its end."""
    what = rng.choice(["kill", "kill", "kill-leader", "terminate", "hang", "kill-all", "kill-two", "move", "mix", "mix"])
    nodes = list(cluster.nodes.values())
    if what == "mix":
        mix(nodes, rng)
        return
    if what == "move":
        move_leader(cluster, rng)
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


def move_leader(cluster, rng):
    """To another node that is asked for; whether it takes place is the cluster's business."""
    leader = cluster.leader()
    target = rng.choice([node for node in cluster.nodes.values() if node is not leader])
    client = leader.client()
    reply = client.call(leader_transfer=kv.LeaderTransfer(node_id=target.number))
    print(f"move {leader.number} to {target.number}: {kv.Code.Name(reply.code)}")
    client.close()
    select_pause(rng.uniform(0.05, 0.5))
