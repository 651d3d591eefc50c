"""kvctl export, import, rollback and edit, and the guide to them and to render and run (test_kvctl_service.py)."""

import json
import os
import random
import re
import subprocess

import pytest

from configcase import ctl, run
from fakeserver import FakeServer
from kvcluster import HOST, KVCTL, ROOT, Cluster, kv, wait_until
from typecase import Types


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def types(cluster, request):
    types = Types(cluster, request.node.name.replace("[", "-").replace("]", ""))
    yield types
    types.close()


def state(types, prefix):
    """What is there, read by protobuf alone: key to (type, content)."""
    found = {}
    for pair in types.call(range=kv.Range(range=kv.KeyRange(start=prefix.encode(), special=kv.KeyRange.PREFIX))).kvs:
        key = pair.key
        content = {
            kv.TYPE_STRING: lambda: pair.value,
            kv.TYPE_COUNTER: lambda: pair.counter,
            kv.TYPE_HASH: lambda: {f.name: f.value for f in types.call(hash_get_all=kv.HashGetAll(key=key)).fields},
            kv.TYPE_LIST: lambda: list(types.call(list_range=kv.ListRange(key=key, last=-1)).elements),
            kv.TYPE_SET: lambda: set(types.call(set_members=kv.SetMembers(key=key)).elements),
            kv.TYPE_ZSET: lambda: {m.member: m.score for m in types.call(zset_range=kv.ZSetRange(
                key=key, span=kv.ZSetSpan(ranks=kv.ZSetSpan.Ranks(last=-1)))).members},
        }[pair.type]()
        found[key] = (pair.type, content)
    return found


def fill(types, prefix, chance):
    """Random keys of every type, some of bytes that are no text."""

    def some(least=1):
        kinds = [lambda: bytes(chance.randrange(256) for _ in range(chance.randrange(least, 12))),
                 lambda: chance.choice([b"true", b"- a", b"a: b", b"$hash", b"a\nb\n", b" a ", b"1e3",
                                        "gr\u00fc\u00df".encode(), b"null"])]
        return chance.choice(kinds)()

    for number in range(12):
        key = prefix.encode() + some()
        kind = number % 6
        types.call(delete=kv.Delete(keys=[key]))
        names = list({some() for _ in range(chance.randrange(1, 6))})
        if kind == 0:
            types.call(put=kv.Put(key=key, value=some(0)))
        elif kind == 1:
            types.call(counter_set=kv.CounterSet(key=key, value=chance.randrange(-2**63, 2**63)))
        elif kind == 2:
            types.call(hash_set=kv.HashSet(key=key, fields=[kv.HashField(name=name, value=some(0)) for name in names]))
        elif kind == 3:
            types.call(list_push=kv.ListPush(key=key, end=kv.LIST_RIGHT, elements=[some(0) for _ in range(5)]))
        elif kind == 4:
            types.call(set_add=kv.SetAdd(key=key, members=names))
        else:
            scores = [0.1, -1e300, 3, float("inf"), float("-inf")]
            types.call(zset_add=kv.ZSetAdd(key=key, members=[kv.ZSetMember(member=name, score=chance.choice(scores))
                                                             for name in names]))


# ---------------------------------------------------------------- export and import


@pytest.mark.parametrize("notation", ["yaml", "json"])
def test_round_trip(types, tmp_path, notation):
    prefix = types.key("")
    for seed in range(6):
        chance = random.Random(seed)
        types.call(delete=kv.Delete(ranges=[kv.KeyRange(start=prefix.encode(), special=kv.KeyRange.PREFIX)]))
        fill(types, prefix, chance)
        before = state(types, prefix)
        file = tmp_path / f"{seed}.{notation}"
        code, output, errors = run(types, "export", prefix, "--format", notation)
        assert code == 0 and errors == ""
        file.write_text(output)
        # Into nothing, and over something else.
        types.call(delete=kv.Delete(ranges=[kv.KeyRange(start=prefix.encode(), special=kv.KeyRange.PREFIX)]))
        if seed % 2:
            fill(types, prefix, random.Random(seed + 100))
        code, output, errors = run(types, "import", file, "--prefix", prefix, "--delete-missing")
        assert code == 0, (seed, errors)
        assert state(types, prefix) == before, f"seed {seed}, {file.read_text()}"
        assert run(types, "import", file) == (0, "nothing to change\n", "")


def test_by_hand(types, tmp_path):
    prefix = types.key("")
    file = tmp_path / "f.yaml"
    file.write_text(f"{prefix}:\n  config: {{theme: dark, port: 8080}}\n  hits: !counter 5\n  jobs: !list [a, b]\n")
    before = types.revision()
    code, output, _ = run(types, "import", file, "--dry-run")
    assert code == 0 and output == (f"+ {prefix}config/port: 8080\n+ {prefix}config/theme: dark\n"
                                    f"+ {prefix}hits: (counter) 5\n+ {prefix}jobs: (list of 2)\n  + a\n  + b\n"
                                    "4 created, 0 changed, 0 deleted (dry run: nothing was applied)\n")
    assert types.revision() == before
    assert run(types, "import", file)[:2] == (0, f"4 created, 0 changed, 0 deleted, revision {before + 1}\n")
    assert types.ctl("get", f"{prefix}config/theme") == "dark\n"
    # Only what is different is written, all at one revision.
    file.write_text(json.dumps({prefix: {"config": {"theme": "light", "port": 8080}, "jobs": {"$list": ["a", "b", "c"]}}}))
    code, output, _ = run(types, "import", file, "--diff")
    assert code == 0 and output == (f"~ {prefix}config/theme:\n  - dark\n  + light\n~ {prefix}jobs: (list)\n  + c\n"
                                    f"0 created, 2 changed, 0 deleted, revision {before + 2}\n")
    assert types.json("get", f"{prefix}config/port")["mod_revision"] == before + 1
    # JSON output, and standard input.
    code, output, _ = run(types, "-o", "json", "import", "-", stdin=f"{prefix}hits: !counter 6\n")
    assert code == 0 and json.loads(output) == {"created": 0, "changed": 1, "deleted": 0, "applied": True,
                                                "revision": before + 3}
    code, output, _ = run(types, "-o", "json", "import", "-", "--dry-run", stdin=f"{prefix}hits: x\n{prefix}new: !set [m]\n")
    assert code == 0 and json.loads(output) == {"changes": [
        {"key": f"{prefix}hits", "change": "change", "from": {"$counter": 6}, "to": "x"},
        {"key": f"{prefix}new", "change": "create", "to": {"$set": ["m"]}}],
        "created": 1, "changed": 1, "deleted": 0, "applied": False, "revision": before + 3}
    # The past can be exported as well.
    assert "theme: dark" in run(types, "export", prefix, "--at", before + 1)[1]


@pytest.mark.parametrize("text,message", [
    ("a: b\nc: [\n", "line 3: "),
    ("a: b\n  c: d\n", "line 2: "),
    ("{\"a\": 1,\n \"b\": }\n", "line 2: "),
    ("a: b\nq: [x]\n", "line 2: which type?"),
    ("a: b\nn: !counter x\n", "line 2: $counter wants a whole number, not \"x\""),
    ("a: b\na: c\n", "the key \"a\" is there twice, on lines 1 and 2"),
    ("a: *x\n", "line 1: "),
])
def test_syntax_error(types, tmp_path, text, message):
    before = types.revision()
    (tmp_path / "f.yaml").write_text(text)
    code, output, errors = run(types, "import", tmp_path / "f.yaml")
    assert code == 1 and output == ""
    assert f"kvctl import: {tmp_path}/f.yaml" in errors and message in errors
    assert types.revision() == before


def test_wrong_words(types, tmp_path):
    (tmp_path / "f").write_text("a: b\n")
    cases = [
        (["import", tmp_path / "f", "--delete-missing"], 1, "wants --prefix P, or --all"),
        (["import", tmp_path / "none"], 6, f"{tmp_path}/none: No such file"),
        (["export", "--format", "xml"], 1, "--format wants json or yaml, not \"xml\""),
        (["rollback", "k"], 1, "rollback wants --to REVISION"),
        (["rollback", "--to", "1"], 1, "rollback wants a KEY"),
        (["rollback", "k", "--prefix", "p", "--to", "1"], 1, "rollback wants a KEY"),
        (["rollback", "k", "--to", "x"], 1, "--to wants REVISION, not \"x\""),
        (["render", "t", "f", "--watch", "--once"], 1, "one of --watch and --once"),
        (["run", "--", "true"], 1, "run wants --prefix P"),
        (["run", "--prefix", "p", "--on-change", "signal:NONE", "--", "true"], 1, "--on-change wants"),
        (["run", "--prefix", "p", "--on-change", "stop", "--", "true"], 1, "--on-change wants"),
        (["run", "--prefix", "p", "--grace", "5", "--", "true"], 1, "--grace wants TIME"),
        (["run", *["--prefix", "p"] * 17, "--", "true"], 1, "too many prefixes"),
    ]
    for words, code, message in cases:
        got, output, errors = run(types, *words)
        assert (got, output) == (code, "") and message in errors, (words, got, errors)


def test_parts_and_missing(types, tmp_path):
    prefix = types.key("")
    file = tmp_path / "f.yaml"
    file.write_text(f"{prefix}a/1: new\n{prefix}b/1: new\n")
    for key in ("a/1", "a/2", "b/1", "b/2"):
        types.ctl("put", prefix + key, "old")
    code, output, _ = run(types, "import", file, "--prefix", f"{prefix}a/", "--delete-missing", "--diff")
    assert code == 0 and output.startswith(f"~ {prefix}a/1:\n  - old\n  + new\n- {prefix}a/2: old\n"
                                           "0 created, 1 changed, 1 deleted")
    assert state(types, prefix) == {f"{prefix}{key}".encode(): (kv.TYPE_STRING, value) for key, value in
                                    [("a/1", b"new"), ("b/1", b"old"), ("b/2", b"old")]}


def test_too_large(types, tmp_path):
    prefix = types.key("")
    file = tmp_path / "f.yaml"
    file.write_text("".join(f"{prefix}{part}/{number}: v\n" for part in "ab" for number in range(2500)))
    before = types.revision()
    code, _, errors = run(types, "import", file)
    assert code == 4 and "keys of one transaction: 5000, at most 4096; nothing was applied" in errors
    assert "one --prefix P after the other" in errors and types.revision() == before
    for part in "ab":
        assert run(types, "import", file, "--prefix", f"{prefix}{part}/")[0] == 0
    assert types.ctl("count", "--prefix", prefix) == "5000\n"
    assert types.revision() == before + 2
    file.write_text(json.dumps({f"{prefix}big/{number}": "x" * 900000 for number in range(20)}))
    code, _, errors = run(types, "import", file)
    assert code == 4 and "bytes of one transaction" in errors and types.revision() == before + 2


def test_another_type(types):
    key = types.key("k")
    contents = {"text": (kv.TYPE_STRING, b"text"), "!counter -1": (kv.TYPE_COUNTER, -1),
                "!hash {a: b}": (kv.TYPE_HASH, {b"a": b"b"}), "!list [a, a]": (kv.TYPE_LIST, [b"a", b"a"]),
                "!set [a, b]": (kv.TYPE_SET, {b"a", b"b"}),
                "!zset {a: 1, b: -inf}": (kv.TYPE_ZSET, {b"a": 1, b"b": float("-inf")}),
                "!list [b, a]": (kv.TYPE_LIST, [b"b", b"a"]), "!list [b]": (kv.TYPE_LIST, [b"b"]),
                "!hash {a: c, d: e}": (kv.TYPE_HASH, {b"a": b"c", b"d": b"e"}), "!set [b, c]": (kv.TYPE_SET, {b"b", b"c"}),
                "!zset {b: 2, c: 0.1}": (kv.TYPE_ZSET, {b"b": 2, b"c": 0.1})}
    pairs = [(a, b) for a in contents for b in contents if a != b]
    random.Random(1).shuffle(pairs)
    for start, end in pairs[:60]:
        for text in (start, end):
            before = types.revision()
            code, _, errors = run(types, "import", "-", stdin=f"{key}: {text}\n")
            assert code == 0, errors
            assert state(types, key) == {key.encode(): contents[text]}, (start, end)
            assert types.revision() <= before + 1


def test_limiters_are_left_alone(types, tmp_path):
    prefix = types.key("")
    types.ctl("limit", f"{prefix}limit", "--rate", "5/h")
    types.ctl("put", f"{prefix}k", "v")
    code, output, errors = run(types, "export", prefix)
    assert code == 0 and output == f"{prefix}k: v\n" and "left alone: 1 rate limiters" in errors
    (tmp_path / "f").write_text(f"{prefix}k: w\n")
    assert run(types, "import", tmp_path / "f", "--prefix", prefix, "--delete-missing")[0] == 0
    assert types.ctl("type", f"{prefix}limit") == "limiter\n"


# ---------------------------------------------------------------- time to live, by a server that is played


class Timed:
    """One key that ends, and whoever changes keys finds that it was changed."""

    def __init__(self, succeeded):
        self.succeeded = succeeded
        self.sent = []

    def answer(self, request):
        pair = kv.KeyValue(key=b"k", value=b"v", type=kv.TYPE_STRING, mod_revision=5, version=1, lease_id=7,
                           expires_at_ms=9000)
        command = request.WhichOneof("command")
        if command == "exists":
            return kv.Reply(revision=8, exists=kv.ExistsResult(present=[False]))
        if command == "range":
            if request.range.at_revision == 3:
                pair.value = b"old"
            return kv.Reply(revision=8, range=kv.RangeResult(kvs=[pair], count=1, revision=8))
        if command == "txn" and request.txn.compares:
            self.sent.append(request.txn)
            return kv.Reply(revision=9, txn=kv.TxnResult(succeeded=self.succeeded))
        found = [pair] if not self.sent else [kv.KeyValue(key=b"k", value=b"w", type=kv.TYPE_STRING, mod_revision=6)]
        return kv.Reply(revision=8, txn=kv.TxnResult(succeeded=True, replies=[
            kv.Reply(range=kv.RangeResult(kvs=found if op.range.range.start == b"k" else [], revision=8))
            for op in request.txn.then]))


STATUS = kv.StatusResult(node_id=1, leader_id=1, role="leader", state="serving", cluster_time_ms=4000)


def test_time_to_live():
    timed = Timed(True)
    with FakeServer(timed.answer, STATUS) as server:
        assert ctl(f"{HOST}:{server.port}", "export")[:2] == (0, "k:\n  $string: v\n  $ttl_ms: 5000\n  $lease: 7\n")
        code, output, _ = ctl(f"{HOST}:{server.port}", "import", "-",
                              stdin="k: {$string: other, $ttl_ms: 1, $lease: 9}\nnew: {$counter: 5, $ttl_ms: 1000}\n")
    assert code == 0 and output == "1 created, 1 changed, 0 deleted, revision 9\n"
    (txn,) = timed.sent
    assert {(compare.range.start, compare.mod_revision) for compare in txn.compares} == {(b"k", 5), (b"new", 0)}
    put, counter, expire = txn.then
    assert put.put == kv.Put(key=b"k", value=b"other", keep=True)
    assert counter.counter_set == kv.CounterSet(key=b"new", value=5)
    assert expire.expire == kv.Expire(key=b"new", ttl_ms=1000)


@pytest.mark.parametrize("words,scope", [
    (["k"], kv.KeyRange(start=b"k")),
    (["k/"], kv.KeyRange(start=b"k/", special=kv.KeyRange.PREFIX)),
    (["--prefix", "k"], kv.KeyRange(start=b"k", special=kv.KeyRange.PREFIX)),
    (["--prefix", ""], kv.KeyRange(special=kv.KeyRange.ALL)),
])
def test_rollback_is_conditional(words, scope):
    timed = Timed(True)
    with FakeServer(timed.answer, STATUS) as server:
        assert ctl(f"{HOST}:{server.port}", "rollback", *words, "--to", "3")[0] == 0
    (txn,) = timed.sent
    changed, nothing_newer = txn.compares
    assert changed == kv.Compare(range=kv.KeyRange(start=b"k"), comparison=kv.COMPARE_EQUAL, mod_revision=5)
    assert nothing_newer == kv.Compare(range=scope, comparison=kv.COMPARE_LESS_EQUAL, mod_revision=8)
    # What it has of its own time is kept.
    assert [op.put for op in txn.then] == [kv.Put(key=b"k", value=b"old", keep=True)]


def test_changed_meanwhile():
    timed = Timed(False)
    with FakeServer(timed.answer, STATUS) as server:
        code, output, errors = ctl(f"{HOST}:{server.port}", "import", "-", stdin="k: other\nnew: x\n")
    assert code == 2 and output == "" and len(timed.sent) == 1
    assert errors == "kvctl import: changed by somebody else meanwhile, nothing was applied:\n  k\n"


def test_time_to_live_of_keys(types):
    """What is there keeps its time whatever import makes of it; what is new gets the file's."""
    prefix = types.key("")
    keys = [f"{prefix}{name}".encode() for name in ("text", "list", "hash")]
    lease = types.call(lease_grant=kv.LeaseGrant(ttl_ms=600000)).lease_id
    types.call(put=kv.Put(key=keys[0], value=b"1", ttl_ms=600000))
    types.call(list_push=kv.ListPush(key=keys[1], elements=[b"1", b"2"]))
    types.call(expire=kv.Expire(key=keys[1], ttl_ms=600000))
    types.call(hash_set=kv.HashSet(key=keys[2], fields=[kv.HashField(name=b"a", value=b"1")]))
    types.call(expire=kv.Expire(key=keys[2], lease_id=lease))
    document = json.loads(run(types, "export", prefix, "--format", "json")[1])
    assert 0 < document[f"{prefix}text"]["$ttl_ms"] <= 600000 and 0 < document[f"{prefix}list"]["$ttl_ms"] <= 600000
    assert document[f"{prefix}hash"] == {"$hash": {"a": "1"}, "$lease": lease}
    document[f"{prefix}text"] = "other"
    document[f"{prefix}list"] = {"$list": ["3"]}
    document[f"{prefix}hash"] = {"$hash": {"b": "2"}}
    document[f"{prefix}new"] = {"$set": ["m"], "$ttl_ms": 300000}
    code, output, errors = run(types, "import", "-", stdin=json.dumps(document))
    assert code == 0 and output.startswith("1 created, 3 changed"), errors
    assert state(types, prefix) == {keys[0]: (kv.TYPE_STRING, b"other"), keys[1]: (kv.TYPE_LIST, [b"3"]),
                                    keys[2]: (kv.TYPE_HASH, {b"b": b"2"}), f"{prefix}new".encode(): (kv.TYPE_SET, {b"m"})}
    assert 300000 < types.call(ttl=kv.Ttl(key=keys[0])).remaining_ms <= 600000
    assert 300000 < types.call(ttl=kv.Ttl(key=keys[1])).remaining_ms <= 600000
    assert types.call(ttl=kv.Ttl(key=keys[2])).lease_id == lease
    assert 0 < types.call(ttl=kv.Ttl(key=f"{prefix}new".encode())).remaining_ms <= 300000


def test_time_to_live_of_fields(types):
    """Export and import give back what remains; a field whose value is as it was keeps its time."""
    prefix = types.key("")
    key = f"{prefix}h"
    types.call(hash_set=kv.HashSet(key=key.encode(), fields=[
        kv.HashField(name=b"text", value=b"1", ttl_ms=600000), kv.HashField(name=b"bytes", value=b"\xff", ttl_ms=600000),
        kv.HashField(name=b"stays", value=b"3")]))

    def times():
        fields = types.call(hash_get_all=kv.HashGetAll(key=key.encode())).fields
        return {field.name.decode(): field.ttl_ms for field in fields}

    for notation in ("json", "yaml"):
        _, text, _ = run(types, "export", prefix, "--format", notation)
        before = times()
        if notation == "json":
            fields = json.loads(text)[key]["$hash"]
            assert fields["stays"] == "3" and fields["text"]["$string"] == "1" and fields["bytes"]["$base64"] == "/w=="
            assert all(0 < fields[name]["$ttl_ms"] <= 600000 for name in ("text", "bytes"))
        types.call(delete=kv.Delete(keys=[key.encode()]))
        assert run(types, "import", "-", stdin=text)[0] == 0
        assert times()["stays"] == 0
        assert all(0 < times()[name] <= before[name] + 5000 for name in ("text", "bytes"))
    document = {key: {"$hash": {"text": {"$string": "1", "$ttl_ms": 5}, "bytes": {"$string": "new", "$ttl_ms": 300000},
                                "stays": "3"}}}
    assert run(types, "import", "-", stdin=json.dumps(document))[0] == 0
    assert times()["text"] > 300000 and 0 < times()["bytes"] <= 300000 and times()["stays"] == 0


def test_rollback_of_fields_with_a_time(types):
    """A field that had an end comes back without one, as a key does: what remained of it, if only a millisecond, is over."""
    key = types.key("h")
    name = key.encode()
    types.call(hash_set=kv.HashSet(key=name, fields=[
        kv.HashField(name=b"ended", value=b"1", ttl_ms=50), kv.HashField(name=b"deleted", value=b"2", ttl_ms=600000),
        kv.HashField(name=b"there", value=b"3", ttl_ms=600000), kv.HashField(name=b"stays", value=b"4")]))
    back_to = types.revision()
    wait_until(lambda: types.call(hash_len=kv.HashLen(key=name)).count == 3, "the field has ended")
    types.call(hash_delete=kv.HashDelete(key=name, fields=[b"deleted"]))
    assert run(types, "rollback", key, "--to", back_to)[0] == 0
    fields = {field.name: field for field in types.call(hash_get_all=kv.HashGetAll(key=name)).fields}
    assert {field: fields[field].value for field in fields} == {b"ended": b"1", b"deleted": b"2", b"there": b"3",
                                                                b"stays": b"4"}
    assert {field: fields[field].ttl_ms > 0 for field in fields} == {b"ended": False, b"deleted": False, b"there": True,
                                                                     b"stays": False}


# ---------------------------------------------------------------- history and rollback


def test_rollback(types):
    prefix = types.key("")
    fill(types, prefix, random.Random(7))
    types.ctl("put", f"{prefix}k", "one")
    then = types.revision()
    past = state(types, prefix)
    types.ctl("del", "--prefix", prefix)
    fill(types, prefix, random.Random(8))
    types.ctl("put", f"{prefix}k", "two")
    types.ctl("put", f"{prefix}since", "x")
    present = state(types, prefix)
    # One key, and what it says.
    assert run(types, "rollback", f"{prefix}k", "--to", then, "--dry-run")[:2] == (
        0, f"~ {prefix}k:\n  - two\n  + one\n0 created, 1 changed, 0 deleted (dry run: nothing was applied)\n")
    assert state(types, prefix) == present
    before = types.revision()
    code, output, _ = run(types, "rollback", prefix, "--to", then, "--diff")
    assert code == 0 and f"- {prefix}since: x\n" in output and output.endswith(f", revision {before + 1}\n")
    assert state(types, prefix) == past and types.revision() == before + 1
    # A prefix by its option, and a key that was deleted.
    assert run(types, "rollback", "--prefix", prefix, "--to", before)[0] == 0
    assert state(types, prefix) == present
    assert run(types, "rollback", f"{prefix}since", "--to", then)[0] == 0
    assert run(types, "rollback", f"{prefix}since", "--to", then)[:2] == (0, "nothing to change\n")
    # The history of a key tells where to go back to.
    versions = types.json("history", f"{prefix}k", "--limit", "3", "--desc")["versions"]
    assert [version.get("value") for version in versions] == ["two", "one", "two"]


def test_rollback_beyond(tmp_path):
    with Cluster(tmp_path, nodes=1) as cluster:
        types = Types(cluster, "t")
        for number in range(5):
            types.ctl("put", "k", str(number))
        types.ctl("compact", "4")
        code, output, errors = run(types, "rollback", "k", "--to", "2")
        assert code == 4 and output == "" and "COMPACTED" in errors and "the oldest that can be read is 4" in errors
        code, _, errors = run(types, "rollback", "k", "--to", "99")
        assert code == 4 and "FUTURE_REVISION" in errors and "99" in errors
        assert types.ctl("get", "k") == "4\n"
        types.close()


# ---------------------------------------------------------------- edit


def edit(types, tmp_path, editor, *words, stdin="", code=0, session=False):
    directory = tmp_path / "edited"
    directory.mkdir(exist_ok=True)
    result = run(types, "edit", types.key(""), *words, stdin=stdin, EDITOR=editor, VISUAL="", TMPDIR=str(directory),
                 session=session)
    assert result[0] == code, result
    return result[1], result[2], list(directory.iterdir())


def test_edit(types, tmp_path):
    prefix = types.key("")
    types.ctl("put", f"{prefix}a", "1")
    types.ctl("rpush", f"{prefix}l", "x", "y")
    output, errors, left = edit(types, tmp_path, "sed -i s/1/one/", stdin="y\n")
    assert output.startswith(f"~ {prefix}a:\n  - 1\n  + one\napply? [y/n] 0 created, 1 changed")
    assert errors == "" and left == []
    assert edit(types, tmp_path, "true")[0] == "nothing to change\n"
    # An emptied file is a way out, not a deletion.
    assert edit(types, tmp_path, "truncate -s 0")[0] == "nothing to change\n"
    output, _, _ = edit(types, tmp_path, f"sed -i '\\,^{prefix}a,d'", "--yes")
    assert output.startswith(f"- {prefix}a: one\n0 created, 0 changed, 1 deleted")
    assert state(types, prefix) == {f"{prefix}l".encode(): (kv.TYPE_LIST, [b"x", b"y"])}
    # Only its owner may read it.
    mode = tmp_path / "mode"
    edit(types, tmp_path, f"stat -c %a >{mode}")
    assert mode.read_text() == "600\n"


def test_edit_refused(types, tmp_path):
    prefix = types.key("")
    types.ctl("put", f"{prefix}a", "1")
    before = types.revision()
    output, errors, left = edit(types, tmp_path, "sed -i s/1/2/", stdin="n\n", code=2)
    assert "nothing was applied" in output and f"kept in {left[0]}" in errors
    left[0].unlink()
    # A syntax error: once more, and again no YAML, then it is given up.
    output, errors, left = edit(types, tmp_path, "sh -c 'echo \"x: [\" >>\"$1\"' -", stdin="y\nn\n", code=1)
    assert output.count("edit again?") == 2 and errors.count("line ") == 2 and "kept in" in errors and len(left) == 1
    left[0].unlink()
    # The second time it is right.
    script = tmp_path / "editor"
    script.write_text(f"#!/bin/sh\nif [ -e {tmp_path}/second ]; then echo '{prefix}a: right' >$1\n"
                      f"else touch {tmp_path}/second; echo '[' >>$1; fi\n")
    script.chmod(0o755)
    output, errors, left = edit(types, tmp_path, str(script), stdin="y\ny\n")
    assert "edit again?" in output and "apply?" in output and left == []
    assert types.ctl("get", f"{prefix}a") == "right\n" and types.revision() == before + 1
    output, errors, left = edit(types, tmp_path, "echo 'elsewhere: x' >>", "--yes", code=1)
    assert f"the key is not below \"{prefix}\"" in errors
    left[0].unlink()
    output, errors, left = edit(types, tmp_path, "false", code=6)
    assert "\"false {}\" ended with 1" in errors
    left[0].unlink()


def test_edit_and_ctrl_c(types, tmp_path):
    """Ctrl-C in the editor is the editor's: kvctl waits for it all the same, as git does."""
    prefix = types.key("")
    types.ctl("put", f"{prefix}a", "1")
    script = tmp_path / "editor"
    script.write_text("#!/bin/sh\ntrap : INT\nkill -INT 0\nkill -INT 0\nsed -i s/1/2/ $1\n")
    script.chmod(0o755)
    output, errors, left = edit(types, tmp_path, str(script), "--yes", session=True)
    assert "1 changed" in output and errors == "" and left == []
    assert types.ctl("get", f"{prefix}a") == "2\n"
    # Not that of one who does not see to it, nor TERM.
    output, errors, left = edit(types, tmp_path, "kill -INT $$;", "--yes", code=6, session=True)
    assert "kept in" in errors
    left[0].unlink()
    script.write_text("#!/bin/sh\ntrap : TERM\nkill -TERM 0\nsed -i s/2/3/ $1\n")
    output, errors, left = edit(types, tmp_path, str(script), "--yes", code=6, session=True)
    assert f"kept in {left[0]}" in errors and types.ctl("get", f"{prefix}a") == "2\n"


def test_edit_changed_meanwhile(types, tmp_path):
    prefix = types.key("")
    types.ctl("put", f"{prefix}a", "1")
    types.ctl("put", f"{prefix}b", "1")
    editor = f"{KVCTL} -e {types.cluster.endpoints()} put {prefix}a theirs && sed -i s/1/mine/"
    output, errors, left = edit(types, tmp_path, editor, "--yes", code=2)
    assert errors.startswith("kvctl edit: changed by somebody else meanwhile, nothing was applied:\n"
                             f"  {prefix}a\nkvctl edit: what")
    assert f"{prefix}b: \"mine\"" in left[0].read_text() and str(left[0]) in errors
    assert state(types, prefix) == {f"{prefix}a".encode(): (kv.TYPE_STRING, b"theirs"),
                                    f"{prefix}b".encode(): (kv.TYPE_STRING, b"1")}


def test_guide(cluster, tmp_path):
    """docs/guide/configuration.md as it stands: each block runs, and the last lines are what the keys say."""
    page = (ROOT / "docs" / "guide" / "configuration.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    result = subprocess.run(["bash", "-ec", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                            env={**os.environ, "KVCTL_ENDPOINTS": cluster.endpoints(), "KVCTL_HISTORY": "",
                                 "PATH": f"{os.path.dirname(KVCTL)}:{os.environ['PATH']}"})
    assert result.returncode == 0 and result.stderr == "", result
    assert result.stdout.endswith("""db.example
changed: app.conf
host = db.example
pool = 10
motd = "it's on"
host = db.example
port = 5432
tls = off
connecting to db.example:5432
"""), result.stdout
    assert json.loads((tmp_path / "cache.json").read_text()) == {"app/db/host": "db.example", "app/db/port": "5432"}


@pytest.mark.parametrize("command", ["export", "import", "edit", "rollback", "history", "render", "run"])
def test_help(command):
    result = subprocess.run([KVCTL, "help", command], capture_output=True, text=True, timeout=60, check=True)
    assert f"Usage: kvctl {command} " in result.stdout and "Example: " in result.stdout
