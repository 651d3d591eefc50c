"""Small disks that fill up: what grows is refused, all else goes on, and it clears by itself."""

import os
import re
import signal
import subprocess

import pytest

from kvcluster import KVCTL, Cluster, kv, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")

MIB = 1 << 20
SEGMENT = 20 * MIB  # the reserve, too
OPTIONS = ["--wal-segment-size=20MiB"]
# What is left to a node: less than its reserve, or less than half of it.
SHORT, FULL = 15 * MIB, 4 * MIB


class Disk:
    def __init__(self, path, megabytes):
        self.path = path
        self.filler = path / "filler"
        path.mkdir(exist_ok=True)
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)],
                               capture_output=True)
        if mount.returncode != 0:
            pytest.skip("this machine lets nobody mount")

    def free(self):
        return os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize

    def fill(self, leave_bytes):
        """In steps: the node itself takes room for its log meanwhile."""
        with open(self.filler, "ab") as file:
            while (free := self.free()) > leave_bytes:
                size = os.fstat(file.fileno()).st_size
                try:
                    os.posix_fallocate(file.fileno(), size, min(MIB, free - leave_bytes))
                except OSError:
                    return

    def clear(self):
        self.filler.unlink()

    def unmount(self):
        subprocess.run(["umount", "-l", str(self.path)], check=True)


@pytest.fixture
def disks(tmp_path):
    """Makes a cluster whose nodes have a disk each."""
    made = []

    def make(nodes, megabytes, options=()):
        (tmp_path / "cluster").mkdir()
        cluster = Cluster(tmp_path / "cluster", nodes=nodes, options=[*OPTIONS, *options])
        for number, node in cluster.nodes.items():
            node.disk = Disk(tmp_path / f"disk{number}", megabytes)
            made.append(node.disk)
            node.directory = node.disk.path / "data"
        return cluster

    yield make
    for disk in made:
        disk.unmount()


def state(node):
    client = node.client()
    answer = client.call(status=kv.Status()).status
    client.close()
    return answer


def becomes(node, expected):
    wait_until(lambda: state(node).state == expected, f"node {node.number} is {expected}")


def put(node, key, value=b"x", **fields):
    client = node.client()
    reply = client.put(key, value, **fields)
    client.close()
    return reply


def get(node, key, **fields):
    client = node.client()
    reply = client.get(key, **fields)
    client.close()
    return reply


def delete(node, key):
    client = node.client()
    reply = client.call(delete=kv.Delete(keys=[key]), deadline_ms=3000)
    client.close()
    return reply


def fill_state(node, count, size=100_000):
    client = node.client()
    values = {b"key%d" % i: os.urandom(size) for i in range(count)}
    for key, value in values.items():
        assert client.put(key, value).code == kv.OK
    client.close()
    return values


def check_state(node, values):
    client = node.client()
    for key, value in values.items():
        assert client.get(key).get.kv.value == value
    client.close()


def take_snapshot(cluster):
    """By kvctl, which must not succeed; what it says."""
    result = subprocess.run([KVCTL, f"--endpoints={cluster.endpoints()}", "snapshot", "take"], capture_output=True,
                            text=True, timeout=20)
    assert result.returncode == 3
    return result.stdout + result.stderr


def said(node, pattern):
    return re.search(pattern, node.log.read_text())


# ---------------------------------------------------------------- one node


def test_a_full_disk_refuses_growth_and_clears_by_itself(disks):
    with disks(1, 160) as cluster:
        node = cluster.nodes[1]
        client = node.client()
        assert client.put(b"key", b"value").code == kv.OK
        node.disk.fill(SHORT)
        reply = wait_until(lambda: (r := client.put(b"key2", b"x")).code != kv.OK and r, "writes are refused")
        assert reply.code == kv.NO_SPACE and "disk of node 1" in reply.message and str(node.directory) in reply.message
        assert client.call(status=kv.Status()).status.state == "no-space"
        assert client.get(b"key").get.kv.value == b"value"
        assert client.call(delete=kv.Delete(keys=[b"key"])).code == kv.OK
        node.disk.clear()
        wait_until(lambda: client.put(b"key3", b"x").code == kv.OK, "writes go on when there is room")


def test_no_room_for_a_snapshot(disks):
    with disks(1, 200, ["--snapshot-log-size=1GiB"]) as cluster:
        node = cluster.nodes[1]
        values = fill_state(node, 300)
        node.disk.fill(SEGMENT + 5 * MIB)
        # kvctl does not wait for room: it says what, where, and what to do.
        text = take_snapshot(cluster)
        assert re.search(f"no snapshot was taken: cannot \\w+ {node.directory}/snap/\\S+: No space left on device: make "
                         "room there, then take it again", text), text
        # It is not tried at once again.
        client = node.client()
        reply = client.call(snapshot_now=kv.SnapshotNow())
        assert reply.code == kv.BUSY and "the last try has failed just now" in reply.message
        client.close()
        assert list((node.directory / "snap").iterdir()) == []
        # Due by the size of the log it is tried again and again, also after a kill in between.
        node.kill()
        node.start("--snapshot-log-size=1MiB")
        wait_until(lambda: said(node, r'snapshot_failed index=\d+ error="[^"]*snap/[^"]*No space left'), "it says so")
        check_state(node, values)
        node.kill()
        node.start("--snapshot-log-size=1MiB")
        check_state(node, values)
        node.disk.clear()
        wait_until(lambda: state(node).snapshot_index > 0, "it is taken by itself")
        node.kill()
        node.start()
        check_state(node, values)


# ---------------------------------------------------------------- a cluster


def test_a_full_follower(disks):
    with disks(3, 160) as cluster:
        assert put(cluster.leader(), b"before").code == kv.OK
        follower = cluster.followers()[0]
        follower.disk.fill(FULL)
        becomes(follower, "no-space")
        wait_until(lambda: not follower.serves(), "it is not healthy")
        assert said(follower, r"disk_is_full directory=\S+ free_bytes=\d+ reserve_bytes=20971520")
        had = state(follower).last_index
        for number in range(50):
            assert put(cluster.leader(), b"key%d" % number).code == kv.OK
        assert state(follower).last_index == had
        assert get(follower, b"before", serializable=True).code == kv.OK
        # It has no say in an election among those with room, nor is it in their way.
        leader = cluster.leader()
        assert leader is not follower
        follower.disk.clear()
        wait_until(follower.serves, "it serves when there is room")
        assert get(follower, b"key49").get.kv.value == b"x"


def test_a_follower_full_for_so_long_that_the_log_is_gone(disks):
    with disks(3, 200, ["--snapshot-log-size=1MiB"]) as cluster:
        follower = cluster.followers()[0]
        assert subprocess.run([KVCTL, f"--endpoints={cluster.endpoints()}", "config", "set", "history-bytes", "0"],
                              timeout=60).returncode == 0
        follower.disk.fill(FULL)
        becomes(follower, "no-space")
        for _ in range(10):
            values = fill_state(cluster.leader(), 50)
        wait_until(lambda: state(cluster.leader()).snapshot_index > 300, "the leader has snapshots")
        assert follower.is_running() and not said(follower, "snapshot_fetch ")
        follower.disk.clear()
        wait_until(follower.serves, "it serves when there is room")
        check_state(follower, values)


def test_a_full_leader(disks):
    with disks(3, 160) as cluster:
        leader = cluster.leader()
        assert put(leader, b"before").code == kv.OK
        leader.disk.fill(SHORT)
        wait_until(lambda: state(leader).role == "follower", "it hands over")
        assert said(leader, r"hand_over_for_room to=\d")
        other = cluster.leader()
        assert other is not leader and put(other, b"after").code == kv.OK
        # It still has half of its reserve, and takes entries.
        assert state(leader).state == "no-space"
        assert get(leader, b"after").code == kv.OK
        assert put(leader, b"forwarded").code == kv.OK
        leader.disk.fill(FULL)
        wait_until(lambda: said(leader, "disk_is_full"), "it is full")
        assert put(other, b"more").code == kv.OK
        leader.disk.clear()
        wait_until(leader.serves, "it serves when there is room")
        assert get(leader, b"more").code == kv.OK


def test_a_full_majority(disks):
    with disks(3, 160) as cluster:
        for key in (b"first", b"second", b"third"):
            assert put(cluster.leader(), key).code == kv.OK
        leader = cluster.leader()
        full = [node for node in cluster.nodes.values() if node is not leader]
        for node in full:
            node.disk.fill(SHORT)
            becomes(node, "no-space")
        reply = wait_until(lambda: (r := put(leader, b"new")).code != kv.OK and r, "growth is refused")
        assert reply.code == kv.NO_SPACE, reply
        assert delete(leader, b"first").code == kv.OK
        for node in full:
            node.disk.fill(FULL)
            wait_until(lambda n=node: said(n, "disk_is_full"), "it is full")
        # One that was proposed before the leader heard of it waits for its deadline.
        wait_until(lambda: delete(leader, b"second").code == kv.NO_SPACE, "all writes are refused")
        assert get(leader, b"third").code == kv.OK
        assert state(leader).role == "leader" and state(leader).state == "no-space"
        for node in full:
            assert get(node, b"third", serializable=True).code == kv.OK
        full[0].disk.clear()
        wait_until(lambda: put(cluster.leader(), b"new").code == kv.OK, "a majority has room again")
        full[1].disk.clear()
        cluster.wait_serving()
        for node in cluster.nodes.values():
            assert get(node, b"new").code == kv.OK


# ---------------------------------------------------------------- fetching a snapshot


@pytest.fixture
def laggard(disks):
    """A cluster with a follower that is down and needs a snapshot of 30 MB."""
    with disks(3, 260, ["--snapshot-log-size=1MiB"]) as cluster:
        assert subprocess.run([KVCTL, f"--endpoints={cluster.endpoints()}", "config", "set", "history-bytes", "0"],
                              timeout=60).returncode == 0
        follower = cluster.followers()[0]
        follower.kill()
        first_logs = {p for n in cluster.nodes.values() for p in (n.directory / "wal").glob("0*1-*1")}
        assert len(first_logs) == 3

        def more():
            cluster.values = fill_state(cluster.leader(), 300)
            return all(not path.exists() for path in first_logs if follower.directory not in path.parents)

        wait_until(more, "the log is gone")
        yield cluster, follower


def test_no_room_for_a_snapshot_that_is_offered(laggard):
    cluster, follower = laggard
    follower.disk.fill(SEGMENT + 5 * MIB)
    follower.start()
    wait_until(lambda: said(follower, r'snapshot_not_fetched index=\d+ from=\d error="no room in \S+ for a snapshot of \d+'
                                      r' bytes: \d+ are free" next="tried again'), "it says so")
    assert follower.is_running() and put(cluster.leader(), b"more").code == kv.OK
    follower.disk.clear()
    wait_until(lambda: state(follower).snapshot_index > 0, "it is fetched by itself")
    check_state(follower, cluster.values)


def test_a_disk_that_fills_up_in_the_middle_of_a_fetch(laggard):
    cluster, follower = laggard
    follower.start()
    wait_until(lambda: list((follower.directory / "snap").glob("*.part")), "the fetch begins")
    follower.signal(signal.SIGSTOP)
    assert list((follower.directory / "snap").glob("*.part")), "it was stopped too late"
    follower.disk.fill(0)
    follower.signal(signal.SIGCONT)
    wait_until(lambda: said(follower, r'snapshot_not_fetched .* error="[^"]*No space left'), "it says so")
    follower.disk.fill(FULL)
    assert put(cluster.leader(), b"more").code == kv.OK
    follower.kill()
    follower.start()
    assert get(follower, b"key1", serializable=True).code in (kv.NOT_FOUND, kv.OK)
    follower.disk.clear()
    wait_until(lambda: state(follower).snapshot_index > 0, "it is fetched by itself")
    check_state(follower, cluster.values)
    assert get(follower, b"more").code == kv.OK
