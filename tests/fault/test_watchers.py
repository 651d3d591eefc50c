"""Thousands of watches on three nodes that are killed, stopped, hung, and whose leader is moved: single keys, prefixes,
ranges, all keys, filters, slow readers and such that do not read for seconds. What each was told is the exact sequence that
the history gives for its range. KV_FAULT_SEED replays the choice of faults."""

import time

from faults import one_fault
from kvcluster import KEPT_BYTES, Cluster, kv
from load import seconds, seeded
from reference import Reference, complaint, difference, read_events, read_key
from stream_load import Writer, last_word
from swarm import PROGRESS_MS, Link, Stream, Swarm

PREFIXES = 40
KEYS = [b"w/%02d/%02d" % (prefix, number) for prefix in range(PREFIXES) for number in range(20)]
WATCHES = 5000
LINKS = 60
WRITERS = 3
MIB = 1 << 20
WAITING_BYTES = 256 << 10  # of a connection that does not read (KV_CONNECTION_STREAM_BYTES_MAX)


def watches(rng):
    """Of each kind some; most are of single keys."""
    ranges = [kv.KeyRange(special=kv.KeyRange.ALL)] * 6
    ranges += [kv.KeyRange(start=b"w/%02d/" % (n % PREFIXES), special=kv.KeyRange.PREFIX) for n in range(2 * PREFIXES)]
    ranges += [kv.KeyRange(start=rng.choice(KEYS), special=kv.KeyRange.FROM_KEY) for _ in range(4)]
    ranges += [kv.KeyRange(start=min(pair), end=max(pair)) for pair in (rng.sample(KEYS, 2) for _ in range(20))]
    made = [kv.Watch(range=watched) for watched in ranges]
    for kinds in ([kv.EVENT_EXPIRE], [kv.EVENT_DELETE, kv.EVENT_EXPIRE], [kv.EVENT_PUT]):
        made.append(kv.Watch(range=kv.KeyRange(special=kv.KeyRange.ALL), kinds=kinds, keys_only=True,
                             progress_ms=PROGRESS_MS))
    made += [kv.Watch(range=kv.KeyRange(start=KEYS[n % len(KEYS)])) for n in range(WATCHES - len(made))]
    return made


def make_links(cluster, rng):
    made = watches(rng)
    rng.shuffle(made)
    links = []
    for number in range(LINKS):
        streams = []
        for watch in made[number::LINKS]:
            is_slow = rng.random() < (0.5 if watch.range.special == kv.KeyRange.ALL else 0.05)
            streams.append(Stream(watch, slow_s=rng.choice([0.2, 2]) if is_slow else 0))
        # Without anything to say it must not be silent.
        streams[0].wanted.progress_ms = PROGRESS_MS
        links.append(Link(streams, deaf_s=3 if number < 4 else 0, home=cluster.nodes[number % len(cluster.nodes) + 1]))
    return links


def written_bytes(writers):
    """Each key and value with twice as much again as the bookkeeping of small ones."""
    return sum(len(value) + 300 for writer in writers for _, _, value in writer.acknowledged)


def judge(cluster, swarm, writers, rng, revision):
    """Against the history of each node, which is the same, holds what was acknowledged, and is that of the single keys."""
    events = [read_events(node, revision) for node in cluster.nodes.values()]
    assert difference(events[1], events[0]) is None and difference(events[2], events[0]) is None
    puts = {(revision, key, value) for revision, kind, key, value in events[0] if kind == kv.EVENT_PUT}
    missing = [write for writer in writers for write in writer.acknowledged if write not in puts]
    assert not missing, missing[:5]
    reference = Reference(events[0])
    for key in rng.sample(KEYS, 50):
        by_events = [(r, kind != kv.EVENT_PUT, k, value) for r, kind, k, value in reference.of_key[key]]
        assert difference(by_events, read_key(cluster.leader(), key, revision)) is None
    found = [text for text in (complaint(stream, reference) for stream in swarm.streams()) if text]
    assert not found, (len(found), found[:5])
    return reference


def damaged(entries):
    """What a stream may have told wrongly, each in another way."""
    n = len(entries) // 2
    revision, kind, key, value = entries[n]
    yield "a gap", entries[:n] + entries[n + 1:]
    yield "twice", entries[:n + 1] + entries[n:]
    yield "swapped", entries[:n] + [entries[n + 1], entries[n]] + entries[n + 2:]
    yield "another value", entries[:n] + [(revision, kind, key, value + b"x")] + entries[n + 1:]
    yield "another kind", entries[:n] + [(revision, kind + 1, key, value)] + entries[n + 1:]
    yield "the end is missing", entries[:-1]
    yield "one is invented", entries + [(revision, kind, key, value)]


def refuses_what_is_wrong(swarm, reference):
    """The judgement can fail: each kind of damage to a stream that passed is found."""
    for special in (kv.KeyRange.ALL, kv.KeyRange.PREFIX, kv.KeyRange.NONE):
        stream = next(s for s in swarm.streams() if s.wanted.range.special == special and len(s.entries) > 3)
        good = stream.entries
        for what, bad in damaged(good):
            stream.entries = bad
            assert complaint(stream, reference), what
        stream.entries = good
        assert complaint(stream, reference) is None
    stream = next(s for s in swarm.streams() if s.wanted.range.special == kv.KeyRange.ALL)
    # Half a revision, and one that was told before it came.
    revision = next(a[0] for a, b in zip(stream.entries, stream.entries[1:]) if a[0] == b[0])
    stream.entries = [e for n, e in enumerate(stream.entries) if e[0] != revision or stream.entries[n - 1][0] == revision]
    assert complaint(stream, reference)


def test_every_watch_tells_all_through_faults(tmp_path):
    rng = seeded()
    with Cluster(tmp_path) as cluster, Swarm(cluster, make_links(cluster, rng), rng) as swarm:
        swarm.wait_told(1)
        before = most = max(node.memory_bytes() for node in cluster.nodes.values())
        writers = [Writer(cluster, KEYS, number, pause_s=0.01) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        end = time.monotonic() + seconds(8, 90)
        while time.monotonic() < end:
            one_fault(cluster, rng)
            most = max(most, *(node.memory_bytes() for node in cluster.nodes.values()))
        cluster.wait_serving()
        for writer in writers:
            writer.end()
        revision = last_word(cluster, KEYS)
        swarm.hurry = True
        swarm.wait_told(revision)
        n_told = sum(len(stream.entries) for stream in swarm.streams())
        print(f"{revision} revisions, {n_told} events told, {swarm.losses()} connections lost, nodes of {before / MIB:.0f} MiB "
              f"had at most {most / MIB:.0f} MiB")
        assert n_told > 5 * WATCHES and swarm.losses() > 0
        # What they wrote, and what waits for those that are slow.
        assert most < before + LINKS * WAITING_BYTES + written_bytes(writers) + 32 * MIB + KEPT_BYTES
        refuses_what_is_wrong(swarm, judge(cluster, swarm, writers, rng, revision))
