"""Counters and hashes: each command through kvctl and through protobuf alone, on a cluster of three."""

import pytest

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


# ---------------------------------------------------------------- counters


def test_counter_by_kvctl(types):
    key = types.key("c")
    assert types.ctl("incr", key) == "1\n"
    assert types.ctl("incrby", key, "41") == "42\n"
    assert types.ctl("decr", key) == "41\n"
    assert types.ctl("decrby", key, "-1") == "42\n"
    assert types.json("counter", key)["value"] == 42
    past = types.json("counter", key)["revision"]
    types.ctl("counter", key, "-7")
    assert types.ctl("counter", key) == "-7\n"
    assert types.ctl("counter", key, "--at", str(past)) == "42\n"
    assert types.ctl("incr", types.key("new"), "--initial", "10", "--max", "11") == "11\n"
    assert "OUT_OF_BOUNDS" in types.ctl("incr", types.key("new"), "--max", "11", code=4)
    assert "NOT_FOUND" in types.ctl("counter", types.key("none"), code=2)
    assert types.ctl("range", "--prefix", key) == f"{key}\t-7\n"


def test_counter_by_protobuf(types):
    key = types.key("c").encode()
    limit = 2**63 - 1
    assert types.call(counter_add=kv.CounterAdd(key=key, delta=limit)).value == limit
    types.refused(kv.OVERFLOW, counter_add=kv.CounterAdd(key=key, delta=1))
    types.refused(kv.OUT_OF_BOUNDS, counter_add=kv.CounterAdd(key=key, delta=-1, max=kv.Int64Bound(value=5)))
    types.refused(kv.OUT_OF_BOUNDS, counter_add=kv.CounterAdd(key=key, delta=-limit, min=kv.Int64Bound(value=1)))
    assert types.call(counter_set=kv.CounterSet(key=key, value=-limit - 1)).value == -limit - 1
    types.refused(kv.OVERFLOW, counter_add=kv.CounterAdd(key=key, delta=-1))
    assert types.call(counter_get=kv.CounterGet(key=key)).value == -limit - 1
    types.refused(kv.NOT_FOUND, counter_get=kv.CounterGet(key=key + b"x"))
    # A decimal string is not a counter, nor a counter a string.
    types.client.put(key + b"s", b"12")
    types.refused(kv.WRONG_TYPE, counter_add=kv.CounterAdd(key=key + b"s", delta=1))
    types.refused(kv.WRONG_TYPE, counter_get=kv.CounterGet(key=key + b"s"))
    types.refused(kv.WRONG_TYPE, get=kv.Get(key=key))
    types.refused(kv.WRONG_TYPE, hash_len=kv.HashLen(key=key))


def test_counters_of_many_clients(types):
    key = types.key("c").encode()
    clients = [node.client() for node in types.cluster.nodes.values() for _ in range(4)]
    for _ in range(50):
        for client in clients:
            client.send_request(counter_add=kv.CounterAdd(key=key, delta=1))
    values = sorted(client.receive().counter_add.value for client in clients for _ in range(50))
    assert values == list(range(1, 50 * len(clients) + 1))
    for client in clients:
        client.close()


# ---------------------------------------------------------------- hashes


def test_hash_by_kvctl(types):
    key = types.key("h")
    assert types.ctl("hset", key, "name", "Ada", "city", "Paris") == "2\n"
    assert types.ctl("hset", key, "name", "Ada L.") == "0\n"
    assert types.ctl("hget", key, "name") == "Ada L.\n"
    assert types.ctl("hget", key, "none", code=2) == "(nil)\n"
    assert types.ctl("hmget", key, "city", "none", "name") == "city\tParis\nnone\t(nil)\nname\tAda L.\n"
    past = types.json("hgetall", key)["revision"]
    assert types.ctl("hincrby", key, "logins", "2") == "2\n"
    assert types.ctl("hgetall", key) == "city\tParis\nlogins\t2\nname\tAda L.\n"
    assert types.ctl("hgetall", key, "--at", str(past)) == "city\tParis\nname\tAda L.\n"
    assert types.ctl("hlen", key) == "3\n"
    assert types.ctl("hexists", key, "name", "none", code=2) == "name\tyes\nnone\tno\n"
    assert types.ctl("range", "--prefix", key) == f"{key}\t(hash of 3)\n"
    assert "EXISTS" in types.ctl("hset", key, "--nx", "new", "1", "name", "2", code=2)
    assert types.ctl("hdel", key, "city", "none") == "1\n"
    assert types.ctl("hdel", key, "logins", "name") == "2\n"
    # Without fields it is not there.
    assert types.ctl("exists", key, code=2) == f"{key}\tno\n"
    assert types.ctl("hgetall", key) == ""


def test_hash_scan(types):
    key = types.key("h")
    names = [f"f{i:03}" for i in range(100)]
    types.ctl("hset", key, *[word for name in names for word in (name, f"v{name}")])
    answer = types.json("hscan", key, "--limit", "30")
    revision, seen = answer["revision"], []
    types.ctl("hdel", key, *names[50:])
    while True:
        seen += [field["name"] for field in answer["fields"]]
        if not answer.get("more"):
            break
        answer = types.json("hscan", key, "--limit", "30", "--cursor", answer["cursor"], "--at", str(revision))
    assert seen == names
    assert types.ctl("hlen", key) == "50\n"


def test_hash_by_protobuf(types):
    key = types.key("h").encode()
    field = kv.HashField(name=b"\x00f", value=b"\xff")
    assert types.call(hash_set=kv.HashSet(key=key, fields=[field])).count == 1
    result = types.call(hash_get=kv.HashGet(key=key, fields=[b"none", b"\x00f"]))
    assert list(result.present) == [False, True] and list(result.values) == [b"", b"\xff"]
    (got,) = types.call(hash_get_all=kv.HashGetAll(key=key)).fields
    assert (got.name, got.value) == (b"\x00f", b"\xff")
    assert list(types.call(hash_exists=kv.HashExists(key=key, fields=[b"\x00f", b"x"])).present) == [True, False]
    types.refused(kv.WRONG_TYPE, hash_add=kv.HashAdd(key=key, field=b"\x00f", delta=1))
    assert types.call(hash_add=kv.HashAdd(key=key, field=b"n", delta=2**63 - 1)).value == 2**63 - 1
    types.refused(kv.OVERFLOW, hash_add=kv.HashAdd(key=key, field=b"n", delta=1))
    types.refused(kv.EXISTS, hash_set=kv.HashSet(key=key, fields=[kv.HashField(name=b"new"), field], if_absent=True))
    types.refused(kv.INVALID, hash_set=kv.HashSet(key=key, fields=[kv.HashField(name=b"a"), kv.HashField(name=b"a")]))
    types.refused(kv.INVALID, hash_set=kv.HashSet(key=key, fields=[kv.HashField(name=b"")]))
    types.refused(kv.INVALID, hash_set=kv.HashSet(key=key))
    types.client.put(key + b"s", b"x")
    for command in ({"hash_set": kv.HashSet(key=key + b"s", fields=[field])}, {"hash_get_all": kv.HashGetAll(key=key + b"s")},
                    {"hash_delete": kv.HashDelete(key=key + b"s", fields=[b"a"])},
                    {"hash_len": kv.HashLen(key=key + b"s")}):
        types.refused(kv.WRONG_TYPE, **command)
    types.refused(kv.FUTURE_REVISION, hash_get_all=kv.HashGetAll(key=key, at_revision=types.revision() + 1))


def test_hash_len_in_the_past(types):
    key = types.key("h").encode()
    types.call(hash_set=kv.HashSet(key=key, fields=[kv.HashField(name=b"a"), kv.HashField(name=b"b")]))
    past = types.revision()
    types.call(hash_delete=kv.HashDelete(key=key, fields=[b"a"]))
    assert types.call(hash_len=kv.HashLen(key=key, at_revision=past)).count == 2
    assert list(types.call(hash_exists=kv.HashExists(key=key, fields=[b"a"], at_revision=past)).present) == [True]
    assert types.call(hash_len=kv.HashLen(key=key)).count == 1
