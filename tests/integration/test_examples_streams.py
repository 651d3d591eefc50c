"""The programs of docs/guide/examples that stay: several of each, on three nodes of which the leader is killed."""

import os

import pytest

import examplecase
from kvcluster import HOST, Cluster

pytestmark = pytest.mark.skipif(os.environ.get("KVD_SANITIZE", "") != "",
                                reason="a plain program cannot load a sanitized library")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return examplecase.Programs(tmp_path_factory.mktemp("programs"))


@pytest.mark.parametrize("act", [examplecase.share_configuration, examplecase.chat, examplecase.elect],
                         ids=lambda act: act.__name__)
def test_leader_is_killed(programs, tmp_path, act):
    killed = []
    with Cluster(tmp_path) as cluster:
        def kill_leader():
            killed.append(cluster.leader())
            killed[-1].kill()

        # The leader first: who takes the first endpoint loses it.
        ports = [cluster.leader().ports["client"], *(node.ports["client"] for node in cluster.followers())]
        act(programs, ",".join(f"{HOST}:{port}" for port in ports), kill_leader)
    assert len(killed) == 1
