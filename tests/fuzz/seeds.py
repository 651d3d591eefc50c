#!/usr/bin/python3
"""Writes the seeds of the fuzz targets: tests/fuzz/seeds.py [FOLDER], always the same ones.

They are made without kvd's own encoders, from the .proto files and docs/internals.md, so that both sides of
each format are held against each other. Seeds found by fuzzing may lie beside them (corpus/wal has only such).
"""

import pathlib
import struct
import subprocess
import sys
import tempfile

from google.protobuf import text_format

ROOT = pathlib.Path(__file__).resolve().parents[2]

with tempfile.TemporaryDirectory() as generated:
    subprocess.run(["protoc", f"--proto_path={ROOT / 'proto'}", f"--python_out={generated}",
                    "kv.proto", "log.proto", "peer.proto"], check=True)
    sys.path.insert(0, generated)
    import kv_pb2 as kv
    import log_pb2 as log
    import peer_pb2 as peer


def make(message, text):
    return text_format.Parse(text, message).SerializeToString()


def request(text):
    return make(kv.Request(), text)


def lz4_block(data):
    """One literal, then a match of distance one, then literals: right for data that repeats one byte."""
    def length(value):
        return (min(value, 15), b"" if value < 15 else b"\xff" * ((value - 15) // 255) + bytes([(value - 15) % 255]))

    first = next(i for i in range(len(data)) if len(set(data[i:i + 64])) == 1) + 1
    last = first
    while last < len(data) and data[last] == data[first]:
        last += 1
    last = min(last, len(data) - 12)
    literals, match, rest = data[:first], last - first, data[last:]
    n_literals, more_literals = length(len(literals))
    n_match, more_match = length(match - 4)
    n_rest, more_rest = length(len(rest))
    return (bytes([n_literals << 4 | n_match]) + more_literals + literals + struct.pack("<H", 1) + more_match +
            bytes([n_rest << 4]) + more_rest + rest)


# ---------------------------------------------------------------- client

REQUEST, HELLO, CANCEL, CREDIT = 1, 4, 7, 8


def frame(kind, body, flags=0):
    return struct.pack("<IBBH", len(body), kind, flags, 0) + body


def lz4_frame(body, raw_size=None):
    return frame(REQUEST, struct.pack("<I", raw_size or len(body)) + lz4_block(body), 1)


FILL = [f'put {{ key: "k{i}" value: "{"v" * i}" }}' for i in range(9)]
FILL_LONG = [f'put {{ key: "k{i}" value: "{"v" * 20 * i}" }}' for i in range(9)]
PUT_OPTIONS = [
    'put { key: "a" value: "1" if_absent: true }',
    'put { key: "a" value: "2" return_previous: true if_value: "1" }',
    'put { key: "a" value: "3" keep: true if_mod_revision: 2 }',
    'put { key: "a" value: "3" ttl_ms: 5 if_present: true }',
    'put { key: "a" value: "x" lease_id: 3 }',
]
STRINGS = [
    'append { key: "a" value: "xy" }',
    'getset { key: "a" value: "z" }',
    'strlen { key: "a" }',
    'get_range { key: "a" first: -3 last: -1 }',
    'set_range { key: "a" offset: 10 value: "q" }',
    'getdel { key: "a" }',
]
GENERIC = [
    'put { key: "a" }',
    'put { key: "b" }',
    'put { key: "c" }',
    'exists { keys: "a" keys: "x" }',
    'count { range { start: "a" end: "c" } }',
    'count { range { special: ALL } at_revision: 3 }',
    'delete { keys: "a" ranges { start: "b" special: FROM_KEY } return_previous: true }',
]
SETTINGS = [
    'config_list { }',
    'config_get { name: "value-limit" }',
    'config_set { name: "value-limit" value: 2048 }',
    f'put {{ key: "a" value: "{"x" * 3000}" }}',
    'config_set { name: "history-age" value: 0 }',
    'config_set { name: "history-bytes" value: 100 }',
]
RANGES = [
    'range { range { special: ALL } limit: 3 descending: true }',
    'range { range { start: "k" special: PREFIX } keys_only: true at_revision: 5 min_mod_revision: 2'
    ' max_create_revision: 6 }',
    'range { range { start: "k" special: PREFIX } count_only: true }',
    'range { range { start: "a" special: FROM_KEY } cursor: "k3" }',
    'range { range { start: "k2" end: "k5" } }',
]
LONG = "x" * 300  # eight of them, and a collection is large
COUNTERS = [
    'counter_add { key: "n" delta: 5 initial: 10 max { value: 20 } }',
    'counter_add { key: "n" delta: 9223372036854775807 }',
    'counter_add { key: "n" delta: -7 min { value: 9 } }',
    'counter_set { key: "n" value: -3 }',
    'counter_get { key: "n" at_revision: 2 }',
    'append { key: "n" value: "x" }',
]
HASHES = [
    'hash_set { key: "h" fields { name: "a" value: "1" } fields { name: "b" value: "-2" } }',
    'hash_set { key: "h" fields { name: "a" } if_absent: true }',
    'hash_add { key: "h" field: "b" delta: 5 }',
    'hash_get { key: "h" fields: "a" fields: "x" at_revision: 2 }',
    *(f'hash_set {{ key: "h" fields {{ name: "f{i}" value: "{LONG}" }} }}' for i in range(8)),
    'hash_scan { key: "h" cursor: "f2" limit: 3 }',
    'hash_get_all { key: "h" at_revision: 3 }',
    'hash_exists { key: "h" fields: "f1" }',
    'hash_len { key: "h" }',
    'hash_delete { key: "h" fields: "a" fields: "b" fields: "f3" }',
]
LISTS = [
    'list_push { key: "l" elements: "1" elements: "2" }',
    'list_push { key: "l" end: LIST_RIGHT elements: "3" elements: "2" if_present: true }',
    'list_insert { key: "l" pivot: "2" element: "n" after: true }',
    'list_set { key: "l" index: -1 element: "z" }',
    'list_move { key: "l" from: LIST_RIGHT to: "m" }',
    f'list_push {{ key: "l" {" ".join(f"""elements: "{i}{LONG}" """ for i in range(8))} }}',
    'list_range { key: "l" first: 0 last: -1 at_revision: 3 }',
    'list_index { key: "l" index: 4 }',
    *('list_insert { key: "l" pivot: "1" element: "i" }' for _ in range(3)),
    'list_remove { key: "l" element: "i" count: -2 }',
    'list_pop { key: "l" count: 3 }',
    'list_pop { key: "l" end: LIST_RIGHT block_ms: 50 }',
    'list_trim { key: "l" first: 1 last: -2 }',
    'list_len { key: "l" }',
]
SETS = [
    'set_add { key: "s" members: "a" members: "b" members: "c" }',
    f'set_add {{ key: "t" {" ".join(f"""members: "{i}{LONG}" """ for i in range(8))} members: "b" }}',
    'set_combine { combination: COMBINE_INTERSECTION keys: "s" keys: "t" store: "u" }',
    'set_combine { combination: COMBINE_DIFFERENCE keys: "t" keys: "s" }',
    'set_combine { keys: "s" keys: "t" store: "s" }',
    'set_has { key: "s" members: "a" members: "x" }',
    'set_members { key: "t" limit: 2 at_revision: 3 }',
    'set_pop { key: "t" count: 2 }',
    'set_random { key: "s" count: 2 }',
    'set_remove { key: "s" members: "a" members: "b" members: "c" }',
]
ZSETS = [
    'zset_add { key: "z" members { member: "m" score: 1.5 } members { member: "n" score: -0.0 } }',
    'zset_add { key: "z" members { member: "m" score: 2 } if_greater: true if_present: true }',
    'zset_add { key: "z" members { member: "m" score: inf } increment: true }',
    'zset_add { key: "z" members { member: "m" score: -inf } increment: true }',
    'zset_add { key: "z" members { member: "x" score: nan } }',
    *(f'zset_add {{ key: "z" members {{ member: "{i}{LONG}" score: {9 - i} }} }}' for i in range(8)),
    'zset_rank { key: "z" member: "m" descending: true }',
    'zset_range { key: "z" span { ranks { first: 0 last: -1 } } descending: true offset: 1 limit: 3 at_revision: 4 }',
    'zset_range { key: "z" span { scores { min { score: 1 exclusive: true } } } }',
    'zset_range { key: "z" span { members { start: "3" special: FROM_KEY } } }',
    'zset_count { key: "z" span { scores { max { score: 5 } } } }',
    'zset_combine { keys: "z" keys: "y" weights: 2 weights: 0.5 aggregate: AGGREGATE_MAX store: "w" }',
    'zset_pop { key: "z" greatest: true count: 2 }',
    'zset_remove_range { key: "z" span { ranks { first: 1 last: 2 } } }',
    'zset_remove { key: "z" members: "n" }',
    'zset_score { key: "z" members: "m" members: "n" }',
]
OTHERS = [
    'rename { key: "h" to: "g" }',
    'copy { key: "g" to: "h" if_absent: true }',
    'copy { key: "z" to: "l" }',
    'touch { keys: "g" keys: "l" keys: "none" }',
    'type { key: "g" }',
    'limiter_acquire { key: "r" rate: 5 period_ms: 1000 burst: 3 n: 2 }',
    'limiter_acquire { key: "r" rate: 18446744073709551615 period_ms: 1 burst: 18446744073709551615 }',
    'put { key: "l" value: "over it" }',
    'compact { revision: 9 }',
    'delete { ranges { special: ALL } }',
]
SESSIONS = [
    'session_open { ttl_ms: 2000 }',
    'session_open { ordered: true }',
    'session { session_id: 1 sequence: 2 } append { key: "a" value: "x" }',
    'session { session_id: 1 sequence: 2 } append { key: "a" value: "x" }',
    'session { session_id: 1 sequence: 1 acknowledged_through: 0 } getdel { key: "a" }',
    'session { session_id: 2 sequence: 1 } put { key: "b" value: "y" }',
    'session { session_id: 1 sequence: 900 acknowledged_through: 2 } put { key: "a" }',
    'session_renew { session_id: 1 }',
    'session_close { session_id: 2 }',
    'session { session_id: 2 sequence: 2 acknowledged_through: 1 } put { key: "b" }',
]
TRANSACTIONS = [
    'txn { compares { range { start: "a" } comparison: COMPARE_LESS version: 3 }'
    ' then { put { key: "a" } } otherwise { txn { then { get { key: "b" } } } } }',
    'txn { then { counter_add { key: "n" delta: 1 } } then { hash_set { key: "n" fields { name: "a" } } } }',
    'txn { then { hash_set { key: "q" fields { name: "a" value: "1" } } } then { hash_add { key: "q" field: "a" delta: 1 } }'
    ' then { rename { key: "q" to: "p" } } then { hash_len { key: "p" } } then { delete { keys: "p" } } }',
    'txn { compares { range { special: ALL } hash_field { field: "a" value: "1" } }'
    ' compares { range { start: "z" } zset_score { member: "m" score: 2 } comparison: COMPARE_GREATER_EQUAL } }',
]
TOPICS = [
    *(f'publish {{ topic: "t/{i % 3}" payload: "{i}{LONG}" }}' for i in range(6)),
    'publish { topic: "" payload: "x" }',
    'config_set { name: "topic-messages" value: 2 }',
    'txn { then { publish { topic: "t/0" payload: "a" } } then { publish { topic: "t/1" payload: "b" } }'
    ' then { getdel { key: "none" } } }',
    'txn { then { publish { topic: "t/2" payload: "c" } } then { publish { topic: "u" } } }',
    'config_set { name: "topic-age-ms" value: 1000 }',
    'publish { topic: "t/0" payload: "d" }',
    'topic_list { prefix: "t/" cursor: "t/0" limit: 1 }',
]
SUBSCRIPTIONS = [
    'subscribe { topic: "t/1" start_revision: 2 credit: 1000 progress_ms: 100 }',
    'subscribe { topic: "t/*" pattern: true last: 3 credit: 1000 }',
    'subscribe { topic: "[!a-s]/\\\\?[" pattern: true }',
    'subscribe { topic: "*?[a-z][!x]" pattern: true start_revision: 1 last: 1 }',
]
TIMES = [
    'put { key: "a" value: "1" ttl_ms: 150 }',
    'put { key: "b" value: "2" ttl_ms: 18446744073709551615 }',
    'hash_set { key: "h" fields { name: "a" value: "1" ttl_ms: 250 } fields { name: "b" value: "-2" } }',
    'hash_set { key: "g" fields { name: "a" ttl_ms: 350 } }',
    'counter_add { key: "n" delta: 5 ttl_ms: 450 }',
    'expire { key: "h" ttl_ms: 900 }',
    'ttl { key: "h" }',
    'persist { key: "h" }',
    'rename { key: "h" to: "a" }',
    'put { key: "a" value: "3" keep: true }',
    'txn { then { expire { key: "g" ttl_ms: 1 } } then { expire { key: "none" ttl_ms: 1 } } }',
    'get { key: "g" }',
]
LEASES = [
    'lease_grant { lease_id: 3 ttl_ms: 1000 }',
    'lease_grant { ttl_ms: 1500 }',
    'put { key: "a" value: "1" lease_id: 3 }',
    'put { key: "b" value: "1" lease_id: 4 }',
    'set_add { key: "s" members: "a" }',
    'expire { key: "s" lease_id: 3 }',
    'lease_keep_alive { lease_ids: 3 lease_ids: 9 }',
    'lease_info { lease_id: 3 with_keys: true cursor: "a" limit: 1 }',
    'lease_list { after_id: 2 limit: 1 }',
    'txn { compares { range { start: "a" } lease_id: 3 } then { copy { key: "a" to: "c" } } }',
    'lease_keep_alive { lease_ids: 3 }',
    'lease_revoke { lease_id: 3 }',
    'lease_keep_alive { lease_ids: -1 }',
]
NEXT = [
    'watch { range { special: ALL } kinds: EVENT_PUT kinds: EVENT_DELETE progress_ms: 5 }',
]


def connection(*requests):
    """A hello, and requests with rising ids, from texts; what is bytes stays."""
    frames = [frame(HELLO, make(kv.Hello(), 'protocol_version: 1 client_name: "fuzz" lz4: true'))]
    for i, one in enumerate(requests):
        frames.append(one if isinstance(one, bytes) else frame(REQUEST, request(f"id: {i + 1} {one}")))
    return b"".join(frames)


def nested(depth):
    text = 'get { key: "a" }'
    for _ in range(depth):
        text = f"txn {{ then {{ {text} }} }}"
    return text


def client_seeds():
    compressible = request(f'id: 1 put {{ key: "a" value: "{"v" * 2000}" }}')
    unknown = request('id: 1 put { key: "a" value: "b" }') + b"\xf8\xff\x03\x01"
    return {
        "hello_version": frame(HELLO, make(kv.Hello(), "protocol_version: 2")),
        "strings": connection(*STRINGS),
        "put_options": connection(*PUT_OPTIONS, 'get { key: "a" }', 'get { key: "a" at_revision: 1 }'),
        "generic": connection(*GENERIC),
        "range": connection(*FILL, *RANGES),
        "stream": connection(*FILL_LONG, "range { range { special: ALL } stream: true credit: 100 }",
                             frame(CREDIT, make(kv.Credit(), "id: 10 bytes: 1000")),
                             frame(CANCEL, make(kv.Cancel(), "id: 10"))),
        "settings": connection(*SETTINGS),
        "node": connection("status { }", "member_list { }", "leader_transfer { node_id: 2 }", "snapshot_now { }"),
        "next": connection(*NEXT),
        "topics": connection(*TOPICS, *SUBSCRIPTIONS, frame(CREDIT, make(kv.Credit(), "id: 14 bytes: 1000")),
                             frame(CANCEL, make(kv.Cancel(), "id: 15"))),
        "types": connection(*COUNTERS[:2], *HASHES[:3], *LISTS[:3], *SETS[:3], *ZSETS[:2], *OTHERS, *TRANSACTIONS),
        "session": connection(*SESSIONS),
        "times": connection(*TIMES, *LEASES),
        "nested": connection(nested(4), nested(20)),
        "empty_request": connection("", frame(REQUEST, b"")),
        "unknown_field": connection(frame(REQUEST, unknown)),
        "lz4": connection(lz4_frame(compressible)),
        "lz4_huge": connection(lz4_frame(compressible, 0x0fffffff)),
        "huge": connection(struct.pack("<IBBH", 0xffffffff, REQUEST, 0, 0)),
        "http": b"GET / HTTP/1.1\r\n\r\n",
        "tls": bytes.fromhex("16030102000100" "01fc0303"),
        "resp": b"*1\r\n$4\r\nPING\r\n",
    }


# ---------------------------------------------------------------- log entries

def entries(*groups, step_ms=1000, version=1):
    """One entry for each group of request texts, each behind its size."""
    out = b""
    for i, group in enumerate(groups):
        entry = log.Entry(machine_version=version, cluster_time_ms=1000000 + i * step_ms)
        entry.requests.extend(request(f"id: {n} {text}") for n, text in enumerate(group))
        body = entry.SerializeToString()
        out += struct.pack("<H", len(body)) + body
    return out


def entry_seeds():
    singly = [[text] for text in FILL]
    many = [f'put {{ key: "{i * 37 % 130:02x}" }}' for i in range(130)]
    return {
        "empty": entries([]),
        "strings": entries(STRINGS, STRINGS[:3]),
        "put_options": entries(*([text] for text in PUT_OPTIONS)),
        "generic": entries(GENERIC[:3], GENERIC[3:]),
        "singly": entries(*singly, ["delete { ranges { special: ALL } }"], *singly[:3]),
        "history": entries(['config_set { name: "history-age" value: 2500 }'], *singly, *singly,
                           ['delete { keys: "k1" keys: "k1" keys: "k2" }'], *singly[:2]),
        "history_bytes": entries(['config_set { name: "history-bytes" value: 300 }'], *singly, *singly),
        "many": entries(['config_set { name: "history-bytes" }'], *(many[i:i + 50] for i in range(0, 130, 50)),
                        ['delete { ranges { start: "20" end: "60" } ranges { start: "z" special: PREFIX } }'],
                        ['delete { ranges { start: "65" special: FROM_KEY } }'], many[:9]),
        "settings": entries(SETTINGS),
        "reads": entries(FILL, RANGES, ["status { }", ""]),
        "sessions": entries(*([text] for text in SESSIONS), step_ms=400),
        "next": entries(NEXT, FILL),
        "times": entries(*([text] for text in TIMES), TIMES, step_ms=60),
        "leases": entries(*([text] for text in LEASES), LEASES[:6], [], [], step_ms=300),
        "counters": entries(*([text] for text in COUNTERS)),
        "hashes": entries(*([text] for text in HASHES), OTHERS[:2], step_ms=100),
        "lists": entries(*([text] for text in LISTS), LISTS),
        "sets": entries(*([text] for text in SETS), SETS),
        "zsets": entries(*([text] for text in ZSETS), ZSETS[5:]),
        "types": entries(HASHES, LISTS, ZSETS, OTHERS, COUNTERS, SETS, TRANSACTIONS, step_ms=200000),
        "topics": entries(TOPICS, TOPICS[:3], *([text] for text in TOPICS), step_ms=700),
        "transactions": entries(COUNTERS[:1], HASHES[:1], *([text] for text in TRANSACTIONS)),
        "newer": entries(FILL, version=1) + entries(FILL, version=2),
        "time_back": entries(*singly[:4], step_ms=-1000),
        "malformed": struct.pack("<H", 6) + b"\x08\x01\x1a\x02\x08\x01" + struct.pack("<H", 4) + b"\x1a\x09\x08\x01",
    }


# ---------------------------------------------------------------- peers

ORDERED, URGENT, PEER_HELLO, PEER_HELLO_REPLY, PING, PONG, BULK = 1, 2, 3, 4, 5, 6, 7
LAST, LZ4 = 1, 2
RAW, FIXED, MESSAGE, REPEATED = 0, 1, 2, 3  # what the first byte of an input of fuzz_peer chooses


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def peer_frame(kind, body=b"", flags=LAST, raw_size=0):
    rest = struct.pack("<IBBHI", len(body), kind, flags, 0, raw_size) + body
    return struct.pack("<I", crc32c(rest)) + rest


def message(text, bulk=b""):
    head = make(peer.PeerMessage(), text)
    return struct.pack("<I", len(head)) + head + bulk


def fragments(kind, body, size):
    pieces = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(peer_frame(kind, piece, LAST if i == len(pieces) - 1 else 0) for i, piece in enumerate(pieces))


def configuration(*addresses):
    """libraft's: version, count, and of each member id, address and role (1: voter); a multiple of eight bytes."""
    body = b"\x01" + struct.pack("<Q", len(addresses))
    for i, address in enumerate(addresses):
        body += struct.pack("<Q", i + 1) + address + b"\0\x01"
    return body + b"\0" * (-len(body) % 8)


CHANGE = configuration(b"a:4701", b"b.example:4701", b"")
APPEND = message(
    "append_entries { version: 2 term: 7 prev_log_index: 41 prev_log_term: 5 leader_commit: 40"
    " entries { term: 5 type: 1 size: 12 } entries { term: 7 type: 2 }"
    f" entries {{ term: 7 type: 3 size: {len(CHANGE)} }} entries {{ term: 7 type: 1 }} }}",
    log.Entry(machine_version=1, cluster_time_ms=1000, requests=[b"\x08\x01\x82\x01\0"]).SerializeToString() + CHANGE)
HEARTBEAT = message("append_entries { version: 2 term: 7 prev_log_index: 41 prev_log_term: 5 leader_commit: 41 }")
RESULT = message("append_entries_result { version: 2 term: 7 rejected: 3 last_log_index: 2 features: 1 capacity: 9 }")
VOTES = [
    message("request_vote { version: 2 term: 7 candidate_id: 2 last_log_index: 41 last_log_term: 5 pre_vote: true }"),
    message("request_vote { version: 2 term: 8 candidate_id: 2 disrupt_leader: true }"),
    message("request_vote_result { version: 2 term: 7 vote_granted: true features: 1 }"),
    message("timeout_now { version: 1 term: 7 last_log_index: 41 last_log_term: 5 }"),
]
READS = [
    message("confirm { term: 7 round: 3 }"),
    message("confirm_result { term: 7 round: 3 same_term: true }"),
    message("read_index { id: 5 }"),
    message("read_index_result { id: 5 status: -22 index: 41 }"),
]
PUT = request('id: 1 put { key: "a" value: "b" }')
FORWARD = message(f"forward {{ id: 3 sizes: {len(PUT)} sizes: {len(PUT)} deadlines_ms: 500 deadlines_ms: 400 }}",
                  PUT * 2)
INSTALL = message("install_snapshot { version: 2 term: 7 last_index: 40 last_term: 5 configuration_index: 1"
                  " configuration: 'abc' size_bytes: 5000 hash: 81985529216486895 }")
SNAPSHOTS = [
    message("snapshot_fetch { last_index: 40 last_term: 5 offset: 4096 size: 1000 }"),
    message("snapshot_piece { last_index: 40 last_term: 5 offset: 4096 }", b"p" * 40),
    message("state_hash { index: 4096 hash: 1311768467463790320 }"),
    message("state_verdict { index: 4096 hash: 1311768467463790320 }"),
]
FORWARD_REPLY = message("forward_reply { ids: 3 ids: 4 sizes: 2 sizes: 2 }", b"\x08\x01\x08\x02")


def peer_seeds():
    large = message("append_entries { term: 7 entries { term: 7 type: 1 size: 2000 } }", b"e" * 2000)
    hello = make(peer.PeerHello(), 'protocol_version: 1 cluster_id: 5 node_id: 2 to_node_id: 1'
                                   ' client_address: "127.0.0.1:4700" machine_version: 1')
    refusal = make(peer.PeerHelloReply(), 'reason: "another cluster" cluster_id: 5 node_id: 1')
    seeds = {
        "hello": peer_frame(PEER_HELLO, hello) + peer_frame(PING) + peer_frame(ORDERED, HEARTBEAT),
        "hello_reply": peer_frame(PEER_HELLO_REPLY, refusal) + peer_frame(PONG),
        "urgent": b"".join(peer_frame(URGENT, one) for one in VOTES + READS),
        "ordered": b"".join(peer_frame(ORDERED, one) for one in (APPEND, HEARTBEAT, RESULT, FORWARD, FORWARD_REPLY)),
        "snapshots": b"".join(peer_frame(ORDERED, one) for one in [INSTALL] + SNAPSHOTS),
        "bulk": peer_frame(PEER_HELLO, hello + b"\x38\x01") + fragments(BULK, SNAPSHOTS[1], 30),
        "interleaved": peer_frame(ORDERED, APPEND[:20], 0) + peer_frame(URGENT, VOTES[0]) +
                       fragments(ORDERED, APPEND[20:], 10),
        "lz4": peer_frame(ORDERED, lz4_block(large), LAST | LZ4, len(large)),
        "lz4_fragments": peer_frame(ORDERED, lz4_block(large)[:20], LZ4, len(large)) +
                         peer_frame(ORDERED, lz4_block(large)[20:], LAST | LZ4, len(large)),
        "bad_terms": peer_frame(ORDERED, message(
            "append_entries { term: 7 prev_log_index: 1 prev_log_term: 6 entries { term: 5 type: 1 } }")),
        "too_many": peer_frame(ORDERED, message(
            "append_entries { term: 7" + " entries { term: 7 type: 2 }" * 65 + " }")),
        "bad_checksum": b"\0" + peer_frame(URGENT, VOTES[0])[1:],
    }
    seeds = {name: bytes([RAW if name == "bad_checksum" else FIXED]) + seed for name, seed in seeds.items()}
    for name, one in (("append", APPEND), ("heartbeat", HEARTBEAT), ("result", RESULT), ("vote", VOTES[0]),
                      ("install", INSTALL)):
        seeds[f"message_{name}"] = bytes([MESSAGE]) + one
    for name, times, cut, odd in (("repeated", 200, 3, 0), ("repeated_plain", 70, 200, 1), ("repeated_never", 0, 0, 0)):
        seeds[name] = bytes([REPEATED, times, cut, odd]) + large[:1000]
    return seeds


# ---------------------------------------------------------------- configuration

def config(file, *arguments):
    return b"\0".join(part.encode() for part in (file, *arguments))


def config_seeds():
    cluster = "1=a.example:4701,2=b.example:4701,3=[::1]:4701"
    return {
        "nothing": config(""),
        "file": config(f'# a comment\nnode-id: 2\nmembers: "{cluster}"\nclient-address: b.example:4700\n'
                       "data-dir: /var/lib/kvd\nwal-segment-size: 32MiB\npeer-compression: false\n"),
        "printed": config("---\nelection-timeout: 1s\nheartbeat-interval: 100ms\nlog-level: 'debug'\n...\n"),
        "flags": config("", "--node-id", "3", f"--members={cluster}", "--client-address", "c:4700",
                        "--peer-listen=0.0.0.0:4701", "--http-listen="),
        "variables": config("node-id: 1\n", "KVD_NODE_ID=2", "KVD_WAL_SEGMENT_SIZE=1GiB", "KVD_CLUSTER_ID=77",
                            "KVD_UNRELATED=x", "--node-id=3"),
        "quoted": config('cluster: "a \\"b\\" \\\\ \\t\\x41\\u00e9"\nlog-level: !!str "warn"\n'),
        "blocks": config("cluster: >-\n  two\n  lines\ndata-dir: |\n  kept\n"),
        "unknown_key": config("node_id: 1\n"),
        "unknown_flag": config("", "--node", "1"),
        "unknown_variable": config("", "KVD_NODEID=1"),
        "twice": config("node-id: 1\nnode-id: 1\n"),
        "sequence": config("node-id: [1, 2]\n"),
        "anchors": config("node-id: &x 1\ncluster-id: *x\n"),
        "addresses": config("client-listen: 127.0.0.1:4700\npeer-listen: :4700\n"),
        "bad_member": config('members: "1=a:0"\n'),
        "heartbeat": config("", "--election-timeout=100ms", "--heartbeat-interval=50ms"),
        "long": config("cluster: " + "x" * 1100),
        "overflow": config("", "--cluster-id=99999999999999999999", "--wal-segment-size=18446744073709551615GiB"),
        "check": config("", "--check-config", "--max-connections", "1000000", "--net-threads=64"),
        "help": config("", "--help"),
    }


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests" / "fuzz" / "corpus"
    for target, seeds in (("client", client_seeds()), ("entry", entry_seeds()), ("peer", peer_seeds()),
                          ("config", config_seeds())):
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (folder / target / name).write_bytes(content)


if __name__ == "__main__":
    main()
