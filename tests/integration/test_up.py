"""deploy/up and deploy/down as a newcomer uses them, with a directory and ports of their own."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
UP = ROOT / "deploy" / "up"
DOWN = ROOT / "deploy" / "down"
KVCTL = ROOT / "build" / "release" / "client" / "kvctl"
KVD = ROOT / "build" / "release" / "server" / "kvd"


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_base():
    """A client port whose neighbours are free too, below the range of ephemeral ports."""
    while True:
        base = random.randrange(12000, 31000, 100)
        if all(is_free(base + node * 10 + i) for node in range(5) for i in range(3)):
            return base


def run(*command):
    """Without a terminal, in a session of its own, as a cron job or a pipeline would."""
    return subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          start_new_session=True, timeout=280)


class Cluster:
    def __init__(self, directory, nodes):
        self.directory = directory
        self.nodes = nodes
        self.port = free_base()
        self.endpoints = ",".join(f"127.0.0.1:{self.port + 10 * i}" for i in range(nodes))

    def up(self, *options):
        return run(UP, "--no-install", "--data", self.directory, "--port", self.port, "--nodes", self.nodes, *options)

    def down(self, *options):
        return run(DOWN, "--data", self.directory, *options)

    def pids(self):
        return [int((self.directory / f"node{i + 1}" / "pid").read_text()) for i in range(self.nodes)]

    def kvctl(self, *arguments, endpoints=None):
        result = run(KVCTL, "--endpoints", endpoints or self.endpoints, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


@pytest.fixture
def make_cluster(tmp_path):
    clusters = []

    def make(nodes):
        cluster = Cluster(tmp_path / f"run{len(clusters)}", nodes)
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.down("--purge")


def ended(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def kill_and_wait(pid):
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_three_nodes_from_start_to_purge(make_cluster):
    cluster = make_cluster(3)
    result = cluster.up()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "export PATH=" in result.stdout and f"KVCTL_ENDPOINTS={cluster.endpoints}" in result.stdout
    pids = cluster.pids()
    cluster.kvctl("put", "greeting", "hello")
    assert "hello" in cluster.kvctl("get", "greeting")

    # again: harmless
    result = cluster.up()
    assert result.returncode == 0 and "runs already" in result.stdout
    assert cluster.pids() == pids

    # a dead node: the others go on, and only it is started again
    kill_and_wait(pids[0])
    cluster.kvctl("put", "greeting", "still here")
    result = cluster.up()
    assert result.returncode == 0, result.stdout + result.stderr
    assert cluster.pids()[1:] == pids[1:] and cluster.pids()[0] != pids[0]
    assert "still here" in cluster.kvctl("get", "greeting", endpoints=f"127.0.0.1:{cluster.port}")

    # down keeps the data, up brings it back
    pids = cluster.pids()
    result = cluster.down()
    assert result.returncode == 0 and "killing" not in result.stdout, result.stdout
    assert all(ended(pid) for pid in pids)
    assert cluster.down().returncode == 0
    assert cluster.up().returncode == 0
    assert "still here" in cluster.kvctl("get", "greeting")

    assert cluster.down("--purge").returncode == 0
    assert not cluster.directory.exists()


def test_one_node(make_cluster):
    cluster = make_cluster(1)
    result = cluster.up()
    assert result.returncode == 0, result.stdout + result.stderr
    cluster.kvctl("put", "a", "b")
    result = run(UP, "--no-install", "--data", cluster.directory, "--nodes", "3")
    assert result.returncode == 1 and "holds a cluster of 1" in result.stderr


@pytest.mark.parametrize("offset", [0, 11, 22])
def test_taken_port_is_named(make_cluster, offset):
    cluster = make_cluster(3)
    with socket.create_server(("127.0.0.1", cluster.port + offset)):
        result = cluster.up()
    assert result.returncode == 1
    assert f"port {cluster.port + offset}" in result.stderr and "is taken" in result.stderr
    assert not list(cluster.directory.glob("node*/pid"))


def test_down_leaves_a_foreign_process_alone(tmp_path):
    other = subprocess.Popen(["sleep", "600"])
    try:
        (tmp_path / "node1").mkdir()
        (tmp_path / "cluster").write_text("1 4700\n")
        (tmp_path / "node1" / "pid").write_text(f"{other.pid}\n")
        result = run(DOWN, "--data", tmp_path)
        assert result.returncode == 0 and "does not run" in result.stdout
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("arguments, word", [
    (["--nodes", "2"], "want 1, 3 or 5"), (["--port", "x"], "want a number"), (["--port", "80"], "1024"),
    (["--frob"], "--frob"), (["--nodes"], "value")])
def test_wrong_usage(tmp_path, arguments, word):
    result = run(UP, "--data", tmp_path / "run", *arguments)
    assert result.returncode != 0 and word in result.stderr
    assert not (tmp_path / "run").exists()


def test_down_without_a_cluster(tmp_path):
    result = run(DOWN, "--data", tmp_path / "none")
    assert result.returncode == 0 and "no nodes" in result.stdout
