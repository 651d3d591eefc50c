"""Watches, subscriptions and a held lease of libkv while nodes end, die and hang: nothing is missed, nothing comes twice."""

import json
import signal
import subprocess

import pytest

from kvcluster import KVCTL, Cluster, wait_until
from programs import compile_program

FOLLOWERS = 16


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compile_program("libkv_follow", tmp_path_factory.mktemp("program"))


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as cluster:
        # A gap would be right after some seconds without a connection: here it would hide what is lost.
        subprocess.run([KVCTL, "--endpoints", cluster.endpoints(), "config", "set", "topic-messages", "1000000"], check=True)
        yield cluster


class Follow:
    """The program at work, by itself the only writer."""

    def __init__(self, program, cluster):
        self.cluster = cluster
        self.process = subprocess.Popen([program, cluster.endpoints(), str(FOLLOWERS), "topics"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        self.wait_progress()

    def revision(self):
        client = self.cluster.leader().client()
        revision = client.get(b"none").revision
        client.close()
        return revision

    def wait_progress(self, writes=500):
        start = self.revision()
        wait_until(lambda: self.revision() > start + writes, "the writer gets on")

    def finish(self):
        output, _ = self.process.communicate("", timeout=120)
        assert self.process.returncode == 0
        result = json.loads(output)
        print(result)
        assert result["failed"] == 0 and result["writes"] > 500, result
        assert [result[name] for name in ("missing", "disorder", "torn", "ended")] == [0] * 4, result
        # The cluster is never away for as long as the lease lives.
        assert result["lost"] == 0 and result["leased"] and result["revoked"], result
        return result


def test_leaders_and_followers_that_die(program, cluster):
    follow = Follow(program, cluster)
    for _ in range(2):
        leader = cluster.leader()
        leader.kill()
        follow.wait_progress()
        leader.start()
        cluster.wait_serving()
        follower = cluster.followers()[0]
        follower.kill()
        follow.wait_progress()
        follower.start()
        cluster.wait_serving()
    follow.finish()


def test_terms(program, cluster):
    follow = Follow(program, cluster)
    for _ in range(3):
        leader = cluster.leader()
        assert leader.terminate() == 0
        follow.wait_progress()
        leader.start()
        cluster.wait_serving()
    assert follow.finish()["doubts"] == 0


def test_leader_that_hangs(program, cluster):
    follow = Follow(program, cluster)
    leader = cluster.leader()
    leader.signal(signal.SIGSTOP)
    try:
        follow.wait_progress()
        follow.finish()
    finally:
        leader.signal(signal.SIGCONT)
