"""Snapshots of real nodes: taken, restarted from, fetched by a member that was away, killed in between, damaged."""

import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading

import pytest

from kvcluster import KVCTL, KVD, PATIENCE_S, Cluster, kv, wait_until

LOG_BYTES = 1 << 20
OPTIONS = ["--wal-segment-size=20MiB", f"--snapshot-log-size={LOG_BYTES >> 20}MiB"]
# The log as it is kept: what the older of two snapshots needs, the segment in use, the spare.
WAL_FILES_MAX = 5


def value_of(number, size=100_000):
    """Differs by number, and no compressor makes less of it."""
    head = b"%08d" % number
    return head + os.urandom(size - len(head))


def write(node, numbers, keys=20, size=100_000):
    """Key i % keys gets the value of i. The values by key, and the revision of the last."""
    client = node.client()
    values = {}
    for number in numbers:
        key = b"key%03d" % (number % keys)
        values[key] = value_of(number, size)
        reply = client.put(key, values[key])
        assert reply.code == kv.OK, reply
    client.close()
    return values, reply.revision


def check(node, values, **fields):
    client = node.client()
    # A node that lacks a snapshot answers once it has it, which a failed fetch puts off by ten seconds.
    fields = {"deadline_ms": 60000, **fields}
    for key, value in values.items():
        reply = client.get(key, **fields)
        assert reply.code == kv.OK and reply.get.kv.value == value, (key, reply.code, reply.message)
    client.close()


def status(node):
    client = node.client()
    answer = client.call(status=kv.Status()).status
    client.close()
    return answer


def metric(node, name):
    return float(re.search(rf"^kvd_{name}(?:{{.*}})? (\S+)$", node.http("/metrics")[1], re.MULTILINE)[1])


def snapshots(directory):
    """Complete ones, newest first."""
    names = [path for path in (directory / "snap").iterdir() if re.fullmatch("[0-9a-f]{16}-[0-9a-f]{16}", path.name)]
    return sorted(names, reverse=True)


def index_of(path):
    return int(path.name.split("-")[0], 16)


def wal_files(node):
    return list((node.directory / "wal").iterdir())


def inspect(path):
    return subprocess.run([KVD, "inspect", "snapshot", path], capture_output=True, text=True, timeout=PATIENCE_S)


def kvctl(cluster, *arguments):
    return subprocess.run([KVCTL, f"--endpoints={cluster.endpoints()}", *arguments], capture_output=True, text=True,
                          timeout=PATIENCE_S, stdin=subprocess.DEVNULL)


def keep_little_history(cluster):
    """So that the state is small, and snapshots are taken often."""
    result = kvctl(cluster, "config", "set", "history-bytes", str(1 << 20))
    assert result.returncode == 0, result.stderr


def log_since(node, mark):
    return node.log.read_text()[mark:]


def refused(node):
    """Starts it and waits for its end: exit code and what it said."""
    mark = len(node.log.read_text())
    node.start(wait=False)
    return node.process.wait(PATIENCE_S), log_since(node, mark)


def start_saying(node):
    mark = len(node.log.read_text())
    node.start()
    wait_until(node.serves, f"node {node.number} serves")
    return log_since(node, mark)


def log_is_gone_behind(cluster, follower):
    """The others' logs begin behind what the follower has."""
    last = max(index_of(path) for path in snapshots(follower.directory)) if snapshots(follower.directory) else 0
    for node in cluster.nodes.values():
        if node.is_running() and min(int(p.name.split("-")[0], 16) for p in wal_files(node) if "-" in p.name) <= last + 1:
            return False
    return True


def write_until_the_log_is_gone(cluster, follower, first=1000, keys=20, size=100_000):
    values = {}

    def more():
        nonlocal first
        values.update(write(cluster.leader(), range(first, first + 100), keys, size)[0])
        first += 100
        return log_is_gone_behind(cluster, follower)

    wait_until(more, "the log is gone", 4 * PATIENCE_S)
    return values


class Load(threading.Thread):
    """Writes one key after another until it is told to stop."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.client = node.client()
        self.written = {}
        self.stop = False

    def run(self):
        number = 0
        while not self.stop:
            key, value = b"load%d" % (number % 50), value_of(number, 20_000)
            assert self.client.put(key, value).code == kv.OK
            self.written[key] = value
            number += 1

    def end(self):
        self.stop = True
        self.join(PATIENCE_S)
        return self.written


# ---------------------------------------------------------------- taken, and restarted from


def test_taken_on_every_endpoint(tmp_path):
    with Cluster(tmp_path, options=["--wal-segment-size=20MiB"]) as cluster:
        write(cluster.leader(), range(30))
        for node in cluster.nodes.values():
            check(node, {})
            assert node.client().get(b"key001").code == kv.OK
        result = kvctl(cluster, "snapshot", "take")
        assert result.returncode == 0, result.stderr
        lines = result.stdout.splitlines()
        assert len(lines) == 3
        for node, line in zip(cluster.nodes.values(), lines):
            said = re.fullmatch(r"127\.0\.0\.1:(\d+): snapshot at index (\d+), (\d+) bytes", line)
            assert said and int(said[1]) == node.ports["client"]
            [path] = snapshots(node.directory)
            assert index_of(path) == int(said[2]) and path.stat().st_size == int(said[3])
            told = status(node)
            assert (told.snapshot_index, told.snapshot_bytes) == (int(said[2]), int(said[3]))
            looked = inspect(path)
            assert looked.returncode == 0 and "\n  sound\n" in looked.stdout, looked.stderr
            assert f"state at index {said[2]}, term " in looked.stdout
            assert f"made by node {node.number}" in looked.stdout
            assert looked.stdout.count(", voter") == 3
            for number, port in cluster.peer_ports.items():
                assert f"member {number} at 127.0.0.1:{port}, voter" in looked.stdout
        # Again, with nothing new: the same ones.
        result = kvctl(cluster, "-o", "json", "snapshot", "take")
        assert result.returncode == 0, result.stderr
        for node, told in zip(cluster.nodes.values(), json.loads(result.stdout)["nodes"]):
            [path] = snapshots(node.directory)
            assert told == {"endpoint": f"127.0.0.1:{node.ports['client']}", "index": index_of(path),
                            "bytes": path.stat().st_size}
        cluster.nodes[1].kill()
        result = kvctl(cluster, "snapshot", "take")
        first, *others = result.stdout.splitlines()
        assert result.returncode == 3 and first.startswith(f"127.0.0.1:{cluster.client_ports[1]}: ")
        assert "snapshot at index" not in first and all("snapshot at index" in line for line in others)


def test_the_log_stays_bounded_under_load(tmp_path):
    with Cluster(tmp_path, options=OPTIONS) as cluster:
        keep_little_history(cluster)
        for part in range(6):
            write(cluster.leader(), range(part * 300, part * 300 + 300))
            for node in cluster.nodes.values():
                assert len(wal_files(node)) <= WAL_FILES_MAX, wal_files(node)
                assert len(list((node.directory / "snap").iterdir())) <= 4
        for node in cluster.nodes.values():
            assert metric(node, "snapshots_taken_total") >= 4
            wait_until(lambda n=node: len(snapshots(n.directory)) == 2, "two are kept")


def test_history_survives_restarts(tmp_path):
    with Cluster(tmp_path, options=OPTIONS) as cluster:
        client = cluster.leader().client()
        past = {}
        for number in range(120):
            key = b"k%d" % (number % 5)
            reply = client.put(key, b"%d" % number + bytes(os.urandom(50_000)))
            assert reply.code == kv.OK
            if number % 10 == 9:
                found = client.call(range=kv.Range(range=kv.KeyRange(special=kv.KeyRange.ALL)))
                assert found.code == kv.OK
                past[found.revision] = found.range.kvs
        assert client.call(delete=kv.Delete(keys=[b"k3"])).code == kv.OK
        client.close()

        def history(node):
            asker = node.client()
            answers = {}
            for revision in past:
                reply = asker.call(
                    range=kv.Range(range=kv.KeyRange(special=kv.KeyRange.ALL), at_revision=revision))
                answers[revision] = (reply.code, list(reply.range.kvs))
            asker.close()
            return answers

        before = history(cluster.leader())
        answered = {revision: kvs for revision, (code, kvs) in before.items() if code == kv.OK}
        assert answered and all(kvs == list(past[revision]) for revision, kvs in answered.items())
        wait_until(lambda: all(snapshots(n.directory) for n in cluster.nodes.values()), "snapshots")
        assert kvctl(cluster, "snapshot", "take").returncode == 0
        for node in cluster.nodes.values():
            node.kill()
        for node in cluster.nodes.values():
            node.start()
        cluster.wait_serving()
        for node in cluster.nodes.values():
            assert history(node) == before
            assert node.client().get(b"k3").code == kv.NOT_FOUND


# ---------------------------------------------------------------- fetched


def test_a_laggard_fetches_installs_and_survives_kills(tmp_path):
    with Cluster(tmp_path, options=OPTIONS) as cluster:
        keep_little_history(cluster)
        follower = cluster.followers()[0]
        values, _ = write(cluster.leader(), range(60))
        follower.kill()
        values.update(write_until_the_log_is_gone(cluster, follower))
        mark = len(follower.log.read_text())
        start_saying(follower)
        check(follower, values)
        said = log_since(follower, mark)
        assert re.search(r"snapshot_fetch index=\d+ bytes=\d+ from=\d", said)
        assert re.search(r"snapshot_installed index=\d+ term=\d+ applied=\d+", said)
        assert metric(follower, "snapshots_installed_total") == 1
        told = status(follower)
        assert told.snapshot_index >= index_of(snapshots(follower.directory)[-1])
        assert (told.snapshot_fetch_index, told.snapshot_fetch_bytes) == (0, 0)
        follower.kill()
        said = start_saying(follower)
        assert "snapshot_fetch" not in said
        check(follower, values)


def test_a_laggard_catches_up_under_load(tmp_path):
    with Cluster(tmp_path, options=OPTIONS) as cluster:
        keep_little_history(cluster)
        follower = cluster.followers()[0]
        values, _ = write(cluster.leader(), range(60))
        follower.kill()
        values.update(write_until_the_log_is_gone(cluster, follower))
        load = Load(cluster.leader())
        load.start()
        start_saying(follower)
        follower.kill()
        start_saying(follower)
        assert load.is_alive()
        check(follower, values)
        check(follower, load.end())


class Caught:
    """A cluster whose follower was stopped in the middle of its fetch, by stopping who sends."""

    def __init__(self, cluster):
        keep_little_history(cluster)
        self.follower = cluster.followers()[0]
        self.values, _ = write(cluster.leader(), range(60))
        self.follower.kill()
        self.values.update(write_until_the_log_is_gone(cluster, self.follower, keys=400, size=150_000))
        self.leader = cluster.leader()
        self.follower.start()
        wait_until(lambda: list((self.follower.directory / "snap").glob("*.part")), "the fetch begins")
        self.leader.signal(signal.SIGSTOP)
        assert list((self.follower.directory / "snap").glob("*.part")), "it was stopped too late"
        # It lacks more than it knows of.
        assert self.follower.http("/health")[0] == 503


def test_killed_in_the_middle_of_the_fetch(tmp_path):
    with Cluster(tmp_path, options=OPTIONS) as cluster:
        caught = Caught(cluster)
        caught.follower.kill()
        caught.leader.signal(signal.SIGCONT)
        start_saying(caught.follower)
        check(caught.follower, caught.values)
        assert metric(caught.follower, "snapshots_installed_total") >= 1
        assert not list((caught.follower.directory / "snap").glob("*.part"))


def test_the_leader_dies_in_the_middle_of_the_fetch(tmp_path):
    with Cluster(tmp_path, options=OPTIONS) as cluster:
        caught = Caught(cluster)
        caught.leader.kill()
        wait_until(caught.follower.serves, "it serves with the other one")
        check(caught.follower, caught.values)
        start_saying(caught.leader)
        check(caught.leader, caught.values)


# ---------------------------------------------------------------- damaged


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    os.truncate(path, path.stat().st_size * 2 // 3)


def rename(path):
    """As if it were of a later index."""
    index, term = path.name.split("-")
    path.rename(path.with_name(f"{int(index, 16) + 1:016x}-{term}"))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A one-node cluster that was stopped, with two snapshots and a log that does not begin at 1; its last values."""
    with Cluster(tmp_path_factory.mktemp("original"), nodes=1, options=OPTIONS) as cluster:
        keep_little_history(cluster)
        node = cluster.nodes[1]
        values = {}
        numbers = itertools.count(0, 100)

        def more():
            begin = next(numbers)
            values.update(write(node, range(begin, begin + 100))[0])
            first = min(int(p.name.split("-")[0], 16) for p in wal_files(node) if "-" in p.name)
            return len(snapshots(node.directory)) == 2 and first > 1

        wait_until(more, "two snapshots, and less log")
        assert node.terminate() == 0
    return node.directory, values


@pytest.fixture
def copied(original, tmp_path):
    """A cluster of one node on a copy, not started."""
    directory, values = original
    cluster = Cluster(tmp_path, nodes=1, options=OPTIONS)
    node = cluster.nodes[1]
    node.log.touch()
    shutil.copytree(directory, node.directory)
    # Its peer port is in the log's configuration, but nobody needs it there.
    yield node, dict(values)
    if node.is_running():
        node.kill()


@pytest.mark.parametrize("damage", [flip, cut, rename])
def test_a_damaged_newest_one(copied, damage):
    node, values = copied
    newest, older = snapshots(node.directory)
    damage(newest)
    damaged = snapshots(node.directory)[0]  # it may have another name now
    assert inspect(damaged).returncode == 5
    assert inspect(older).returncode == 0
    said = start_saying(node)
    assert re.search(r'snapshot_refused index=\d+ error="the snapshot is damaged: .* next="an older one is tried"', said)
    assert damaged.name in said
    check(node, values)
    # It goes on: new ones are written, and in the end no damaged one is left.
    values.update(write(node, range(5000, 5100))[0])
    wait_until(lambda: metric(node, "snapshots_taken_total") >= 2, "new snapshots")
    node.kill()
    assert "snapshot_refused" not in start_saying(node)
    check(node, values)


@pytest.mark.parametrize("damage", [flip, cut])
def test_the_leaders_newest_one_has_rotted(tmp_path, damage):
    with Cluster(tmp_path, options=OPTIONS) as cluster:
        keep_little_history(cluster)
        follower = cluster.followers()[0]
        values, _ = write(cluster.leader(), range(60))
        follower.kill()
        values.update(write_until_the_log_is_gone(cluster, follower))
        assert kvctl(cluster, "snapshot", "take").returncode == 3  # one is down
        leader = cluster.leader()
        rotten = snapshots(leader.directory)[0]
        damage(rotten)
        # So that the next one has another index, and is fetched as soon as it is offered.
        values.update(write(leader, range(1))[0])
        start_saying(follower)
        check(follower, values)
        assert re.search(rf'snapshot_dropped index={index_of(rotten)} error="[^"]*snap/{rotten.name}[^"]*" '
                         r'next="another one is taken; check the disk"', leader.log.read_text())
        assert not rotten.exists() and inspect(leader.directory).returncode == 0
        # Nor is it in the way of the next start.
        leader.kill()
        assert "snapshot_refused" not in start_saying(leader)
        check(leader, values)


@pytest.mark.parametrize("damage", [flip, cut, pathlib.Path.unlink])
def test_both_damaged(copied, damage):
    node, _ = copied
    for path in snapshots(node.directory):
        damage(path)
    names = sorted(path.name for path in node.directory.rglob("*"))
    for _ in range(2):
        code, said = refused(node)
        assert code == 5
        assert re.search(r"the log in \S+ begins at index \d+, and there is no sound snapshot of what was before: "
                         r"replace this member", said), said
        assert str(node.directory) in said
        if damage is not pathlib.Path.unlink:
            assert said.count("snapshot_refused") == 2
    assert sorted(path.name for path in node.directory.rglob("*")) == names


def test_one_of_another_cluster(copied, tmp_path):
    node, values = copied
    (tmp_path / "other").mkdir()
    with Cluster(tmp_path / "other", nodes=1, options=["--cluster=other"]) as other:
        write(other.nodes[1], range(5))
        assert kvctl(other, "snapshot", "take").returncode == 0
        [strange] = snapshots(other.nodes[1].directory)
    newest = snapshots(node.directory)[0]
    term = newest.name.split("-")[1]
    as_newest = newest.with_name(f"{index_of(newest) + 1:016x}-{term}")
    shutil.copy(strange, as_newest)
    looked = inspect(node.directory)
    assert looked.returncode in (4, 5) and as_newest.name in looked.stderr + looked.stdout
    said = start_saying(node)
    assert re.search(rf'snapshot_refused index=\d+ error="the snapshot \S*{as_newest.name} is of cluster \d+, this node of '
                     r'cluster \d+" next="an older one is tried"', said), said
    check(node, values)
    # Without what it stands in for there is nothing to start from.
    assert node.terminate() == 0
    for path in snapshots(node.directory):
        if path != as_newest:
            path.unlink()
    code, said = refused(node)
    assert code == 4 and f"{as_newest.name} is of cluster" in said.splitlines()[-1], said


def test_leftovers_are_no_harm(copied):
    node, values = copied
    newest = snapshots(node.directory)[0]
    snap = newest.parent
    half = newest.read_bytes()[: newest.stat().st_size // 2]
    left = [snap / (newest.name + ".tmp"), snap / f"{2**40:016x}-{7:016x}.tmp", snap / (newest.name + ".part"),
            snap / f"{2**40:016x}-{7:016x}.part"]
    for path in left:
        path.write_bytes(half)
    (snap / "notes.txt").write_text("an operator's")
    said = start_saying(node)
    assert "snapshot_refused" not in said
    check(node, values)
    assert not any(path.exists() for path in left[:2])
    assert (snap / "notes.txt").exists()
