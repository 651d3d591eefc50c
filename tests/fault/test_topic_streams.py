"""Subscribers of topics and globs on three nodes that are killed, stopped and hung: one order on all nodes, every
acknowledged message once, nothing missing of what is retained, and a gap named where something is not. KV_FAULT_SEED replays
the choice of faults."""

import fnmatch
import time

import kvctl_process
from faults import one_fault
from kvcluster import Cluster, kv
from load import seconds, seeded
from reference import FIRST_REVISION, difference, read_stream
from stream_load import Writer, done_at
from swarm import PROGRESS_MS, Link, Stream, Swarm

TOPICS = [b"chat/%d/%d" % (a, b) for a in range(10) for b in range(10)]
GLOBS = [b"*", b"chat/3/*", b"chat/?/[2-5]", b"*/7"]
SUBSCRIPTIONS = 600
LINKS = 24
WRITERS = 3
LAZY = 10  # do not read for so long that they miss something where little is retained


class Publisher(Writer):
    def command(self):
        rng = self.random
        if rng.random() < 0.2:
            # One topic may come several times in it.
            writes = [(rng.choice(TOPICS), self.value()) for _ in range(rng.randrange(2, 8))]
            if rng.random() < 0.1:
                writes = [(topic, self.value(20_000)) for topic, _ in writes]
            return dict(txn=kv.Txn(then=[kv.Request(publish=kv.Publish(topic=t, payload=p)) for t, p in writes])), writes
        topic = rng.choice(TOPICS)
        payload = self.value()
        return dict(publish=kv.Publish(topic=topic, payload=payload)), [(topic, payload)]


def make_links(cluster):
    links = []
    for number in range(LINKS):
        streams = []
        for n in range(number, SUBSCRIPTIONS, LINKS):
            pattern = n < 40
            topic = GLOBS[n % len(GLOBS)] if pattern else TOPICS[n % len(TOPICS)]
            # What there is must be told, and when nothing comes, how far that is.
            wanted = kv.Subscribe(topic=topic, pattern=pattern, progress_ms=PROGRESS_MS)
            streams.append(Stream(wanted, slow_s=0.2 + n % 3 if n % 20 == 0 else 0))
        links.append(Link(streams, deaf_s=2 if number < 2 else 0, home=cluster.nodes[number % len(cluster.nodes) + 1]))
    return links


def is_of(topic, wanted):
    if not wanted.pattern:
        return topic == wanted.topic
    return fnmatch.fnmatchcase(topic.decode(), wanted.topic.decode())


def complaint(stream, messages):
    """What is wrong with a stream of (revision, topic, payload); what is in a gap that was named may be missing."""
    if stream.wrong or stream.end is not None or stream.began is None:
        return stream.wrong or f"it ended, or never began: {stream.end}"
    told = set(stream.entries)
    wanted = [m for m in messages if stream.began < m[0] <= stream.told and is_of(m[1], stream.wanted) and
              (m in told or not any(first <= m[0] <= last for first, last in stream.gaps))]
    found = difference(stream.entries, wanted)
    return found and f"{stream.wanted.topic}: {found}"


def judge(cluster, swarm, publishers, revision):
    all_of_them = [read_stream(node, revision, subscribe=kv.Subscribe(topic=b"*", pattern=True, start_revision=FIRST_REVISION))
                   for node in cluster.nodes.values()]
    messages, gaps = all_of_them[0]
    assert not gaps and all_of_them[1:] == all_of_them[:1] * 2
    published = [m for publisher in publishers for m in publisher.acknowledged]
    assert len(published) > 100 and len(set(published)) == len(published)
    missing = set(published) - set(messages)
    assert not missing, list(missing)[:5]
    assert len(set(messages)) == len(messages)
    found = [text for text in (complaint(stream, messages) for stream in swarm.streams()) if text]
    assert not found, (len(found), found[:5])
    assert not any(stream.gaps for stream in swarm.streams())
    return messages


def refuses_what_is_wrong(swarm, messages):
    """The judgement can fail."""
    stream = max(swarm.streams(), key=lambda s: len(s.entries))
    good = stream.entries
    n = len(good) // 2
    for bad in (good[:n] + good[n + 1:], good[:n + 1] + good[n:], good[:n] + [good[n + 1], good[n]] + good[n + 2:],
                good[:n] + [(good[n][0], good[n][1], b"another")] + good[n + 1:], good[:-1]):
        stream.entries = bad
        assert complaint(stream, messages)
    # A gap excuses what is in it alone.
    stream.entries = good[:n] + good[n + 1:]
    stream.gaps = [(good[n][0], good[n][0])]
    assert complaint(stream, messages) is None
    stream.gaps = [(good[n][0] + 1, good[n][0] + 1)]
    assert complaint(stream, messages)
    stream.entries, stream.gaps = good, []


def under_faults(cluster, swarm, rng, length_s):
    """Publishes meanwhile; the publishers, and a revision behind all that they did."""
    swarm.wait_told(1)
    publishers = [Publisher(cluster, TOPICS, number, pause_s=0.01) for number in range(WRITERS)]
    for publisher in publishers:
        publisher.start()
    end = time.monotonic() + length_s
    while time.monotonic() < end:
        one_fault(cluster, rng)
    cluster.wait_serving()
    for publisher in publishers:
        publisher.end()
    revision = done_at(cluster, put=kv.Put(key=b"last", value=b"word"))
    swarm.hurry = True
    swarm.wait_told(revision)
    n_told = sum(len(stream.entries) for stream in swarm.streams())
    print(f"{revision} revisions, {n_told} messages told, {swarm.losses()} connections lost")
    return publishers, revision


def test_one_order_and_nothing_lost(tmp_path):
    rng = seeded()
    with Cluster(tmp_path) as cluster:
        kvctl_process.run(cluster.endpoints(), "config", "set", "topic-messages", "1000000")
        with Swarm(cluster, make_links(cluster), rng) as swarm:
            publishers, revision = under_faults(cluster, swarm, rng, seconds(7, 60))
            assert swarm.losses() > 0
            refuses_what_is_wrong(swarm, judge(cluster, swarm, publishers, revision))


def test_what_is_not_retained_is_named(tmp_path):
    """The same with little retained. A quick reader on each node tells what there was."""
    rng = seeded()
    with Cluster(tmp_path) as cluster:
        kvctl_process.run(cluster.endpoints(), "config", "set", "topic-messages", "3")
        everything = dict(topic=b"*", pattern=True, progress_ms=PROGRESS_MS)
        quick = [Link([Stream(kv.Subscribe(**everything))], home=node) for node in cluster.nodes.values()]
        lazy = [Link([Stream(kv.Subscribe(**everything))], deaf_s=4) for _ in range(LAZY)]
        with Swarm(cluster, quick + lazy, rng) as swarm:
            _, revision = under_faults(cluster, swarm, rng, seconds(5, 30))
            streams = swarm.streams()
            messages = set().union(*(stream.entries for stream in streams))
            for stream in streams:
                assert stream.end is None and stream.wrong is None and stream.told >= revision
                # Of all that anybody was told it was told, too, or of a gap.
                missing = [m for m in messages - set(stream.entries) if m[0] > stream.began and
                           not any(first <= m[0] <= last for first, last in stream.gaps)]
                assert not missing, missing[:5]
                revisions = [m[0] for m in stream.entries]
                assert revisions == sorted(revisions) and len(set(stream.entries)) == len(stream.entries)
            print(f"{sum(len(stream.gaps) for stream in streams)} gaps")
            assert any(stream.gaps for stream in streams)
