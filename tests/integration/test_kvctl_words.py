"""What kvctl makes of its words and of the answers, against a server that the test plays."""

import json
import os
import subprocess

import pytest
from google.protobuf import text_format

from fakeserver import FakeServer
from kvcluster import HOST, KVCTL, kv


def run(reply, *words, stdin="", code=0):
    """Request that was sent (text, one line; None: none), and what was printed."""
    with FakeServer(lambda request: kv.Reply.FromString(reply.SerializeToString())) as server:
        result = subprocess.run([KVCTL, "-e", f"{HOST}:{server.port}", *words], input=stdin, capture_output=True,
                                text=True, timeout=60, env={**os.environ, "KVCTL_HISTORY": ""})
    assert result.returncode == code, (words, result)
    if not server.requests:
        return None, result.stdout, result.stderr
    request = server.requests[0]
    request.id = request.deadline_ms = 0
    request.ClearField("session")
    return text_format.MessageToString(request, as_one_line=True), result.stdout, result.stderr


def canonical(text):
    """As this version of protobuf writes it."""
    return text_format.MessageToString(text_format.Parse(text, kv.Request()), as_one_line=True)


def reply(**result):
    return kv.Reply(revision=7, **result)


COUNT = kv.CountResult(count=3)
NUMBER = kv.CounterResult(value=-4)
DONE = kv.DoneResult(done=True)
TWO = kv.ElementsResult(elements=[b"a", b"(nil)"])
NOTHING = kv.ElementsResult()
PRESENT = kv.PresentResult(present=[True, False])
FIELDS = kv.HashFieldsResult(fields=[kv.HashField(name=b"a", value=b"x\ty"), kv.HashField(name=b"b\xff")])
MEMBERS = kv.ZSetMembersResult(members=[kv.ZSetMember(member=b"p", score=0.1),
                                        kv.ZSetMember(member=b"q", score=float("inf"))])
STORED = kv.ElementsResult(stored=3)
ZSTORED = kv.ZSetMembersResult(stored=3)

LEASE = kv.LeaseResult(lease_id=7, ttl_ms=30000)
RENEWED = kv.LeaseKeepAliveResult(leases=[LEASE, kv.LeaseResult(lease_id=9)])
LEASE_INFO = kv.LeaseInfoResult(lease_id=7, ttl_ms=30000, remaining_ms=1234, keys=[b"a", b"b\n"], key_count=2)
LEASES = kv.LeaseListResult(lease_ids=[3, 7])
TOPICS = kv.TopicListResult(topics=[kv.TopicInfo(topic=b"chat", messages=2, bytes=9, subscribers=1, newest_revision=5)])

# Words, the request that they are, the reply, what is printed, exit code.
CASES = [
    ("put k v --ttl 2h", 'put { key: "k" value: "v" ttl_ms: 7200000 }', reply(put=kv.PutResult(version=1)),
     "OK, revision 7\n", 0),
    ("put k v --lease 7", 'put { key: "k" value: "v" lease_id: 7 }', reply(put=kv.PutResult(version=1)), "OK, revision 7\n", 0),
    ("put k v --keep", 'put { key: "k" value: "v" keep: true }', reply(put=kv.PutResult(version=1)), "OK, revision 7\n", 0),
    ("hset k a 1 --ttl 500ms", 'hash_set { key: "k" fields { name: "a" value: "1" ttl_ms: 500 } }', reply(hash_set=COUNT),
     "3\n", 0),
    ("incr k --ttl 1d", 'counter_add { key: "k" delta: 1 ttl_ms: 86400000 }', reply(counter_add=NUMBER), "-4\n", 0),
    ("expire k 5s", 'expire { key: "k" ttl_ms: 5000 }', reply(expire=DONE), "OK\n", 0),
    ("expire k --lease 7", 'expire { key: "k" lease_id: 7 }', reply(expire=DONE), "OK\n", 0),
    ("persist k", 'persist { key: "k" }', reply(persist=DONE), "OK\n", 0),
    ("ttl k", 'ttl { key: "k" }', reply(ttl=kv.TtlResult(remaining_ms=4120)), "4120ms\n", 0),
    ("ttl k", 'ttl { key: "k" }', reply(ttl=kv.TtlResult(remaining_ms=120000, lease_id=7)), "2m, lease 7\n", 0),
    ("ttl k", 'ttl { key: "k" }', reply(ttl=kv.TtlResult(remaining_ms=-1)), "(none)\n", 0),
    ("-o value ttl k", 'ttl { key: "k" }', reply(ttl=kv.TtlResult(remaining_ms=5000)), "5000\n", 0),
    ("lease grant 30s", 'lease_grant { ttl_ms: 30000 }', reply(lease_grant=LEASE), "7\n", 0),
    ("lease grant 30s --id 7", 'lease_grant { lease_id: 7 ttl_ms: 30000 }', reply(lease_grant=LEASE), "7\n", 0),
    ("lease grant 30s --json", 'lease_grant { ttl_ms: 30000 }', reply(lease_grant=LEASE),
     '{"lease_id":7,"ttl_ms":30000}\n', 0),
    ("lease revoke 7", 'lease_revoke { lease_id: 7 }', reply(lease_revoke=COUNT), "3\n", 0),
    ("lease keepalive 7 9", 'lease_keep_alive { lease_ids: 7 lease_ids: 9 }', reply(lease_keep_alive=RENEWED),
     "7\t30s\n9\t(ended)\n", 2),
    ("lease info 7", 'lease_info { lease_id: 7 with_keys: true }', reply(lease_info=LEASE_INFO),
     "lease 7, ttl 30s, remaining 1234ms, 2 keys\na\nb\\n\n", 0),
    ("lease list 2 --limit 2", 'lease_list { after_id: 2 limit: 2 }', reply(lease_list=LEASES), "3\n7\n", 0),
    ("publish t hello", 'publish { topic: "t" payload: "hello" }', reply(publish=kv.PublishResult(revision=7)),
     "OK, revision 7\n", 0),
    ("topics c", 'topic_list { prefix: "c" }', reply(topic_list=TOPICS),
     "chat\t2 messages, 9 bytes, 1 subscribers here, newest at revision 5\n", 0),
    ("incr k", 'counter_add { key: "k" delta: 1 }', reply(counter_add=NUMBER), "-4\n", 0),
    ("decr k --min 0 --max -1 --initial 5", 'counter_add { key: "k" delta: -1 min { } max { value: -1 } initial: 5 }',
     reply(counter_add=NUMBER), "-4\n", 0),
    ("incrby k -9223372036854775808", 'counter_add { key: "k" delta: -9223372036854775808 }', reply(counter_add=NUMBER),
     "-4\n", 0),
    ("decrby k 2", 'counter_add { key: "k" delta: -2 }', reply(counter_add=NUMBER), "-4\n", 0),
    ("counter k --at-revision 3", 'counter_get { key: "k" at_revision: 3 }', reply(counter_get=NUMBER), "-4\n", 0),
    ("counter k -4", 'counter_set { key: "k" value: -4 }', reply(counter_set=NUMBER), "-4\n", 0),
    ("limit k --rate 100/s --burst 20", 'limiter_acquire { key: "k" rate: 100 period_ms: 1000 burst: 20 n: 1 }',
     reply(limiter_acquire=kv.LimiterResult(allowed=True, remaining=19)), "allowed, 19 remaining\n", 0),
    ("limit k --rate 3/2h --permits 2", 'limiter_acquire { key: "k" rate: 3 period_ms: 7200000 burst: 3 n: 2 }',
     reply(limiter_acquire=kv.LimiterResult(retry_after_ms=40)), "refused, 0 remaining, retry after 40 ms\n", 2),
    ("hset k a 1 b 2", 'hash_set { key: "k" fields { name: "a" value: "1" } fields { name: "b" value: "2" } }',
     reply(hash_set=COUNT), "3\n", 0),
    ("hset --nx k a 1", 'hash_set { key: "k" fields { name: "a" value: "1" } if_absent: true }', reply(hash_set=COUNT),
     "3\n", 0),
    ("hget k a", 'hash_get { key: "k" fields: "a" }', reply(hash_get=kv.HashGetResult(present=[True], values=[b"(nil)"])),
     "\\(nil)\n", 0),
    ("hget k a", 'hash_get { key: "k" fields: "a" }', reply(hash_get=kv.HashGetResult(present=[False], values=[b""])),
     "(nil)\n", 2),
    ("hmget k a b --rev 4", 'hash_get { key: "k" fields: "a" fields: "b" at_revision: 4 }',
     reply(hash_get=kv.HashGetResult(present=[True, False], values=[b"x", b""])), "a\tx\nb\t(nil)\n", 0),
    ("hgetall k", 'hash_get_all { key: "k" }', reply(hash_get_all=FIELDS), "a\tx\\ty\nb\\xff\t\n", 0),
    ("hscan k --cursor 6162 --limit 2", 'hash_scan { key: "k" cursor: "ab" limit: 2 }', reply(hash_scan=FIELDS),
     "a\tx\\ty\nb\\xff\t\n", 0),
    ("hdel k a b", 'hash_delete { key: "k" fields: "a" fields: "b" }', reply(hash_delete=COUNT), "3\n", 0),
    ("hexists k a b", 'hash_exists { key: "k" fields: "a" fields: "b" }', reply(hash_exists=PRESENT), "a\tyes\nb\tno\n", 2),
    ("hlen k --at 2", 'hash_len { key: "k" at_revision: 2 }', reply(hash_len=COUNT), "3\n", 0),
    ("hincrby k a -1", 'hash_add { key: "k" field: "a" delta: -1 }', reply(hash_add=NUMBER), "-4\n", 0),
    ("lpush k a b", 'list_push { key: "k" elements: "a" elements: "b" }', reply(list_push=COUNT), "3\n", 0),
    ("rpush --xx k a", 'list_push { key: "k" end: LIST_RIGHT elements: "a" if_present: true }', reply(list_push=COUNT),
     "3\n", 0),
    ("lpop k", 'list_pop { key: "k" }', reply(list_pop=TWO), "a\n", 0),
    ("lpop k", 'list_pop { key: "k" }', reply(list_pop=NOTHING), "(nil)\n", 2),
    ("rpop k 2", 'list_pop { key: "k" end: LIST_RIGHT count: 2 }', reply(list_pop=TWO), "a\n\\(nil)\n", 0),
    ("blpop k 2", 'list_pop { key: "k" block_ms: 2000 }', reply(list_pop=TWO), "a\n", 0),
    ("brpop k 500ms", 'list_pop { key: "k" end: LIST_RIGHT block_ms: 500 }', kv.Reply(code=kv.DEADLINE, message="none came"),
     "(nil)\n", 2),
    ("lrange k 0 -1", 'list_range { key: "k" last: -1 }', reply(list_range=TWO), "a\n\\(nil)\n", 0),
    ("lrange k 0 -1", 'list_range { key: "k" last: -1 }', reply(list_range=NOTHING), "", 0),
    ("lindex k -1", 'list_index { key: "k" index: -1 }', reply(list_index=TWO), "a\n", 0),
    ("lset k 1 x", 'list_set { key: "k" index: 1 element: "x" }', reply(list_set=DONE), "OK\n", 0),
    ("llen k", 'list_len { key: "k" }', reply(list_len=COUNT), "3\n", 0),
    ("linsert k after p e", 'list_insert { key: "k" pivot: "p" element: "e" after: true }', reply(list_insert=COUNT),
     "3\n", 0),
    ("lrem k -2 e", 'list_remove { key: "k" element: "e" count: -2 }', reply(list_remove=COUNT), "3\n", 0),
    ("ltrim k 1 -2", 'list_trim { key: "k" first: 1 last: -2 }', reply(list_trim=COUNT), "3\n", 0),
    ("lmove a b right left", 'list_move { key: "a" from: LIST_RIGHT to: "b" }', reply(list_move=TWO), "a\n", 0),
    ("sadd k a b", 'set_add { key: "k" members: "a" members: "b" }', reply(set_add=COUNT), "3\n", 0),
    ("srem k a", 'set_remove { key: "k" members: "a" }', reply(set_remove=COUNT), "3\n", 0),
    ("sismember k a", 'set_has { key: "k" members: "a" }', reply(set_has=kv.PresentResult(present=[True])), "yes\n", 0),
    ("smismember k a b", 'set_has { key: "k" members: "a" members: "b" }', reply(set_has=PRESENT), "a\tyes\nb\tno\n", 2),
    ("smembers k --limit 2", 'set_members { key: "k" limit: 2 }', reply(set_members=TWO), "a\n\\(nil)\n", 0),
    ("scard k", 'set_len { key: "k" }', reply(set_len=COUNT), "3\n", 0),
    ("spop k", 'set_pop { key: "k" }', reply(set_pop=TWO), "a\n", 0),
    ("srandmember k 2", 'set_random { key: "k" count: 2 }', reply(set_random=TWO), "a\n\\(nil)\n", 0),
    ("sunion a b", 'set_combine { keys: "a" keys: "b" }', reply(set_combine=TWO), "a\n\\(nil)\n", 0),
    ("sinter a b", 'set_combine { combination: COMBINE_INTERSECTION keys: "a" keys: "b" }', reply(set_combine=NOTHING),
     "", 0),
    ("sdiffstore d a b", 'set_combine { combination: COMBINE_DIFFERENCE keys: "a" keys: "b" store: "d" }',
     reply(set_combine=STORED), "3\n", 0),
    ("zadd k 1.5 a -inf b", 'zset_add { key: "k" members { member: "a" score: 1.5 } members { member: "b" score: -inf } }',
     reply(zset_add=kv.ZSetAddResult(added=1, changed=2)), "1\n", 0),
    ("zadd --xx --gt --ch k 1 a", 'zset_add { key: "k" members { member: "a" score: 1 } if_present: true if_greater: true }',
     reply(zset_add=kv.ZSetAddResult(changed=2)), "2\n", 0),
    ("zadd k --incr -.5 a", 'zset_add { key: "k" members { member: "a" score: -0.5 } increment: true }',
     reply(zset_add=kv.ZSetAddResult(changed=1, score=0.1)), "0.1\n", 0),
    ("zadd k --nx --incr 1 a", 'zset_add { key: "k" members { member: "a" score: 1 } if_absent: true increment: true }',
     reply(zset_add=kv.ZSetAddResult()), "(nil)\n", 2),
    ("zrem k a", 'zset_remove { key: "k" members: "a" }', reply(zset_remove=COUNT), "3\n", 0),
    ("zscore k a", 'zset_score { key: "k" members: "a" }', reply(zset_score=kv.ZSetScoreResult(present=[True], scores=[2.5])),
     "2.5\n", 0),
    ("zmscore k a b", 'zset_score { key: "k" members: "a" members: "b" }',
     reply(zset_score=kv.ZSetScoreResult(present=[True, False], scores=[1e300, 0])), "a\t1e+300\nb\t(nil)\n", 0),
    ("zrank k a --rev", 'zset_rank { key: "k" member: "a" descending: true }',
     reply(zset_rank=kv.ZSetRankResult(rank=4, score=2)), "4\n", 0),
    ("zrange k 0 2 --rev --scores", 'zset_range { key: "k" span { ranks { last: 2 } } descending: true }',
     reply(zset_range=MEMBERS), "p\t0.1\nq\tinf\n", 0),
    ("zrange k (1 inf --by-score --offset 1 --limit 2",
     'zset_range { key: "k" span { scores { min { score: 1 exclusive: true } max { score: inf } } } offset: 1 limit: 2 }',
     reply(zset_range=MEMBERS), "p\nq\n", 0),
    ("zrange k 9 1 --by-score --rev", 'zset_range { key: "k" span { scores { min { score: 1 } max { score: 9 } } } '
     'descending: true }', reply(zset_range=MEMBERS), "p\nq\n", 0),
    ("zrange k [a (b --by-lex", 'zset_range { key: "k" span { members { start: "a" end: "b" } } }',
     reply(zset_range=MEMBERS), "p\nq\n", 0),
    ("zrange k (a [b --by-lex", 'zset_range { key: "k" span { members { start: "a\\000" end: "b\\000" } } }',
     reply(zset_range=MEMBERS), "p\nq\n", 0),
    ("zremrange k - (b --by-lex", 'zset_remove_range { key: "k" span { members { start: "\\000" end: "b" } } }',
     reply(zset_remove_range=COUNT), "3\n", 0),
    ("zrange k - + --by-lex", 'zset_range { key: "k" span { members { special: ALL } } }', reply(zset_range=MEMBERS),
     "p\nq\n", 0),
    ("zcount k -inf 3", 'zset_count { key: "k" span { scores { min { score: -inf } max { score: 3 } } } }',
     reply(zset_count=COUNT), "3\n", 0),
    ("zcard k", 'zset_count { key: "k" span { ranks { last: -1 } } }', reply(zset_count=COUNT), "3\n", 0),
    ("zpopmax k 2", 'zset_pop { key: "k" greatest: true count: 2 }', reply(zset_pop=MEMBERS), "p\t0.1\nq\tinf\n", 0),
    ("zpopmin k", 'zset_pop { key: "k" }', reply(zset_pop=MEMBERS), "p\t0.1\nq\tinf\n", 0),
    ("zremrange k 0 -3", 'zset_remove_range { key: "k" span { ranks { last: -3 } } }', reply(zset_remove_range=COUNT),
     "3\n", 0),
    ("zunion a b --weights 1,2.5 --aggregate max --scores",
     'zset_combine { keys: "a" keys: "b" weights: 1 weights: 2.5 aggregate: AGGREGATE_MAX }', reply(zset_combine=MEMBERS),
     "p\t0.1\nq\tinf\n", 0),
    ("zinterstore d a b", 'zset_combine { combination: COMBINE_INTERSECTION keys: "a" keys: "b" store: "d" }',
     reply(zset_combine=ZSTORED), "3\n", 0),
    ("zdiff a b", 'zset_combine { combination: COMBINE_DIFFERENCE keys: "a" keys: "b" }', reply(zset_combine=MEMBERS),
     "p\nq\n", 0),
    ("type k --at 3", 'type { key: "k" at_revision: 3 }', reply(type=kv.TypeResult(type=kv.TYPE_ZSET)), "zset\n", 0),
    ("rename a b --nx", 'rename { key: "a" to: "b" if_absent: true }', reply(rename=DONE), "OK\n", 0),
    ("copy a b", 'copy { key: "a" to: "b" }', reply(copy=DONE), "OK\n", 0),
    ("touch a b", 'touch { keys: "a" keys: "b" }', reply(touch=COUNT), "3\n", 0),
    ("history k --desc --limit 2 --from-rev 3", 'key_history { key: "k" from_revision: 3 limit: 2 descending: true }',
     reply(key_history=kv.KeyHistoryResult(versions=[
         kv.KeyVersion(kv=kv.KeyValue(key=b"k", mod_revision=6), deleted=True),
         kv.KeyVersion(kv=kv.KeyValue(key=b"k", value=b"v", type=1, mod_revision=5, version=2))])),
     "6\t(deleted)\n5\t2\tstring\tv\n", 0),
    ("compact 44", "compact { revision: 44 }", reply(compact=kv.CompactResult(oldest_revision=44)), "44\n", 0),
]


@pytest.mark.parametrize("words,request_text,answer,printed,code", CASES, ids=[case[0] for case in CASES])
def test_words(words, request_text, answer, printed, code):
    request, output, _ = run(answer, *words.split(" "), code=code)
    assert request == canonical(request_text)
    assert output == printed
    # The same answer as JSON is JSON.
    _, output, _ = run(answer, "-o", "json", *words.split(" "), code=code)
    json.loads(output)


WRONG = {
    "incrby k x": "incrby: N is a whole number between -2^63 and 2^63-1, not \"x\"",
    "incrby k 9223372036854775808": "N is a whole number",
    "decrby k -9223372036854775808": "N cannot be -2^63",
    "counter k 3 --at 2": "the past cannot be set",
    "incr k --min x": "--min wants N",
    "limit k": "limit wants --rate",
    "limit k --rate 100": "100/s",
    "limit k --rate 100/y": "100/s",
    "limit k --rate x/s": "100/s",
    "hset k a 1 b": "hset wants a value after each field",
    "hscan k --cursor 6": "--cursor wants",
    "hscan k --cursor xy": "--cursor wants",
    "lpop k 0": "COUNT is a whole number from 1 on",
    "blpop k 0": "at most 10m",
    "blpop k 11m": "at most 10m",
    "linsert k around p e": "before or after",
    "lmove a b left middle": "left or right",
    "lrange k a b": "FIRST is a whole number",
    "zadd k x a": "SCORE is a number",
    "zadd k nan a": "SCORE is a number",
    "zadd k 0x1 a": "SCORE is a number",
    "zadd k 1 a 2": "a member after each score",
    "zadd --nx --gt k 1 a": "one of --nx, --gt and --lt",
    "zadd --incr k 1 a 2 b": "one score and member",
    "zrange k a b --by-lex": "[a for with it",
    "zrange k 1 x --by-score": "(1.5 for without it",
    "zrange k 0 1 --by-score --by-lex": "one of --by-score and --by-lex",
    "zunion a b --weights 1": "for each of the 2 keys",
    "zunion a b --weights 1,2,3": "for each of the 2 keys",
    "zunion a --aggregate avg": "sum, min or max",
    "put k v --ttl 5s --keep": "one of --ttl, --lease and --keep",
    "put k v --ttl 0s": "--ttl wants TIME",
    "put k v --ttl -5s": "--ttl wants TIME",
    "expire k -1s": "TIME is 500ms",
    "expire k": "expire wants KEY TIME",
    "expire k 5s --lease 1": "expire wants KEY TIME",
    "expire k 5": "TIME is 500ms",
    "lease grant 0s": "TIME is 500ms",
    "lease grant 5s --id 0": "--id is a number from 1",
    "lease revoke -1": "ID is a number from 1",
    "compact x": "REVISION is a whole number",
    "hget k": "usage: kvctl hget KEY FIELD",
    "get k --scores": "get has no option --scores",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words(words):
    request, output, errors = run(kv.Reply(), *words.split(" "), code=1)
    assert request is None and output == ""
    assert WRONG[words] in errors


def test_error_of_the_server():
    _, output, errors = run(kv.Reply(code=kv.WRONG_TYPE, message="k holds a list"), "hget", "k", "a", code=4)
    assert output == "" and errors == "kvctl hget: WRONG_TYPE: k holds a list\n"
    _, _, errors = run(kv.Reply(code=kv.OUTCOME_UNKNOWN, message="lost"), "incr", "k", code=5)
    assert "OUTCOME_UNKNOWN" in errors
    # Fewer answers than questions.
    run(reply(hash_get=kv.HashGetResult()), "hget", "k", "a", code=4)
    run(reply(), "hlen", "k", code=4)


def test_more_is_told():
    elements = kv.ElementsResult(elements=[b"a"], more=True, cursor=b"\x00z")
    _, output, errors = run(reply(set_members=elements), "smembers", "k")
    assert output == "a\n" and "--cursor 007a" in errors
    _, output, _ = run(reply(set_members=elements), "-o", "json", "smembers", "k")
    assert json.loads(output) == {"elements": [{"element": "a"}], "more": True, "cursor": "007a", "revision": 7}


def test_json_of_scores():
    _, output, _ = run(reply(zset_range=MEMBERS), "-o", "json", "zrange", "k", "0", "-1")
    assert json.loads(output) == {"members": [{"member": "p", "score": 0.1}, {"member": "q", "score": "inf"}], "revision": 7}


# ---------------------------------------------------------------- transactions

TRANSFER = """\
# from 1 to 2
if counter account:1 >= 100
if absent "frozen 1"
then
  incrby account:1 -100
  begin
    if type account:2 = counter
    incrby account:2 100
  end
else
  hget refused "why\\tnot"
"""
TRANSFER_JSON = {
    "if": [["counter", "account:1", ">=", 100], ["absent", "frozen 1"]],
    "then": [["incrby", "account:1", -100],
             {"if": [["type", "account:2", "=", "counter"]], "then": [["incrby", "account:2", "100"]]}],
    "else": [["hget", "refused", "why\tnot"]],
}
TRANSFER_REQUEST = (
    'txn { compares { range { start: "account:1" } comparison: COMPARE_GREATER_EQUAL counter: 100 } '
    'compares { range { start: "frozen 1" } comparison: COMPARE_NOT_EQUAL exists: true } '
    'then { counter_add { key: "account:1" delta: -100 } } '
    'then { txn { compares { range { start: "account:2" } type: TYPE_COUNTER } '
    'then { counter_add { key: "account:2" delta: 100 } } } } '
    'otherwise { hash_get { key: "refused" fields: "why\\tnot" } } }')
INNER = kv.Reply(txn=kv.TxnResult(succeeded=True, replies=[kv.Reply(counter_add=kv.CounterResult(value=100))]))
DONE_TXN = reply(txn=kv.TxnResult(succeeded=True, replies=[kv.Reply(counter_add=kv.CounterResult(value=0)), INNER]))
ELSE_TXN = reply(txn=kv.TxnResult(replies=[kv.Reply(hash_get=kv.HashGetResult(present=[True], values=[b"a\nb"]))]))


def test_txn(tmp_path):
    request, output, _ = run(DONE_TXN, "txn", stdin=TRANSFER)
    assert request == canonical(TRANSFER_REQUEST)
    assert output == "then, revision 7\n1) incrby account:1 -100\n   0\n2) txn\n   then\n   1) incrby account:2 100\n      100\n"
    (tmp_path / "file").write_text(TRANSFER)
    request, output, _ = run(ELSE_TXN, "txn", str(tmp_path / "file"), code=2)
    assert request == canonical(TRANSFER_REQUEST)
    assert output == 'else, revision 7\n1) hget refused "why\\tnot"\n   a\\nb\n'


def test_txn_json():
    request, output, _ = run(DONE_TXN, "-o", "json", "txn", stdin=json.dumps(TRANSFER_JSON))
    assert request == canonical(TRANSFER_REQUEST)
    assert json.loads(output) == {"succeeded": True, "revision": 7, "replies": [
        {"value": 0}, {"succeeded": True, "replies": [{"value": 100}]}]}
    _, output, _ = run(ELSE_TXN, "-o", "value", "txn", stdin=TRANSFER, code=2)
    assert output == "a\nb"


COMPARES = {
    "value k = v": 'range { start: "k" } value: "v"',
    "version --prefix p/ > 3": 'range { start: "p/" special: PREFIX } comparison: COMPARE_GREATER version: 3',
    "created --from a --to b != 4": 'range { start: "a" end: "b" } comparison: COMPARE_NOT_EQUAL create_revision: 4',
    "modified --all <= 5": 'range { special: ALL } comparison: COMPARE_LESS_EQUAL mod_revision: 5',
    "lease --from a = 6": 'range { start: "a" special: FROM_KEY } lease_id: 6',
    "exists -- --all": 'range { start: "--all" } exists: true',
    "field k f < x": 'range { start: "k" } comparison: COMPARE_LESS hash_field { field: "f" value: "x" }',
    "member k m": 'range { start: "k" } set_member: "m"',
    "not-member k m": 'range { start: "k" } comparison: COMPARE_NOT_EQUAL set_member: "m"',
    "score k m >= -inf": 'range { start: "k" } comparison: COMPARE_GREATER_EQUAL zset_score { member: "m" score: -inf }',
}


@pytest.mark.parametrize("compare", COMPARES)
def test_compares(compare):
    request, _, _ = run(reply(txn=kv.TxnResult(succeeded=True)), "txn", stdin=f"if {compare}\n")
    assert request == canonical("txn { compares { " + COMPARES[compare] + " } }")


WRONG_TXN = {
    "if\n": "line 1: \"if \": what is compared?",
    "\nif versoin k = 1\n": "line 2: \"if versoin\": what is compared? did you mean version",
    "if version k = x\n": "\"x\" does not fit: if version KEY OP N",
    "if version k ~ 1\n": "OP is one of",
    "if version k 1\n": "usage: if version KEY OP N",
    "if exists k = 1\n": "usage: if exists KEY",
    "if type k = thing\n": "does not fit",
    "get k\nif exists k\n": "line 2: compares (if) come before",
    "then now\n": "on a line of its own",
    "else\nthen\n": "then is at the wrong place",
    "then\nthen\n": "then is at the wrong place",
    "gte k\n": "did you mean \"get\"",
    "status\n": "status cannot be part of a transaction",
    "put k -\n": "cannot be standard input",
    "get k -o json\n": "belong to the whole",
    "get 'k\n": "line 1: the closing ' is missing",
    "get \"\\q\"\n": "is no escape",
    "get \\x00\n": "zero byte",
    "end\n": "end without begin",
    "begin\nget k\n": "end of a transaction inside is missing",
    "begin\nbegin\nbegin\nbegin\n": "line 4: transactions are nested 4 deep at most",
    "incrby k x\n": "N is a whole number",
    "{\"then\": [[\"get\"]]}": "usage: kvctl get KEY",
    "{\"than\": []}": "if, then and else, not \"than\"",
    "{\"then\": [[true]]}": "a word is a string or a number",
    "{\"then\": [7]}": "array of words",
    "{\"then\": [[\"get\", \"k\"]": "no JSON",
    "{\"if\": [[\"exists\", \"k\"], [\"nothing\"]]}": "compare or operation 2",
}


@pytest.mark.parametrize("text", WRONG_TXN)
def test_wrong_txn(text):
    request, output, errors = run(kv.Reply(), "txn", stdin=text, code=1)
    assert request is None and output == ""
    assert WRONG_TXN[text] in errors


def test_txn_failed_operation():
    failed = kv.Reply(code=kv.WRONG_TYPE, message="k holds a list", hint=kv.Hint(operation=1))
    _, output, errors = run(failed, "txn", stdin="get a\nincr k\n", code=4)
    assert output == "" and "WRONG_TYPE: k holds a list" in errors and "it was operation 2" in errors


def test_file_that_is_not_there():
    _, _, errors = run(kv.Reply(), "txn", "/no/such", code=6)
    assert "/no/such" in errors


# ---------------------------------------------------------------- shell without a terminal


def test_plain_shell():
    script = "incr k\n\n# nothing\nhelp incr\nincr k -o json\nexit\nincr never\n"
    _, output, errors = run(reply(counter_add=NUMBER), "shell", stdin=script)
    assert output.startswith("-4\nUsage: kvctl incr KEY") and output.endswith('{"value":-4,"revision":7}\n')
    assert errors == ""


def test_plain_shell_failures():
    script = "hget k a\nincr\n'open\nshell\n-e a:1 incr k\ntxn\nput k -\nhelp incr\n"
    _, _, errors = run(reply(hash_get=kv.HashGetResult(present=[False], values=[b""])), "shell", stdin=script, code=1)
    for text in ("usage: kvctl incr", "closing '", "a shell already", "--endpoints belongs", "wants a FILE",
                 "cannot be standard input"):
        assert text in errors
    # The last failure decides, whatever went well after it.
    run(reply(hash_get=kv.HashGetResult(present=[False], values=[b""])), "shell", stdin="incr\nhget k a\nhelp\n", code=2)
    _, output, _ = run(reply(counter_add=NUMBER), "-o", "json", "shell", stdin="incr k")
    assert json.loads(output)["value"] == -4
