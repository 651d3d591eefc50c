"""What a program sees through libkv while leaders end, die and hang."""

import json
import signal
import subprocess

import kvcluster
import pytest

from kvcluster import Cluster, wait_until
from programs import compile_program

THREADS = 16


class Cluster(kvcluster.Cluster):
    def kvctl(self, *arguments):
        return subprocess.run([kvcluster.KVCTL, "--endpoints", self.endpoints(), *arguments], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_program("libkv_load", tmp_path_factory.mktemp("program"))


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as cluster:
        yield cluster


class Load:
    """The program at work, by itself the only writer."""

    def __init__(self, program, cluster):
        self.cluster = cluster
        self.process = subprocess.Popen([program, cluster.endpoints(), str(THREADS)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.wait_progress()

    def wait_progress(self, changes=2000):
        """Waits until a leader is there and so much has been written since."""
        start = self.revision()
        wait_until(lambda: self.revision() > start + changes, "the load gets on")

    def revision(self):
        client = self.cluster.leader().client()
        revision = client.get(b"load/0").revision
        client.close()
        return revision

    def finish(self):
        output, _ = self.process.communicate("", timeout=60)
        assert self.process.returncode == 0
        result = json.loads(output)
        print(result)
        # No read missed the write before it, each append is there once, and none failed: its client sent it again.
        assert result["lost"] == 0, result
        assert result["appended"] > 1000 and result["wrong"] == 0, result
        assert result["failed"] == 0, result
        return result


def test_term_fails_nothing(program, cluster):
    for _ in range(3):
        load = Load(program, cluster)
        leader = cluster.leader()
        assert leader.terminate() == 0
        load.wait_progress()
        load.finish()
        leader.start()
        cluster.wait_serving()


def test_kill_under_appends_does_each_once(program, cluster):
    load = Load(program, cluster)
    for _ in range(3):
        leader = cluster.leader()
        leader.kill()
        load.wait_progress()
        leader.start()
        cluster.wait_serving()
    load.finish()


def test_follower_that_dies(program, cluster):
    load = Load(program, cluster)
    cluster.followers()[0].kill()
    load.wait_progress()
    load.finish()


def test_leader_that_hangs(program, cluster):
    load = Load(program, cluster)
    leader = cluster.leader()
    leader.signal(signal.SIGSTOP)
    try:
        # What it has is sent elsewhere after a second of silence.
        load.wait_progress()
        result = load.finish()
    finally:
        leader.signal(signal.SIGCONT)
    assert result["gap_ms"] < 10000
