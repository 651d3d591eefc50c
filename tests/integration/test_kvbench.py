"""kvbench: each of its loads runs against three nodes and prints what its help promises. Nothing is timed."""

import json
import os
import subprocess

import pytest

from kvcluster import HOST, PATIENCE_S, ROOT, Cluster

KVBENCH = os.environ.get("KVBENCH_BIN", str(ROOT / "build/dev/client/kvbench"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def bench(cluster, *options, code=0):
    endpoints = ",".join(f"{HOST}:{node.ports['client']}" for node in cluster.nodes.values())
    result = subprocess.run([KVBENCH, f"--endpoints={endpoints}", "--connections=4", "--seconds=1", "--warmup=0", *options],
                            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10 * PATIENCE_S)
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else result.stderr


def bench_json(cluster, *options):
    return json.loads(bench(cluster, "--json", *options))


@pytest.mark.parametrize("operation", ["put", "get", "mix", "counter-add", "hash-set", "zset-add", "zset-rank", "leaderboard",
                                       "limiter", "list-push", "list-pop", "list"])
def test_operation(cluster, operation):
    result = bench_json(cluster, f"--op={operation}", "--count=200", "--keys=50", "--pipeline=4", f"--prefix={operation}")
    assert result["operations"] == 200
    assert result["failed"] == 0
    assert 0 < result["p50_us"] <= result["p99_us"] <= result["max_us"]


def test_fill_puts_each_key_once(cluster):
    bench(cluster, "--op=put", "--sequential", "--count=300", "--keys=300", "--prefix=fill")
    client = next(iter(cluster.nodes.values())).client()
    keys = client.call(range={"range": {"start": b"fill", "special": "PREFIX"}}).range.kvs
    assert [kv.key for kv in keys] == [f"fill{i:012}".encode() for i in range(300)]
    assert {kv.version for kv in keys} == {1}


def test_open_loop(cluster):
    assert bench_json(cluster, "--rate=500", "--count=100")["operations"] == 100


def test_writes_in_sessions(cluster):
    result = bench_json(cluster, "--session", "--op=counter-add", "--keys=1", "--prefix=once", "--count=2000", "--pipeline=16")
    assert (result["operations"], result["failed"]) == (2000, 0)
    client = next(iter(cluster.nodes.values())).client()
    assert client.call(counter_get={"key": b"once000000000000"}).counter_get.value == 2000


def test_text(cluster):
    assert "latency us p50" in bench(cluster, "--count=10")


def test_help_names_every_load():
    text = subprocess.run([KVBENCH, "--help"], capture_output=True, text=True, check=True).stdout
    for name in ("put", "watch", "subscribe", "watch-idle", "watch-catch-up", "lease-grant", "lease-renew", "--session"):
        assert f"  {name} " in text


@pytest.mark.parametrize("options, message", [
    (["--op=nothing"], 'unknown operation "nothing"'),
    (["--target=redis", "--op=watch"], 'redis has no streams for "watch"'),
    (["--target=redis", "--session"], "redis has no sessions"),
    (["--target=redis", "--op=lease-grant"], 'redis cannot be loaded with "lease-grant"'),
    (["--watchers=0"], '"0" is no number from 1 to'),
    (["--batch=5000"], '"5000" is no number from 1 to 4096'),
    (["--endpoints=nowhere"], '"nowhere" is no endpoint: want host:port'),
    (["more"], 'unexpected argument "more"'),
])
def test_refused(cluster, options, message):
    assert message in bench(cluster, *options, code=1)


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("operation", ["watch", "subscribe"])
@pytest.mark.parametrize("options", [["--pipeline=8"], ["--rate=200", "--pipeline=64"], ["--spread", "--value-size=0"]])
def test_fan_out_tells_each_watcher_of_each_write(cluster, operation, options):
    result = bench_json(cluster, f"--op={operation}", "--watchers=30", *options)
    assert (result["watchers"], result["connections"], result["missing"]) == (30, 4, 0)
    assert result["writes"] > 0
    assert result["events"] >= 30 * (result["writes"] - 64)
    assert result["after_commit_p50_us"] <= result["p50_us"]


def test_idle_watchers_say_that_they_watch_and_go_when_stdin_ends(cluster):
    result = bench_json(cluster, "--op=watch-idle", "--watchers=3000", "--seconds=3600")
    assert (result["watchers"], result["connections"]) == (3000, 4)


def test_catch_up_reads_the_past_again(cluster):
    bench(cluster, "--op=put", "--sequential", "--count=3000", "--keys=3000", "--prefix=past", "--pipeline=16")
    result = bench_json(cluster, "--op=watch-catch-up", "--prefix=past", "--count=3000")
    assert result["events"] == 3000 * result["times"] > 0


def test_a_compacted_past_is_an_error(cluster):
    client = next(iter(cluster.nodes.values())).client()
    client.put(b"a", b"b")
    client.call(compact={"revision": client.put(b"a", b"c").revision})
    assert "COMPACTED" in bench(cluster, "--op=watch-catch-up", "--count=1", code=1)


def test_leases_are_granted_and_renewed(cluster):
    granted = bench_json(cluster, "--op=lease-grant", "--keys=500", "--count=500", "--sequential", "--ttl-ms=60000")
    assert (granted["operations"], granted["failed"]) == (500, 0)
    renewed = bench_json(cluster, "--op=lease-renew", "--keys=500", "--count=10", "--sequential", "--batch=100")
    assert (renewed["operations"], renewed["failed"]) == (10, 0)
    client = next(iter(cluster.nodes.values())).client()
    assert list(client.call(lease_list={"limit": 1000}).lease_list.lease_ids) == list(range(1, 501))


def test_keys_with_a_time(cluster):
    client = next(iter(cluster.nodes.values())).client()
    bench(cluster, "--op=put", "--sequential", "--count=20", "--keys=20", "--prefix=ttl", "--ttl-ms=3600000")
    assert 3000000 < client.call(ttl={"key": b"ttl000000000007"}).ttl.remaining_ms <= 3600000
    bench(cluster, "--op=put", "--sequential", "--count=20", "--keys=20", "--prefix=all", "--expire-in=7200")
    assert 3600000 < client.call(ttl={"key": b"all000000000007"}).ttl.remaining_ms <= 7201000
