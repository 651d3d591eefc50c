"""The same random commands against kvd and a real redis-server: where both have a command with the same meaning, the
answers are the same. What differs by intent is stated where it is translated, and in docs/guide/data-types.md.
KV_SEED=n replays one run.
"""

import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import time

import pytest

from kvd_process import Kvd

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
STEPS = 4000


class Redis:
    """A redis-server on a socket of its own, and the few lines of RESP that it takes to speak to it."""

    def __init__(self, folder):
        self.path = str(folder / "redis.sock")
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no"],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(self.path)
                break
            except OSError:
                self.socket.close()
                assert time.monotonic() < deadline and self.process.poll() is None, "redis-server did not start"
                time.sleep(0.01)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()
        self.process.terminate()
        self.process.wait(10)

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Error(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            return self.file.read(int(rest) + 2)[:-2]
        assert kind == b"*", line
        return None if rest == b"-1" else [self.read() for _ in range(int(rest))]

    def call(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
        return self.read()


class Error(str):
    pass


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    if not shutil.which("redis-server"):
        pytest.fail("redis-server is missing: deploy/deps --test installs it")
    redis = Redis(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.close()


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    subprocess.run(["protoc", f"--proto_path={ROOT / 'proto'}", f"--python_out={folder}", "kv.proto"], check=True)
    page = (ROOT / "docs" / "protocol.md").read_text()
    (folder / "client.py").write_text(page.split("```python\n")[1].split("```")[0])
    sys.path.insert(0, str(folder))
    try:
        import client
        yield client
    finally:
        sys.path.remove(str(folder))


class Both:
    """Runs one command on each side and compares. kvd's answer is None for NOT_FOUND and OUT_OF_BOUNDS, else the
    name of its code when that is not OK."""

    def __init__(self, redis, module, port, seed):
        self.redis = redis
        self.kv = module.kv
        self.client = module.Client("127.0.0.1", port)
        self.random = random.Random(seed)
        self.trace = []

    def kvd(self, name, message):
        self.client.id += 1
        self.client.send(self.kv.Request(id=self.client.id, deadline_ms=5000, **{name: message}))
        reply = self.client.receive()
        code = self.kv.Code.Name(reply.code)
        if code == "OK":
            return getattr(reply, name)
        return None if code in ("NOT_FOUND", "OUT_OF_BOUNDS") else Error(code)

    def check(self, words, name, message, take, redis_take=lambda answer: answer):
        theirs = self.redis.call(*words)
        ours = self.kvd(name, message)
        self.trace.append((words, theirs, str(ours).strip()))
        if isinstance(ours, Error):
            errors = {"WRONG_TYPE": "WRONGTYPE", "OVERFLOW": "ERR", "INVALID": "ERR"}
            assert isinstance(theirs, Error) and theirs.startswith(errors[ours]), self.explain()
            return
        ours = None if ours is None else take(ours)
        theirs = None if isinstance(theirs, Error) and ours is None else redis_take(theirs)
        assert ours == theirs, self.explain(ours, theirs)

    def explain(self, *sides):
        return "\n".join(map(str, self.trace[-5:])) + "\nkvd, redis: " + repr(sides)

    # ------------------------------------------------------------ choices

    def key(self, kind):
        """Mostly a key of the kind; sometimes another's, for the wrong type."""
        if self.random.random() < 0.05:
            kind = self.random.choice(["string", "hash", "list", "set", "zset"])
        return b"%b/%d" % (kind.encode(), self.random.randrange(3))

    def word(self):
        return b"%b%d" % (self.random.choice([b"a", b"bb", b"long-" * 8]), self.random.randrange(40))

    def words(self, n=5):
        return list({self.word() for _ in range(self.random.randint(1, n))})

    def index(self):
        return self.random.randint(-12, 12)

    def score(self):
        return self.random.choice([0, -0.0, 1, -1, 2.5, 1e300, -1e300, 3.141592653589793, float("inf"), -float("inf"),
                                   self.random.randint(-50, 50), self.random.random() * 100])

    def finite(self):
        return self.random.randint(-50, 50) / 4

    # ------------------------------------------------------------ any type

    def generic_step(self):
        kv, kind = self.kv, self.random.choice(["string", "hash", "list", "set", "zset"])
        key, to = self.key(kind), self.key(kind)
        choice = self.random.randrange(6)
        if choice == 0:
            self.check(["DEL", key, to], "delete", kv.Delete(keys=[key, to]), lambda r: r.deleted)
        elif choice == 1:
            self.check(["EXISTS", key, key, to], "exists", kv.Exists(keys=[key, key, to]), lambda r: r.count)
        elif choice == 2:
            self.check(["TYPE", key], "type", kv.TypeOf(key=key),
                       lambda r: kv.Type.Name(r.type)[5:].lower().encode())
        elif choice == 3 and key != to:
            self.check(["RENAME", key, to], "rename", kv.Rename(key=key, to=to), lambda r: b"OK")
        elif choice == 4 and key != to:
            # A name that is taken: EXISTS here, 0 there.
            theirs = self.redis.call("RENAMENX", key, to)
            ours = self.kvd("rename", kv.Rename(key=key, to=to, if_absent=True))
            outcome = {0: Error("EXISTS")}.get(theirs, None if isinstance(theirs, Error) else 1)
            assert (1 if ours is not None and not isinstance(ours, Error) else ours) == outcome, (key, to, theirs, ours)
        elif choice == 5 and key != to:
            theirs = self.redis.call("COPY", key, to, "REPLACE")
            ours = self.kvd("copy", kv.Copy(key=key, to=to))
            assert (ours is not None) == (theirs == 1), (key, to, theirs, ours)

    # ------------------------------------------------------------ strings and counters

    def string_step(self):
        kv, key, value = self.kv, self.key("string"), self.word()
        a, b = self.index(), self.index()
        step = self.random.choice([
            lambda: self.check(["SET", key, value], "put", kv.Put(key=key, value=value), lambda r: b"OK"),
            lambda: self.check(["GET", key], "get", kv.Get(key=key), lambda r: r.kv.value),
            lambda: self.check(["APPEND", key, value], "append", kv.Append(key=key, value=value), lambda r: r.length),
            lambda: self.check(["GETSET", key, value], "getset", kv.GetSet(key=key, value=value),
                               lambda r: r.kv.value if r.HasField("kv") else None),
            lambda: self.check(["GETDEL", key], "getdel", kv.GetDel(key=key), lambda r: r.kv.value),
            lambda: self.check(["STRLEN", key], "strlen", kv.StrLen(key=key), lambda r: r.length),
            # A last byte before the first of the string: nothing here, the first byte there.
            lambda: self.check(["GETRANGE", key, a, max(b, -1)], "get_range",
                               kv.GetRange(key=key, first=a, last=max(b, -1)), lambda r: r.value),
            lambda: self.check(["SETRANGE", key, abs(a), value], "set_range",
                               kv.SetRange(key=key, offset=abs(a), value=value), lambda r: r.length),
        ])
        # put overwrites whatever was there, which for redis is SET; it may change the kind of a key of the others.
        step()

    def counter_step(self):
        kv, key = self.kv, b"counter/%d" % self.random.randrange(3)
        delta = self.random.choice([1, -1, 1000, 2**62, -2**62, 2**63 - 1])
        if self.random.random() < 0.8:
            self.check(["INCRBY", key, delta], "counter_add", kv.CounterAdd(key=key, delta=delta), lambda r: r.value)
        else:
            self.check(["GET", key], "counter_get", kv.CounterGet(key=key), lambda r: r.value,
                       lambda answer: None if answer is None else int(answer))

    # ------------------------------------------------------------ hashes

    def hash_step(self):
        kv, key, names = self.kv, self.key("hash"), self.words()
        pairs = {name: self.random.choice([self.word(), b"%d" % self.random.randint(-99, 99)]) for name in names}
        name = self.word()

        def fields(result):
            return {field.name: field.value for field in result.fields}

        self.random.choice([
            lambda: self.check(["HSET", key, *[word for pair in pairs.items() for word in pair]], "hash_set",
                               kv.HashSet(key=key, fields=[kv.HashField(name=n, value=v) for n, v in pairs.items()]),
                               lambda r: r.count),
            lambda: self.check(["HMGET", key, *names], "hash_get", kv.HashGet(key=key, fields=names),
                               lambda r: [v if p else None for p, v in zip(r.present, r.values)]),
            lambda: self.check(["HGETALL", key], "hash_get_all", kv.HashGetAll(key=key), fields,
                               lambda answer: dict(zip(answer[::2], answer[1::2]))),
            lambda: self.check(["HDEL", key, *names], "hash_delete", kv.HashDelete(key=key, fields=names),
                               lambda r: r.count),
            lambda: self.check(["HEXISTS", key, name], "hash_exists", kv.HashExists(key=key, fields=[name]),
                               lambda r: int(r.present[0])),
            lambda: self.check(["HLEN", key], "hash_len", kv.HashLen(key=key), lambda r: r.count),
            lambda: self.hash_add(key, name),
        ])()

    def hash_add(self, key, name):
        # A field that holds no number: WRONG_TYPE here, "ERR hash value is not an integer" there.
        theirs = self.redis.call("HINCRBY", key, name, 7)
        ours = self.kvd("hash_add", self.kv.HashAdd(key=key, field=name, delta=7))
        if isinstance(theirs, Error):
            assert ours == Error("WRONG_TYPE"), (theirs, ours)
        else:
            assert ours.value == theirs

    # ------------------------------------------------------------ lists

    def list_step(self):
        kv, key, elements = self.kv, self.key("list"), [self.word() for _ in range(self.random.randint(1, 5))]
        a, b, n, word = self.index(), self.index(), self.random.randint(1, 4), self.word()
        left = self.random.random() < 0.5
        end, letter = (kv.LIST_LEFT, "L") if left else (kv.LIST_RIGHT, "R")
        to, to_left = self.key("list"), self.random.random() < 0.5
        to_end, to_word = (kv.LIST_LEFT, "LEFT") if to_left else (kv.LIST_RIGHT, "RIGHT")

        def listed(result):
            return list(result.elements)

        def only(result):
            return result.elements[0]

        self.random.choice([
            lambda: self.check([letter + "PUSH", key, *elements], "list_push",
                               kv.ListPush(key=key, end=end, elements=elements), lambda r: r.count),
            lambda: self.check([letter + "PUSH", key, *elements], "list_push",
                               kv.ListPush(key=key, end=end, elements=elements), lambda r: r.count),
            lambda: self.check([letter + "PUSHX", key, *elements], "list_push",
                               kv.ListPush(key=key, end=end, elements=elements, if_present=True), lambda r: r.count),
            lambda: self.check([letter + "POP", key, n], "list_pop", kv.ListPop(key=key, end=end, count=n),
                               listed, lambda answer: answer or []),
            lambda: self.check(["LRANGE", key, a, b], "list_range", kv.ListRange(key=key, first=a, last=b), listed),
            lambda: self.check(["LINDEX", key, a], "list_index", kv.ListIndex(key=key, index=a), only),
            lambda: self.check(["LSET", key, a, word], "list_set", kv.ListSet(key=key, index=a, element=word),
                               lambda r: b"OK"),
            lambda: self.check(["LLEN", key], "list_len", kv.ListLen(key=key), lambda r: r.count),
            # No pivot, no list: NOT_FOUND here, -1 and 0 there.
            lambda: self.check(["LINSERT", key, "AFTER" if left else "BEFORE", word, b"new"], "list_insert",
                               kv.ListInsert(key=key, pivot=word, element=b"new", after=left), lambda r: r.count,
                               lambda answer: None if answer in (-1, 0) else answer),
            lambda: self.check(["LREM", key, a, word], "list_remove", kv.ListRemove(key=key, element=word, count=a),
                               lambda r: r.count),
            lambda: self.trim(key, a, b),
            lambda: self.check(["LMOVE", key, to, "LEFT" if left else "RIGHT", to_word], "list_move",
                               kv.ListMove(key=key, to=to, to_end=to_end, **{"from": end}), only),
        ])()

    def trim(self, key, first, last):
        theirs = self.redis.call("LTRIM", key, first, last)
        ours = self.kvd("list_trim", self.kv.ListTrim(key=key, first=first, last=last))
        if isinstance(theirs, Error):
            assert ours == Error("WRONG_TYPE")
        else:
            assert ours.count == self.redis.call("LLEN", key)

    # ------------------------------------------------------------ sets

    def set_step(self):
        kv, key, members = self.kv, self.key("set"), self.words()
        keys = [self.key("set") for _ in range(self.random.randint(1, 3))]
        how, name = self.random.choice([(kv.COMBINE_UNION, "SUNION"), (kv.COMBINE_INTERSECTION, "SINTER"),
                                        (kv.COMBINE_DIFFERENCE, "SDIFF")])
        to = self.key("set")

        def members_of(result):
            return sorted(result.elements)

        self.random.choice([
            lambda: self.check(["SADD", key, *members], "set_add", kv.SetAdd(key=key, members=members),
                               lambda r: r.count),
            lambda: self.check(["SREM", key, *members], "set_remove", kv.SetRemove(key=key, members=members),
                               lambda r: r.count),
            lambda: self.check(["SMISMEMBER", key, *members], "set_has", kv.SetHas(key=key, members=members),
                               lambda r: [int(p) for p in r.present]),
            lambda: self.check(["SMEMBERS", key], "set_members", kv.SetMembers(key=key), members_of, sorted),
            lambda: self.check(["SCARD", key], "set_len", kv.SetLen(key=key), lambda r: r.count),
            lambda: self.check(["SPOP", key, 1000], "set_pop", kv.SetPop(key=key, count=1000), members_of, sorted),
            lambda: self.check(["SRANDMEMBER", key, 1000], "set_random", kv.SetRandom(key=key, count=1000), members_of,
                               sorted),
            lambda: self.check([name, *keys], "set_combine", kv.SetCombine(combination=how, keys=keys), members_of,
                               sorted),
            lambda: self.store(["%sSTORE" % name, to, *keys], "set_combine",
                               kv.SetCombine(combination=how, keys=keys, store=to), to, "SMEMBERS"),
        ])()

    def store(self, words, name, message, to, read):
        """The size of what was stored is an answer of redis alone; the content is compared."""
        theirs = self.redis.call(*words)
        ours = self.kvd(name, message)
        assert isinstance(theirs, Error) == isinstance(ours, Error), (words, theirs, ours)
        if not isinstance(ours, Error):
            if read == "SMEMBERS":
                result = self.kvd("set_members", self.kv.SetMembers(key=to))
                assert sorted(result.elements) == sorted(self.redis.call(read, to)), words
            else:
                self.check(["ZRANGE", to, 0, -1, "WITHSCORES"], "zset_range", self.ranks(to, 0, -1), self.scored,
                           self.pairs)

    # ------------------------------------------------------------ sorted sets

    @staticmethod
    def scored(result):
        return [(member.member, member.score) for member in result.members]

    @staticmethod
    def pairs(answer):
        return [(member, float(score)) for member, score in zip(answer[::2], answer[1::2])]

    def ranks(self, key, first, last, **options):
        span = self.kv.ZSetSpan(ranks=self.kv.ZSetSpan.Ranks(first=first, last=last))
        return self.kv.ZSetRange(key=key, span=span, **options)

    def bounds(self):
        """Bounds of scores in both languages. Those that cross are INVALID here, an empty range there: never made."""
        low, high = sorted([self.score(), self.score()])
        bounds = []
        for score in (low, high):
            exclusive = low < high and self.random.random() < 0.4
            bounds.append((("(" if exclusive else "") + repr(float(score)),
                           self.kv.ScoreBound(score=score, exclusive=exclusive)))
        return bounds

    def zset_add(self, key):
        kv, members = self.kv, {member: self.score() for member in self.words()}
        flags = self.random.choice([[], [], [], ["NX"], ["XX"], ["GT"], ["LT"], ["XX", "GT"], ["XX", "LT"]])
        named = {"NX": "if_absent", "XX": "if_present", "GT": "if_greater", "LT": "if_less"}
        changed = self.random.random() < 0.5
        message = kv.ZSetAdd(key=key, members=[kv.ZSetMember(member=m, score=s) for m, s in members.items()],
                             **{named[flag]: True for flag in flags})
        words = [word for m, s in members.items() for word in (repr(float(s)), m)]
        self.check(["ZADD", key, *flags, *(["CH"] if changed else []), *words], "zset_add", message,
                   lambda r: r.changed if changed else r.added)

    def zset_increment(self, key):
        member, delta = self.word(), self.score()
        theirs = self.redis.call("ZINCRBY", key, repr(float(delta)), member)
        ours = self.kvd("zset_add", self.kv.ZSetAdd(
            key=key, increment=True, members=[self.kv.ZSetMember(member=member, score=delta)]))
        if isinstance(theirs, Error):
            assert ours == Error("WRONG_TYPE" if theirs.startswith("WRONGTYPE") else "INVALID"), (theirs, ours)
        else:
            assert ours.score == float(theirs)

    def zset_combine(self):
        kv = self.kv
        # redis takes sets, too, with score 1: sorted sets only.
        keys, to = [b"zset/%d" % self.random.randrange(3) for _ in range(self.random.randint(1, 3))], self.key("zset")
        if any(self.redis.call("TYPE", key) not in (b"zset", b"none") for key in keys):
            return
        how, name = self.random.choice([(kv.COMBINE_UNION, "ZUNIONSTORE"), (kv.COMBINE_INTERSECTION, "ZINTERSTORE")])
        aggregate, word = self.random.choice([(kv.AGGREGATE_SUM, "SUM"), (kv.AGGREGATE_MIN, "MIN"),
                                              (kv.AGGREGATE_MAX, "MAX")])
        weights = [self.random.choice([1, 2, -1, 0.5]) for _ in keys]
        # redis makes 0 of inf + -inf, and orders the sets by size before it adds; here that is refused, and the
        # order is that of the keys. So: only scores that add exactly.
        for key in {*keys}:
            members = self.redis.call("ZRANGE", key, 0, -1, "WITHSCORES")
            if isinstance(members, list) and any(abs(s) > 1e6 or s != round(s * 64) / 64 for _, s in self.pairs(members)):
                return
        self.store([name, to, len(keys), *keys, "WEIGHTS", *weights, "AGGREGATE", word], "zset_combine",
                   kv.ZSetCombine(combination=how, keys=keys, weights=weights, aggregate=aggregate, store=to), to,
                   "ZRANGE")

    def zset_range(self, key):
        kv, reverse = self.kv, self.random.random() < 0.5
        offset, limit = self.random.randint(0, 3), self.random.randint(1, 5)
        (low_word, low), (high_word, high) = self.bounds()
        if self.random.random() < 0.5:
            first, last = self.index(), self.index()
            self.check(["ZRANGE", key, first, last, *(["REV"] if reverse else []), "WITHSCORES"], "zset_range",
                       self.ranks(key, first, last, descending=reverse), self.scored, self.pairs)
            return
        words = [high_word, low_word, "BYSCORE", "REV"] if reverse else [low_word, high_word, "BYSCORE"]
        span = kv.ZSetSpan(scores=kv.ZSetSpan.Scores(min=low, max=high))
        self.check(["ZRANGE", key, *words, "LIMIT", offset, limit, "WITHSCORES"], "zset_range",
                   kv.ZSetRange(key=key, span=span, descending=reverse, offset=offset, limit=limit), self.scored,
                   self.pairs)

    def zset_step(self):
        kv, key, member, members = self.kv, self.key("zset"), self.word(), self.words()
        n, first, last, greatest = self.random.randint(1, 3), self.index(), self.index(), self.random.random() < 0.5
        (low_word, low), (high_word, high) = self.bounds()
        scores = kv.ZSetSpan(scores=kv.ZSetSpan.Scores(min=low, max=high))
        ranks = kv.ZSetSpan(ranks=kv.ZSetSpan.Ranks(first=first, last=last))
        self.random.choice([
            lambda: self.zset_add(key),
            lambda: self.zset_add(key),
            lambda: self.zset_increment(key),
            lambda: self.check(["ZREM", key, *members], "zset_remove", kv.ZSetRemove(key=key, members=members),
                               lambda r: r.count),
            lambda: self.check(["ZMSCORE", key, *members], "zset_score", kv.ZSetScore(key=key, members=members),
                               lambda r: [s if p else None for p, s in zip(r.present, r.scores)],
                               lambda answer: [None if s is None else float(s) for s in answer]),
            lambda: self.check(["ZREVRANK" if greatest else "ZRANK", key, member], "zset_rank",
                               kv.ZSetRank(key=key, member=member, descending=greatest), lambda r: r.rank),
            lambda: self.zset_range(key),
            lambda: self.check(["ZCOUNT", key, low_word, high_word], "zset_count", kv.ZSetCount(key=key, span=scores),
                               lambda r: r.count),
            lambda: self.check(["ZPOPMAX" if greatest else "ZPOPMIN", key, n], "zset_pop",
                               kv.ZSetPop(key=key, greatest=greatest, count=n), self.scored, self.pairs),
            lambda: self.check(["ZREMRANGEBYRANK", key, first, last], "zset_remove_range",
                               kv.ZSetRemoveRange(key=key, span=ranks), lambda r: r.count),
            lambda: self.check(["ZREMRANGEBYSCORE", key, low_word, high_word], "zset_remove_range",
                               kv.ZSetRemoveRange(key=key, span=scores), lambda r: r.count),
            self.zset_combine,
        ])()


@pytest.mark.parametrize("kind", ["string", "counter", "hash", "list", "set", "zset", "generic", "all"])
def test_answers_are_those_of_redis(redis, module, tmp_path, kind):
    seed = int(os.environ.get("KV_SEED", random.randrange(10**6)))
    print(f"KV_SEED={seed}")
    assert redis.call("FLUSHALL") == b"OK"
    with Kvd(tmp_path) as server:
        both = Both(redis, module, server.client_port, seed)
        kinds = [kind] if kind != "all" else ["string", "hash", "list", "set", "zset", "generic"]
        if kind == "generic":
            kinds = ["string", "hash", "list", "set", "zset", "generic", "generic"]
        for _ in range(STEPS if kind == "all" else STEPS // 4):
            getattr(both, both.random.choice(kinds) + "_step")()
