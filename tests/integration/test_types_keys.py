"""What goes for keys of any type: generic commands, limiters, transactions, history; on a cluster of three."""

import json
import os
import re
import subprocess

import pytest

from kvcluster import KVCTL, ROOT
from typecase import Cluster, Types, kv


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def types(cluster, request):
    types = Types(cluster, request.node.name)
    yield types
    types.close()


def test_type_rename_copy_touch(types):
    key, other = types.key("k"), types.key("l")
    assert types.ctl("type", key) == "none\n"
    types.ctl("hset", key, "a", "1", "b", "2")
    assert types.ctl("type", key) == "hash\n"
    past = types.json("type", key)["revision"]
    assert types.ctl("copy", key, other) == "OK\n"
    assert "EXISTS" in types.ctl("copy", key, other, "--nx", code=2)
    assert types.ctl("hgetall", other) == "a\t1\nb\t2\n"
    assert types.ctl("rename", key, types.key("m")) == "OK\n"
    assert types.ctl("type", key) == "none\n"
    assert types.ctl("type", key, "--at", str(past)) == "hash\n"
    assert "NOT_FOUND" in types.ctl("rename", key, other, code=2)
    assert "EXISTS" in types.ctl("rename", "--nx", other, types.key("m"), code=2)
    assert types.ctl("touch", other, key) == "1\n"
    # A copy is a value of its own.
    types.ctl("hset", other, "a", "changed")
    assert types.ctl("hget", types.key("m"), "a") == "1\n"


def test_limiter(types):
    key = types.key("l")
    for left in (2, 1, 0):
        assert types.ctl("limit", key, "--rate", "1/m", "--burst", "3") == f"allowed, {left} remaining\n"
    answer = types.json("limit", key, "--rate", "1/m", "--burst", "3", code=2)
    assert not answer["allowed"] and 0 < answer["retry_after_ms"] <= 60000
    assert types.ctl("type", key) == "limiter\n"
    assert 120000 < types.json("ttl", key)["remaining_ms"] <= 180000
    assert "WRONG_TYPE" in types.ctl("incr", key, code=4)
    bytes_key = key.encode()
    types.refused(kv.INVALID, limiter_acquire=kv.LimiterAcquire(key=bytes_key, rate=0, period_ms=1000, burst=1))
    types.refused(kv.INVALID, limiter_acquire=kv.LimiterAcquire(key=bytes_key, rate=1, period_ms=0, burst=1))
    types.refused(kv.INVALID, limiter_acquire=kv.LimiterAcquire(key=bytes_key, rate=1, period_ms=1000, burst=0))
    types.refused(kv.INVALID, limiter_acquire=kv.LimiterAcquire(key=bytes_key, rate=1, period_ms=1000, burst=1, n=2))


# ---------------------------------------------------------------- transactions


def test_txn_by_kvctl(types):
    a, b = types.key("a"), types.key("b")
    types.ctl("counter", a, "150")
    text = f"if counter {a} >= 100\nthen\nincrby {a} -100\nincrby {b} 100\nhset {types.key('h')} last '{a} to {b}'\n" \
           f"else\nincr {types.key('refused')}\n"
    output = types.ctl("txn", stdin=text)
    assert f"1) incrby {a} -100\n   50\n2) incrby {b} 100\n   100\n" in output
    output = types.ctl("txn", stdin=text, code=2)
    assert f"1) incr {types.key('refused')}\n   1\n" in output
    assert types.ctl("counter", a) == "50\n" and types.ctl("counter", b) == "100\n"
    # All changes of one have one revision.
    rows = types.json("range", "--prefix", types.name)["kvs"]
    by_key = {row["key"]: row["mod_revision"] for row in rows}
    assert by_key[a] == by_key[b] == by_key[types.key("h")] < by_key[types.key("refused")]


def test_txn_sees_what_it_wrote(types):
    key = types.key("l")
    output = json.loads(types.ctl("-o", "json", "txn", stdin=f"rpush {key} a b\nlpop {key}\nllen {key}\nlrange {key} 0 -1\n"))
    assert [list(reply.values())[0] for reply in output["replies"]] == [2, "a", 1, [{"element": "b"}]]


def test_txn_is_all_or_nothing(types):
    key, string = types.key("c"), types.key("s")
    types.ctl("put", string, "text")
    before = types.revision()
    output = types.ctl("txn", stdin=f"incr {key}\nhset {types.key('h')} a 1\nincr {string}\n", code=4)
    assert "WRONG_TYPE" in output and "operation 3" in output
    assert types.ctl("exists", key, types.key("h"), code=2) == f"{key}\tno\n{types.key('h')}\tno\n"
    assert types.revision() == before
    reply = types.call(code=kv.WRONG_TYPE, txn=kv.Txn(then=[
        kv.Request(counter_add=kv.CounterAdd(key=key.encode(), delta=1)),
        kv.Request(counter_add=kv.CounterAdd(key=string.encode(), delta=1))]))
    assert reply.hint.operation == 1


def test_txn_nested(types):
    key = types.key("c")
    text = f"incr {key}\nbegin\nif counter {key} = 1\nincrby {key} 10\nelse\nincrby {key} 100\nend\nincr {key}\n"
    types.ctl("txn", stdin=text)
    assert types.ctl("counter", key) == "12\n"


COMPARES = {
    "exists {h}": True, "absent {h}": False, "absent {none}": True, "exists {none}": False,
    "value {s} = text": True, "value {s} != text": False, "value {s} < u": True, "value {none} != x": False,
    "version {s} = 1": True, "version {none} = 0": True, "version {s} > 1": False,
    "modified {s} > 1": True, "created {none} = 0": True,
    "type {h} = hash": True, "type {none} = none": True, "type {s} = list": False,
    "counter {c} = 7": True, "counter {c} > 7": False, "counter {c} >= 7": True, "counter {none} = 0": False,
    "field {h} a = 1": True, "field {h} a < 1": False, "field {h} none = 1": False,
    "member {t} m": True, "member {t} x": False, "not-member {t} x": True,
    "score {z} m = 2.5": True, "score {z} m > 2": True, "score {z} x >= 0": False,
    "version --prefix {all} >= 1": True, "version --prefix {none} = 7": True, "type --prefix {all} = hash": False,
}


@pytest.mark.parametrize("compare", COMPARES)
def test_compares(cluster, compare):
    types = Types(cluster, "compares")
    names = {name: types.key(name) for name in ("h", "s", "c", "t", "z")}
    if types.ctl("type", names["h"]) == "none\n":
        types.ctl("hset", names["h"], "a", "1")
        types.ctl("put", names["s"], "text")
        types.ctl("counter", names["c"], "7")
        types.ctl("sadd", names["t"], "m")
        types.ctl("zadd", names["z"], "2.5", "m")
    text = compare.format(**names, none=types.key("/none"), all=types.name + "/")
    output = types.ctl("-o", "json", "txn", stdin=f"if {text}\n", code=0 if COMPARES[compare] else 2)
    assert json.loads(output)["succeeded"] is COMPARES[compare]
    types.close()


def test_txn_read_only_takes_no_revision(types):
    types.ctl("put", types.key("a"), "1")
    before = types.revision()
    types.ctl("txn", stdin=f"get {types.key('a')}\nexists {types.key('a')} {types.key('b')}\n")
    assert types.revision() == before


# ---------------------------------------------------------------- the past


def test_history(types):
    key = types.key("k")
    revisions = [types.json("put", key, value)["revision"] for value in ("one", "two")]
    types.ctl("del", key)
    types.ctl("incrby", key, "5")
    lines = [line.split("\t") for line in types.ctl("history", key).splitlines()]
    assert [line[1:] for line in lines] == [["1", "string", "one"], ["2", "string", "two"], ["(deleted)"], ["1", "counter", "5"]]
    assert [int(line[0]) for line in lines[:2]] == revisions
    assert types.ctl("history", key, "--desc", "--limit", "1").split("\t")[2:] == ["counter", "5\n"]
    assert types.ctl("history", key, "--from-rev", str(revisions[1]), "--to-rev", str(revisions[1])).count("\n") == 1
    assert types.ctl("history", types.key("never")) == ""
    assert "FUTURE_REVISION" in types.ctl("history", key, "--to-rev", str(types.revision() + 1), code=4)


def test_compact(types):
    key = types.key("k")
    old = types.json("put", key, "old")["revision"]
    new = types.json("put", key, "new")["revision"]
    assert int(types.ctl("compact", str(new))) == new
    assert "COMPACTED" in types.ctl("get", key, "--at", str(old), code=4)
    assert types.ctl("get", key, "--at", str(new)) == "new\n"
    assert types.ctl("history", key).split("\t")[3] == "new\n"
    assert "OUT_OF_BOUNDS" in types.ctl("compact", str(types.revision() + 1), code=4)


# ---------------------------------------------------------------- the guide

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_guide_as_it_stands(cluster):
    lines = [line for block in BLOCK.findall((ROOT / "docs" / "guide" / "types.md").read_text())
             for line in block.splitlines()]
    assert len(lines) > 30
    environment = {**os.environ, "KVCTL_ENDPOINTS": cluster.endpoints(),
                   "PATH": f"{os.path.dirname(KVCTL)}:{os.environ['PATH']}"}
    # What is not there, or not so, has exit code 2; a wrong line has another.
    script = "\n".join(f"{line} || [ $? = 2 ] || exit 1" for line in lines)
    result = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "player:2\t1720.5" in result.stdout
