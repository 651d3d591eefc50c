"""Feature flags: kvctl's words, and libkv's watched copy, also when the cluster is away."""

import json
import subprocess

import pytest

from kvcluster import HOST, KVCTL, PATIENCE_S, Cluster, wait_until
from kvctl_process import run
from kvd_process import Kvd
from player import Player


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory):
    with Kvd(tmp_path_factory.mktemp("data")) as server:
        endpoints = f"{HOST}:{server.client_port}"
        run(endpoints, "-t", "60s", "put", "first", "x")
        yield endpoints


def test_words(endpoints):
    assert run(endpoints, "flag", "set", "a", "on", "20%") == "a\ton 20%\n"
    assert run(endpoints, "flag", "off", "a") == "a\toff 20%\n"
    assert run(endpoints, "flag", "on", "a") == "a\ton 20%\n"
    assert run(endpoints, "flag", "rollout", "a", "12.5") == "a\ton 12.5%\n"
    assert run(endpoints, "flag", "rollout", "new", "1%") == "new\ton 1%\n"
    assert run(endpoints, "flag", "on", "b") == "b\ton\n"
    assert run(endpoints, "get", "flags/a") == "on 12.5%\n"
    assert run(endpoints, "flag", "list") == "a\ton 12.5%\nb\ton\nnew\ton 1%\n"
    assert json.loads(run(endpoints, "flag", "list", "--json")) == [
        {"name": "a", "enabled": True, "rollout": 12.5}, {"name": "b", "enabled": True, "rollout": 100},
        {"name": "new", "enabled": True, "rollout": 1}]
    run(endpoints, "flag", "set", "b", "off", "--prefix", "other/")
    assert run(endpoints, "flag", "list", "--prefix", "other/") == "b\toff\n"


def test_check(endpoints):
    run(endpoints, "flag", "set", "new-checkout", "on", "54.95%")
    assert run(endpoints, "flag", "check", "new-checkout", "--for", "user-1", code=2) == "off\n"
    run(endpoints, "flag", "rollout", "new-checkout", "54.96%")
    assert run(endpoints, "flag", "check", "new-checkout", "--for", "user-1") == "on\n"
    assert run(endpoints, "flag", "check", "not-there", code=2) == "off\n"
    assert json.loads(run(endpoints, "flag", "check", "not-there", "--json", code=2)) == {"on": False, "exists": False}


def test_what_is_no_flag(endpoints):
    run(endpoints, "put", "flags/odd", "maybe")
    for words in (("on", "odd"), ("check", "odd")):
        result = subprocess.run([KVCTL, "-e", endpoints, "flag", *words], capture_output=True, text=True,
                                timeout=PATIENCE_S)
        assert result.returncode == 4 and "holds no flag's value" in result.stderr
    result = subprocess.run([KVCTL, "-e", endpoints, "flag", "list"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert "flags/odd holds no flag's value" in result.stderr and "odd" not in result.stdout
    run(endpoints, "flag", "set", "odd", "on")
    run(endpoints, "del", "flags/odd")


WRONG = {
    "flag rollout a 101": "PERCENT is 0 to 100",
    "flag rollout a 1.234": "PERCENT is 0 to 100",
    "flag set a maybe": "wants on or off",
    "flag set a on x%": "PERCENT is 0 to 100",
    "flag on": "usage: kvctl flag on NAME",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words(endpoints, words):
    result = subprocess.run([KVCTL, "-e", endpoints, *words.split()], capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 1 and WRONG[words] in result.stderr and result.stdout == ""


def test_a_rollout_reaches_programs(endpoints):
    ids = [f"user-{i}" for i in range(200)]
    with Player(endpoints) as player:
        run(endpoints, "flag", "set", "roll", "on", "10%")
        assert player.ask("flags", "flags/") == "opened"

        def on():
            return {i for i in ids if player.ask("check", "roll", i) == "on"}

        at10 = on()
        assert 2 <= len(at10) <= 50
        # The tool and the library agree.
        some = sorted(at10)[0]
        assert run(endpoints, "flag", "check", "roll", "--for", some) == "on\n"
        run(endpoints, "flag", "rollout", "roll", "50%")
        at50 = wait_until(lambda: on() - at10 and on(), "more have it")
        assert at10 < at50 < set(ids)
        run(endpoints, "flag", "off", "roll")
        wait_until(lambda: not on(), "nobody has it")
        run(endpoints, "flag", "set", "roll", "on")
        wait_until(lambda: on() == set(ids), "all have it")
        run(endpoints, "del", "flags/roll")
        wait_until(lambda: not on(), "the flag is gone")
        # It is known to be complete all the time.
        wait_until(lambda: int(player.ask("age")) < 900, "the copy is young")


def test_the_last_copy_answers_when_the_cluster_is_away(tmp_path):
    with Cluster(tmp_path, nodes=1) as cluster, Player(cluster.endpoints()) as player:
        endpoints = cluster.endpoints()
        run(endpoints, "-t", "60s", "flag", "set", "kept", "on")
        assert player.ask("flags", "flags/") == "opened"
        assert player.ask("check", "kept", "x") == "on"
        cluster.nodes[1].kill()
        wait_until(lambda: int(player.ask("age")) > 2500, "the copy grows old")
        assert player.ask("check", "kept", "x") == "on"
        cluster.nodes[1].start()
        cluster.wait_serving()
        run(endpoints, "-t", "60s", "flag", "off", "kept")
        wait_until(lambda: player.ask("check", "kept", "x") == "off", "it follows again")
        wait_until(lambda: int(player.ask("age")) < 2500, "the copy is young again")


def test_a_copy_grows_old_without_a_majority(tmp_path):
    """The node that is left still speaks, and knows nothing new."""
    with Cluster(tmp_path) as cluster, Player(cluster.endpoints()) as player:
        run(cluster.endpoints(), "-t", "60s", "flag", "set", "kept", "on")
        assert player.ask("flags", "flags/") == "opened"
        wait_until(lambda: player.ask("check", "kept", "x") == "on", "the flag is there")
        for node in list(cluster.nodes.values())[1:]:
            node.kill()
        wait_until(lambda: int(player.ask("age")) > 8000, "the copy grows old")
        assert player.ask("check", "kept", "x") == "on"
        for node in list(cluster.nodes.values())[1:]:
            node.start()
        cluster.wait_serving()
        run(cluster.endpoints(), "-t", "60s", "flag", "off", "kept")
        wait_until(lambda: player.ask("check", "kept", "x") == "off", "it follows again")
        wait_until(lambda: int(player.ask("age")) < 2500, "the copy is young again")
