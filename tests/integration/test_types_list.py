"""Lists: each command through kvctl and through protobuf alone, on a cluster of three."""

import subprocess

import pytest

from kvcluster import KVCTL
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


def test_list_by_kvctl(types):
    key = types.key("l")
    assert types.ctl("rpush", key, "b", "c") == "2\n"
    assert types.ctl("lpush", key, "a", "z") == "4\n"
    assert types.ctl("lrange", key, "0", "-1") == "z\na\nb\nc\n"
    past = types.json("lrange", key, "0", "-1")["revision"]
    assert types.ctl("lindex", key, "-1") == "c\n"
    assert "OUT_OF_BOUNDS" in types.ctl("lindex", key, "4", code=4)
    assert types.ctl("lset", key, "1", "A") == "OK\n"
    assert "OUT_OF_BOUNDS" in types.ctl("lset", key, "-5", "x", code=4)
    assert types.ctl("linsert", key, "before", "b", "m") == "5\n"
    assert types.ctl("linsert", key, "after", "c", "n") == "6\n"
    assert "NOT_FOUND" in types.ctl("linsert", key, "after", "none", "n", code=2)
    assert types.ctl("lrange", key, "0", "-1") == "z\nA\nm\nb\nc\nn\n"
    assert types.ctl("lrange", key, "-2", "100") == "c\nn\n"
    assert types.ctl("lrange", key, "3", "2") == ""
    assert types.ctl("lrange", key, "0", "-1", "--at", str(past)) == "z\na\nb\nc\n"
    assert types.ctl("llen", key) == "6\n"
    assert types.ctl("lpop", key) == "z\n"
    assert types.ctl("rpop", key, "2") == "n\nc\n"
    assert types.ctl("ltrim", key, "1", "-1") == "2\n"
    assert types.ctl("lmove", key, types.key("other"), "left", "right") == "m\n"
    assert types.ctl("lmove", key, key, "left", "right") == "b\n"
    assert types.ctl("lpop", key) == "b\n"
    assert types.ctl("lpop", key, code=2) == "(nil)\n"
    assert types.ctl("exists", key, code=2) == f"{key}\tno\n"
    assert types.ctl("rpush", "--xx", key, "x") == "0\n"
    assert "NOT_FOUND" in types.ctl("lmove", key, types.key("other"), "left", "left", code=2)
    assert types.ctl("range", "--prefix", types.key("other")) == f"{types.key('other')}\t(list of 1)\n"


def test_lrem(types):
    key = types.key("l")
    types.ctl("rpush", key, *"abacabad")
    assert types.ctl("lrem", key, "1", "a") == "1\n"
    assert types.ctl("lrem", key, "-1", "a") == "1\n"
    assert types.ctl("lrange", key, "0", "-1") == "b\na\nc\na\nb\nd\n"
    assert types.ctl("lrem", key, "0", "b") == "2\n"
    assert types.ctl("lrem", key, "0", "none") == "0\n"
    assert types.ctl("lrange", key, "0", "-1") == "a\nc\na\nd\n"


def test_list_by_protobuf(types):
    key = types.key("l").encode()
    assert types.call(list_push=kv.ListPush(key=key, end=kv.LIST_RIGHT, elements=[b"\x00", b"", b"x" * 100000])).count == 3
    assert list(types.call(list_range=kv.ListRange(key=key, first=0, last=1)).elements) == [b"\x00", b""]
    assert list(types.call(list_pop=kv.ListPop(key=key, end=kv.LIST_LEFT, count=10)).elements) == [b"\x00", b"", b"x" * 100000]
    assert list(types.call(list_pop=kv.ListPop(key=key)).elements) == []
    assert types.call(list_len=kv.ListLen(key=key)).count == 0
    types.refused(kv.INVALID, list_push=kv.ListPush(key=key))
    types.refused(kv.NOT_FOUND, list_move=kv.ListMove(key=key, to=key + b"x"))
    types.client.put(key, b"string")
    for command in ({"list_push": kv.ListPush(key=key, elements=[b"a"])}, {"list_pop": kv.ListPop(key=key)},
                    {"list_range": kv.ListRange(key=key, last=-1)}, {"list_index": kv.ListIndex(key=key)},
                    {"list_set": kv.ListSet(key=key, element=b"a")}, {"list_len": kv.ListLen(key=key)},
                    {"list_insert": kv.ListInsert(key=key, pivot=b"a", element=b"b")},
                    {"list_remove": kv.ListRemove(key=key, element=b"a")}, {"list_trim": kv.ListTrim(key=key, last=-1)},
                    {"list_move": kv.ListMove(key=key, to=key + b"x")}):
        types.refused(kv.WRONG_TYPE, **command)


def test_list_len_in_the_past(types):
    key = types.key("l").encode()
    types.call(list_push=kv.ListPush(key=key, elements=[b"a", b"b"]))
    past = types.revision()
    types.call(list_pop=kv.ListPop(key=key))
    assert types.call(list_len=kv.ListLen(key=key, at_revision=past)).count == 2


@pytest.mark.parametrize("size", [10, 500])
def test_changes_keep_the_time(types, size):
    """A list that is trimmed keeps its end, whether much or little of it stays, small (inline) or large."""
    key = types.key(f"l{size}").encode()
    types.call(list_push=kv.ListPush(key=key, elements=[b"e"] * size))
    types.call(expire=kv.Expire(key=key, ttl_ms=600000))
    for command in (dict(list_push=kv.ListPush(key=key, elements=[b"x"])),
                    dict(list_trim=kv.ListTrim(key=key, first=1, last=-1)),
                    dict(list_trim=kv.ListTrim(key=key, first=size - 2, last=-1))):
        types.call(**command)
        assert types.call(ttl=kv.Ttl(key=key)).remaining_ms > 300000, command
    assert types.call(list_len=kv.ListLen(key=key)).count == 2


def test_blocking_pop(types):
    key = types.key("l")
    assert types.ctl("blpop", key, "100ms", code=2) == "(nil)\n"
    types.ctl("rpush", key, "there")
    assert types.ctl("brpop", key, "5s") == "there\n"
    waiters = [subprocess.Popen([KVCTL, "-e", types.cluster.endpoints(), "blpop", key, "30s"], stdout=subprocess.PIPE,
                                text=True) for _ in range(2)]
    types.ctl("rpush", key, "one", "two")
    assert sorted(waiter.communicate(timeout=30)[0] for waiter in waiters) == ["one\n", "two\n"]
    assert types.ctl("llen", key) == "0\n"


def test_blocking_pop_whose_client_went(types):
    """Its element is not lost: it goes to the next, or stays."""
    key = types.key("l")
    waiter = subprocess.Popen([KVCTL, "-e", types.cluster.endpoints(), "blpop", key, "1s"], stdout=subprocess.PIPE)
    waiter.kill()
    waiter.communicate()
    types.ctl("rpush", key, "kept")
    assert types.ctl("blpop", key, "5s") == "kept\n"
