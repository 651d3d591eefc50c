"""Sets and sorted sets: each command through kvctl and through protobuf alone, on a cluster of three."""

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


# ---------------------------------------------------------------- sets


def test_set_by_kvctl(types):
    key, other = types.key("s"), types.key("t")
    assert types.ctl("sadd", key, "c", "a", "b") == "3\n"
    assert types.ctl("sadd", key, "a", "d") == "1\n"
    assert types.ctl("smembers", key) == "a\nb\nc\nd\n"
    past = types.json("smembers", key)["revision"]
    assert types.ctl("srem", key, "d", "none") == "1\n"
    assert types.ctl("sismember", key, "a") == "yes\n"
    assert types.ctl("sismember", key, "d", code=2) == "no\n"
    assert types.ctl("smismember", key, "a", "d", code=2) == "a\tyes\nd\tno\n"
    assert types.ctl("smembers", key, "--at", str(past)) == "a\nb\nc\nd\n"
    assert types.ctl("scard", key) == "3\n"
    types.ctl("sadd", other, "b", "x")
    assert types.ctl("sunion", key, other) == "a\nb\nc\nx\n"
    assert types.ctl("sinter", key, other) == "b\n"
    assert types.ctl("sdiff", key, other) == "a\nc\n"
    assert types.ctl("sinter", key, types.key("none")) == ""
    assert types.ctl("sunionstore", types.key("u"), key, other) == "4\n"
    assert types.ctl("sdiffstore", key, key, other) == "2\n"
    assert types.ctl("smembers", key) == "a\nc\n"
    assert types.ctl("sinterstore", key, key, other) == "0\n"
    assert types.ctl("exists", key, code=2) == f"{key}\tno\n"
    assert types.ctl("range", "--prefix", other) == f"{other}\t(set of 2)\n"


def test_set_pop_and_random(types):
    key = types.key("s")
    members = {f"m{i}" for i in range(20)}
    types.ctl("sadd", key, *members)
    assert types.ctl("srandmember", key).strip() in members
    some = types.ctl("srandmember", key, "5").split()
    assert len(set(some)) == 5 and set(some) <= members
    assert types.ctl("scard", key) == "20\n"
    popped = types.ctl("spop", key, "15").split()
    assert len(set(popped)) == 15 and set(popped) <= members
    rest = {types.ctl("spop", key).strip() for _ in range(5)}
    assert rest | set(popped) == members
    assert types.ctl("spop", key, code=2) == "(nil)\n"
    assert types.ctl("srandmember", key, code=2) == "(nil)\n"


def test_set_in_pieces(types):
    key = types.key("s").encode()
    members = [f"{i:05}".encode() for i in range(1000)]
    types.call(set_add=kv.SetAdd(key=key, members=members))
    seen, cursor = [], b""
    while True:
        result = types.call(set_members=kv.SetMembers(key=key, cursor=cursor, limit=300))
        seen += result.elements
        if not result.more:
            break
        cursor = result.cursor
    assert seen == members


def test_set_by_protobuf(types):
    key = types.key("s").encode()
    assert types.call(set_add=kv.SetAdd(key=key, members=[b"\x00", b"\xff"])).count == 2
    assert list(types.call(set_has=kv.SetHas(key=key, members=[b"\xff", b"x"])).present) == [True, False]
    past = types.revision()
    types.call(set_remove=kv.SetRemove(key=key, members=[b"\xff"]))
    assert types.call(set_len=kv.SetLen(key=key, at_revision=past)).count == 2
    assert list(types.call(set_has=kv.SetHas(key=key, members=[b"\xff"], at_revision=past)).present) == [True]
    types.refused(kv.INVALID, set_add=kv.SetAdd(key=key))
    types.client.put(key + b"x", b"string")
    for command in ({"set_add": kv.SetAdd(key=key + b"x", members=[b"a"])}, {"set_members": kv.SetMembers(key=key + b"x")},
                    {"set_pop": kv.SetPop(key=key + b"x")}, {"set_len": kv.SetLen(key=key + b"x")},
                    {"set_combine": kv.SetCombine(keys=[key, key + b"x"])}):
        types.refused(kv.WRONG_TYPE, **command)
    # A store replaces what is there, whatever it is.
    types.call(set_combine=kv.SetCombine(keys=[key], store=key + b"x"))
    assert types.call(set_len=kv.SetLen(key=key + b"x")).count == 1


# ---------------------------------------------------------------- sorted sets


def test_zset_by_kvctl(types):
    key = types.key("z")
    assert types.ctl("zadd", key, "1500", "one", "1720.5", "two", "-inf", "least") == "3\n"
    assert types.ctl("zrange", key, "0", "-1", "--scores") == "least\t-inf\none\t1500\ntwo\t1720.5\n"
    past = types.json("zrange", key, "0", "-1")["revision"]
    assert types.ctl("zrange", key, "0", "0", "--rev", "--scores") == "two\t1720.5\n"
    assert types.ctl("zrank", key, "one") == "1\n"
    assert types.ctl("zrank", key, "one", "--rev", "--scores") == "1\t1500\n"
    assert "NOT_FOUND" in types.ctl("zrank", key, "none", code=2)
    assert types.ctl("zscore", key, "two") == "1720.5\n"
    assert types.ctl("zscore", key, "none", code=2) == "(nil)\n"
    assert types.ctl("zmscore", key, "one", "none") == "one\t1500\nnone\t(nil)\n"
    assert types.ctl("zincrby", key, "0.1", "one") == "1500.1\n"
    assert types.ctl("zcount", key, "1500", "inf") == "2\n"
    assert types.ctl("zcount", key, "(1500.1", "inf") == "1\n"
    assert types.ctl("zcard", key) == "3\n"
    assert types.ctl("zrange", key, "1000", "(1720.5", "--by-score") == "one\n"
    assert types.ctl("zrange", key, "inf", "0", "--by-score", "--rev") == "two\none\n"
    assert types.ctl("zrange", key, "-inf", "inf", "--by-score", "--offset", "1", "--limit", "1") == "one\n"
    assert types.ctl("zrange", key, "0", "-1", "--at", str(past), "--scores").endswith("one\t1500\ntwo\t1720.5\n")
    assert types.ctl("zpopmin", key) == "least\t-inf\n"
    assert types.ctl("zpopmax", key, "5") == "two\t1720.5\none\t1500.1\n"
    assert types.ctl("zpopmax", key) == ""
    assert types.ctl("exists", key, code=2) == f"{key}\tno\n"


def test_zadd_options(types):
    key = types.key("z")
    types.ctl("zadd", key, "5", "a")
    assert types.ctl("zadd", "--nx", "--ch", key, "9", "a", "1", "b") == "1\n"
    assert types.ctl("zscore", key, "a") == "5\n"
    assert types.ctl("zadd", "--xx", "--ch", key, "6", "a", "1", "c") == "1\n"
    assert types.ctl("zcard", key) == "2\n"
    assert types.ctl("zadd", "--gt", "--ch", key, "5", "a", "2", "b", "7", "new") == "2\n"
    assert types.ctl("zadd", "--lt", "--ch", key, "5", "a", "3", "b") == "1\n"
    assert types.ctl("zrange", key, "0", "-1", "--scores") == "b\t2\na\t5\nnew\t7\n"
    assert types.ctl("zadd", "--incr", key, "-2", "a") == "3\n"
    assert types.ctl("zadd", "--nx", "--incr", key, "1", "a", code=2) == "(nil)\n"
    assert types.ctl("zadd", "--xx", "--incr", key, "1", "absent", code=2) == "(nil)\n"


def test_zset_by_member(types):
    key = types.key("z")
    types.ctl("zadd", key, *[word for member in "abcde" for word in ("0", member)])
    assert types.ctl("zrange", key, "-", "+", "--by-lex") == "a\nb\nc\nd\ne\n"
    assert types.ctl("zrange", key, "(a", "[c", "--by-lex") == "b\nc\n"
    assert types.ctl("zrange", key, "+", "[d", "--by-lex", "--rev") == "e\nd\n"
    assert types.ctl("zcount", key, "[b", "(d", "--by-lex") == "2\n"
    assert types.ctl("zremrange", key, "-", "(c", "--by-lex") == "2\n"
    assert types.ctl("zremrange", key, "-1", "-1") == "1\n"
    assert types.ctl("zremrange", key, "0", "0", "--by-score") == "2\n"


def test_zset_combinations(types):
    one, two = types.key("1"), types.key("2")
    types.ctl("zadd", one, "1", "a", "2", "b")
    types.ctl("zadd", two, "10", "b", "20", "c")
    assert types.ctl("zunion", one, two, "--scores") == "a\t1\nb\t12\nc\t20\n"
    assert types.ctl("zinter", one, two, "--weights", "2,0.5", "--scores") == "b\t9\n"
    assert types.ctl("zunion", one, two, "--aggregate", "max", "--scores") == "a\t1\nb\t10\nc\t20\n"
    assert types.ctl("zinter", one, two, "--aggregate", "min", "--scores") == "b\t2\n"
    assert types.ctl("zunionstore", types.key("u"), one, two) == "3\n"
    assert types.ctl("zinterstore", one, one, two, "--aggregate", "min") == "1\n"
    assert types.ctl("zrange", one, "0", "-1", "--scores") == "b\t2\n"


def test_zset_by_protobuf(types):
    key = types.key("z").encode()
    nan, inf = float("nan"), float("inf")

    def member(score, name=b"m"):
        return kv.ZSetMember(member=name, score=score)

    assert types.call(zset_add=kv.ZSetAdd(key=key, members=[member(inf), member(-0.0, b"n")])).added == 2
    result = types.call(zset_score=kv.ZSetScore(key=key, members=[b"m", b"n", b"x"]))
    assert list(result.present) == [True, True, False] and list(result.scores) == [inf, 0, 0]
    types.refused(kv.INVALID, zset_add=kv.ZSetAdd(key=key, members=[member(nan)]))
    types.refused(kv.INVALID, zset_add=kv.ZSetAdd(key=key, members=[member(-inf)], increment=True))
    types.refused(kv.INVALID, zset_add=kv.ZSetAdd(key=key, members=[member(1), member(2)]))
    types.refused(kv.INVALID, zset_add=kv.ZSetAdd(key=key, members=[member(1), member(2, b"n")], increment=True))
    types.refused(kv.INVALID, zset_add=kv.ZSetAdd(key=key, members=[member(1)], if_absent=True, if_present=True))
    types.refused(kv.INVALID, zset_add=kv.ZSetAdd(key=key))
    types.client.put(key + b"x", b"string")
    for command in ({"zset_add": kv.ZSetAdd(key=key + b"x", members=[member(1)])},
                    {"zset_rank": kv.ZSetRank(key=key + b"x", member=b"m")}, {"zset_pop": kv.ZSetPop(key=key + b"x")},
                    {"zset_remove": kv.ZSetRemove(key=key + b"x", members=[b"m"])}):
        types.refused(kv.WRONG_TYPE, **command)


def test_rank_in_a_large_one(types):
    key = types.key("z").encode()
    for start in range(0, 5000, 1000):
        members = [kv.ZSetMember(member=b"%05d" % i, score=i * 0.5) for i in range(start, start + 1000)]
        types.call(zset_add=kv.ZSetAdd(key=key, members=members))
    assert types.call(zset_rank=kv.ZSetRank(key=key, member=b"03210")).rank == 3210
    assert types.call(zset_rank=kv.ZSetRank(key=key, member=b"03210", descending=True)).rank == 1789
    span = kv.ZSetSpan(ranks=kv.ZSetSpan.Ranks(first=2000, last=2001))
    assert [m.member for m in types.call(zset_range=kv.ZSetRange(key=key, span=span)).members] == [b"02000", b"02001"]
