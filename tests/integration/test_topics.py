"""Topics through the protocol alone, on real processes: one order on every node, patterns, resuming elsewhere, losses that are
named, slow readers, and what bad subscriptions get."""

import re

import pytest

from kvcluster import CANCEL, CREDIT, PATIENCE_S, STREAM_ITEM, Client, Cluster, kv, wait_until

CREDIT_BYTES = 1 << 20


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def alone(tmp_path):
    with Cluster(tmp_path, nodes=1) as cluster:
        yield cluster


class Subscriber:
    """A stream on a connection of its own: checks the rules that every stream keeps."""

    def __init__(self, node, topic, credit=CREDIT_BYTES, **options):
        self.client = node.connect(Client)
        self.id = self.client.send_request(subscribe=kv.Subscribe(topic=topic, credit=credit, **options))
        self.messages = []  # (revision, topic, payload)
        self.gaps = []
        self.told = None  # everything up to here
        self.end = None
        self.fragment = False

    def next_item(self, grant=True):
        item = self.client.receive(STREAM_ITEM)
        assert item.id == self.id
        if item.end:
            self.end = item
            return item
        topic = item.topic
        if self.told is None:
            assert not topic.messages and not item.more_fragments
        else:
            assert topic.revision >= self.told
        if topic.gap_from:
            assert 0 < topic.gap_from <= topic.gap_to
            self.gaps.append((topic.gap_from, topic.gap_to))
        for message in topic.messages:
            assert self.told < message.revision <= topic.revision + item.more_fragments
            assert not self.messages or self.messages[-1][0] <= message.revision
            self.messages.append((message.revision, message.topic, message.payload))
        self.told = topic.revision
        self.fragment = item.more_fragments
        if grant:
            self.client.send(CREDIT, kv.Credit(id=self.id, bytes=item.ByteSize()))
        return item

    def begin(self):
        self.next_item()
        return self

    def read(self, n):
        while len(self.messages) < n and not self.end:
            self.next_item()
        assert not self.end, self.end
        return self.messages

    def payloads(self, n):
        return [payload for _, _, payload in self.read(n)]

    def close(self):
        self.client.close()


def publish(client, topic, payload=b"", **fields):
    reply = client.call(publish=kv.Publish(topic=topic, payload=payload), **fields)
    assert reply.code == kv.OK, reply
    assert reply.publish.revision == reply.revision
    return reply.revision


def test_one_order_on_every_node(cluster):
    nodes = list(cluster.nodes.values())
    subscribers = [Subscriber(node, b"chat/*", pattern=True).begin() for node in nodes]
    exact = Subscriber(nodes[1], b"chat/2").begin()
    clients = [node.client() for node in nodes]
    for i in range(150):
        clients[i % 3].send_request(publish=kv.Publish(topic=b"chat/%d" % (i % 5), payload=b"%d" % i))
        clients[i % 3].send_request(publish=kv.Publish(topic=b"other", payload=b"x"))
    orders = [subscriber.read(150) for subscriber in subscribers]
    assert orders[0] == orders[1] == orders[2]
    assert exact.read(30) == [message for message in orders[0] if message[1] == b"chat/2"]
    assert sorted(int(payload) for _, _, payload in orders[0]) == list(range(150))


def test_a_subscriber_resumes_on_another_node(cluster):
    client = cluster.leader().client()
    first = cluster.followers()[0]
    subscriber = Subscriber(first, b"news").begin()
    for i in range(5):
        publish(client, b"news", b"%d" % i)
    assert subscriber.payloads(5) == [b"%d" % i for i in range(5)]
    first.kill()
    for i in range(5, 10):
        publish(client, b"news", b"%d" % i)
    again = Subscriber(cluster.leader(), b"news", start_revision=subscriber.told + 1).begin()
    assert again.told == subscriber.told
    assert again.payloads(5) == [b"%d" % i for i in range(5, 10)]
    assert again.gaps == []


def test_messages_of_a_transaction_come_together(alone):
    client = alone.nodes[1].client()
    subscriber = Subscriber(alone.nodes[1], b"t*", pattern=True).begin()
    operations = [kv.Request(publish=kv.Publish(topic=topic, payload=b"p")) for topic in (b"t1", b"u", b"t2", b"t1")]
    reply = client.call(txn=kv.Txn(then=operations))
    assert reply.code == kv.OK
    assert {one.publish.revision for one in reply.txn.replies} == {reply.revision}
    item = subscriber.next_item()
    assert [message.topic for message in item.topic.messages] == [b"t1", b"t2", b"t1"]
    assert not item.more_fragments and item.topic.revision == reply.revision
    # What fails was never published.
    operations.append(kv.Request(getdel=kv.GetDel(key=b"none")))
    assert client.call(txn=kv.Txn(then=operations)).code == kv.NOT_FOUND
    publish(client, b"t3")
    assert subscriber.read(4)[-1][1] == b"t3"


def test_a_large_revision_comes_in_fragments(alone):
    client = alone.nodes[1].client()
    live = Subscriber(alone.nodes[1], b"big").begin()
    operations = [kv.Request(publish=kv.Publish(topic=b"big", payload=b"%d" % i * 20000)) for i in range(8)]
    revision = client.call(txn=kv.Txn(then=operations)).revision
    late = Subscriber(alone.nodes[1], b"*", pattern=True, start_revision=revision).begin()
    for subscriber in (live, late):
        fragments = 0
        while len(subscriber.messages) < 8 or subscriber.fragment:
            subscriber.next_item()
            fragments += subscriber.fragment
            assert subscriber.told == revision - subscriber.fragment
        assert fragments > 0
        assert [payload[:1] for _, _, payload in subscriber.messages] == [b"%d" % i for i in range(8)]


def test_where_a_subscription_begins(alone):
    node = alone.nodes[1]
    client = node.client()
    revisions = [publish(client, b"a" if i % 2 else b"b", b"%d" % i) for i in range(10)]
    assert Subscriber(node, b"a", last=2).begin().payloads(2) == [b"7", b"9"]
    assert Subscriber(node, b"?", pattern=True, last=3).begin().payloads(3) == [b"7", b"8", b"9"]
    assert Subscriber(node, b"a", last=100).begin().payloads(5) == [b"1", b"3", b"5", b"7", b"9"]
    assert Subscriber(node, b"b", start_revision=revisions[5]).begin().payloads(2) == [b"6", b"8"]
    now = Subscriber(node, b"*", pattern=True).begin()
    assert now.told == revisions[-1]
    nothing = Subscriber(node, b"none", last=5).begin()
    assert nothing.told == revisions[-1]
    future = Subscriber(node, b"a", start_revision=revisions[-1] + 3).begin()
    assert future.told == revisions[-1] + 2
    for i in range(10, 14):
        publish(client, b"a", b"%d" % i)
    assert future.payloads(2) == [b"12", b"13"]
    assert now.payloads(4) == [b"10", b"11", b"12", b"13"]


def test_what_was_dropped_is_named(alone):
    node = alone.nodes[1]
    client = node.client()
    assert client.call(config_set=kv.ConfigSet(name="topic-messages", value=3)).code == kv.OK
    quiet = publish(client, b"quiet", b"q")
    revisions = [publish(client, b"busy", b"%d" % i) for i in range(10)]
    late = Subscriber(node, b"busy", start_revision=revisions[0]).begin()
    assert late.payloads(3) == [b"7", b"8", b"9"]
    assert late.gaps == [(revisions[0], revisions[6])]
    both = Subscriber(node, b"*", pattern=True, start_revision=quiet).begin()
    # Of the revisions that may lack something what is there is told all the same.
    assert both.payloads(4) == [b"q", b"7", b"8", b"9"]
    assert both.gaps == [(quiet, revisions[6])]
    calm = Subscriber(node, b"quiet", start_revision=quiet).begin()
    assert calm.payloads(1) == [b"q"] and calm.gaps == []


def test_a_reader_that_stops_is_behind_and_told_of_its_loss(alone):
    node = alone.nodes[1]
    client = node.client()
    assert client.call(config_set=kv.ConfigSet(name="topic-messages", value=50)).code == kv.OK
    slow = Subscriber(node, b"load", credit=2000)
    slow.next_item(grant=False)
    other = Subscriber(node, b"load").begin()
    for i in range(400):
        publish(client, b"load", b"%03d" % i + b"x" * 500)
    # The other one is not held up.
    assert [payload[:3] for payload in other.payloads(400)] == [b"%03d" % i for i in range(400)]
    assert other.gaps == []
    slow.client.send(CREDIT, kv.Credit(id=slow.id, bytes=CREDIT_BYTES))
    while not slow.messages or slow.messages[-1][2][:3] != b"399":
        slow.next_item()
    got = [int(payload[:3]) for _, _, payload in slow.messages]
    assert got == sorted(set(got)) and got[-50:] == list(range(350, 400)) and len(got) < 100
    # Whatever it did not get lies in what was named.
    revisions = {int(payload[:3]): revision for revision, _, payload in other.messages}
    for i in set(range(400)) - set(got):
        assert any(first <= revisions[i] <= last for first, last in slow.gaps), i


def test_a_client_that_reads_nothing_holds_up_nobody(alone):
    """Credit without end, and a socket that nobody reads from."""
    node = alone.nodes[1]
    client = node.client()
    deaf = Subscriber(node, b"load", credit=1 << 24)
    other = Subscriber(node, b"load").begin()
    for i in range(200):
        publish(client, b"load", b"%03d" % i + b"x" * 100_000)
        other.read(i + 1)
    assert len(other.messages) == 200 and other.gaps == []
    memory = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{node.process.pid}/status").read())[1])
    assert memory < 200_000
    deaf.begin()
    while not deaf.messages or deaf.messages[-1][2][:3] != b"199":
        deaf.next_item()


def test_topics_end_by_age_and_a_subscriber_hears_of_it(alone):
    node = alone.nodes[1]
    client = node.client()
    assert client.call(config_set=kv.ConfigSet(name="topic-age-ms", value=1000)).code == kv.OK
    revision = publish(client, b"brief", b"x")
    wait_until(lambda: not client.call(topic_list=kv.TopicList()).topic_list.topics, "the topic's end")
    late = Subscriber(node, b"brief", start_revision=revision).begin()
    late.next_item()
    assert late.gaps == [(revision, revision)] and late.messages == []
    publish(client, b"brief", b"y")
    assert late.payloads(1) == [b"y"]


def test_lists_tell_who_listens_here(cluster):
    nodes = list(cluster.nodes.values())
    client = nodes[0].client()
    for topic in (b"a/1", b"a/2", b"b"):
        revision = publish(client, topic, b"xyz")
    listeners = [Subscriber(nodes[0], b"a/1").begin(), Subscriber(nodes[0], b"a/1").begin(),
                 Subscriber(nodes[0], b"a/*", pattern=True).begin(), Subscriber(nodes[1], b"b").begin()]

    def listed(node, **fields):
        connection = node.client()
        reply = connection.call(topic_list=kv.TopicList(**fields))
        connection.close()
        assert reply.code == kv.OK
        return {info.topic: info for info in reply.topic_list.topics}

    here = listed(nodes[0])
    assert {topic: info.subscribers for topic, info in here.items()} == {b"a/1": 3, b"a/2": 1, b"b": 0}
    assert (here[b"b"].messages, here[b"b"].bytes, here[b"b"].newest_revision) == (1, 44, revision)
    assert {topic: info.subscribers for topic, info in listed(nodes[1]).items()} == {b"a/1": 0, b"a/2": 0, b"b": 1}
    assert list(listed(nodes[0], prefix=b"a/", cursor=b"a/1")) == [b"a/2"]
    listeners[0].client.send(CANCEL, kv.Cancel(id=listeners[0].id))
    assert listeners[0].next_item().end and listeners[0].end.code == kv.OK
    assert listed(nodes[0])[b"a/1"].subscribers == 2
    listeners[2].close()
    wait_until(lambda: listed(nodes[0])[b"a/2"].subscribers == 0, "the closed connection's stream ends")
    metrics = nodes[0].http("/metrics")[1]
    assert re.search(r"^kvd_topics 3$", metrics, re.M) and re.search(r"^kvd_topic_subscriptions 1$", metrics, re.M)
    assert client.call(status=kv.Status()).status.topic_messages == 3


def test_progress_is_told_when_nothing_comes(alone):
    client = alone.nodes[1].client()
    subscriber = Subscriber(alone.nodes[1], b"idle", progress_ms=100).begin()
    revision = client.put(b"k", b"v").revision
    while subscriber.told < revision:
        item = subscriber.next_item()
        assert not item.topic.messages


@pytest.mark.parametrize("fields, code, words", [
    ({"topic": b""}, kv.INVALID, "the topic is empty"),
    ({"topic": b"x" * 4097}, kv.TOO_LARGE, "4096"),
    ({"topic": b"a[bc", "pattern": True}, kv.INVALID, "closing bracket"),
    ({"topic": b"a\\", "pattern": True}, kv.INVALID, "lone backslash"),
    ({"topic": b"*" + b"a" * 256, "pattern": True}, kv.INVALID, "costly"),
    ({"topic": b"*" * 1025, "pattern": True}, kv.INVALID, "1025 bytes"),
    ({"topic": b"a", "start_revision": 1, "last": 1}, kv.INVALID, "not both"),
    ({"topic": b"a", "start_revision": -1}, kv.INVALID, "negative"),
    ({"topic": b"a", "last": 1_000_001}, kv.OUT_OF_BOUNDS, "1000000"),
])
def test_bad_subscriptions_are_refused(alone, fields, code, words):
    subscriber = Subscriber(alone.nodes[1], **fields)
    assert subscriber.next_item().end
    assert subscriber.end.code == code and words in subscriber.end.message, subscriber.end


def test_bad_publications_are_refused(alone):
    client = alone.nodes[1].client()
    for topic, payload, code in ((b"", b"x", kv.INVALID), (b"x" * 4097, b"", kv.TOO_LARGE),
                                 (b"a", b"x" * ((1 << 20) + 1), kv.TOO_LARGE)):
        reply = client.call(publish=kv.Publish(topic=topic, payload=payload))
        assert reply.code == code and reply.message
    assert client.call(config_set=kv.ConfigSet(name="topic-limit", value=1)).code == kv.OK
    publish(client, b"a")
    reply = client.call(publish=kv.Publish(topic=b"b"))
    assert reply.code == kv.BUSY and reply.hint.limit == "topic-limit"


def test_too_many_patterns_are_refused(alone):
    client = alone.nodes[1].client()
    for i in range(1024):
        client.send_request(subscribe=kv.Subscribe(topic=b"%d*" % i, pattern=True, credit=1000))
    begun = {client.receive(STREAM_ITEM).id for _ in range(1024)}
    assert len(begun) == 1024
    client.send_request(subscribe=kv.Subscribe(topic=b"one more*", pattern=True, credit=1000))
    item = client.receive(STREAM_ITEM)
    assert item.end and item.code == kv.BUSY and "1024 different patterns" in item.message
    # One that is there already is no further one.
    client.send_request(subscribe=kv.Subscribe(topic=b"7*", pattern=True, credit=1000))
    assert client.receive(STREAM_ITEM).code == kv.OK


def test_a_stamped_publication_is_done_once(cluster):
    client = cluster.leader().client()
    session = client.call(session_open=kv.SessionOpen()).session_open.session_id
    stamp = kv.SessionStamp(session_id=session, sequence=1)
    subscriber = Subscriber(cluster.leader(), b"once").begin()
    first = publish(client, b"once", b"1", session=stamp)
    follower = cluster.followers()[0].client()
    assert follower.call(publish=kv.Publish(topic=b"once", payload=b"1"), session=stamp).revision == first
    publish(follower, b"once", b"2")
    assert subscriber.payloads(2) == [b"1", b"2"]


def test_streams_survive_the_leaders_death(cluster):
    leader = cluster.leader()
    follower = cluster.followers()[0]
    subscriber = Subscriber(follower, b"m").begin()
    publish(leader.client(), b"m", b"1")
    leader.kill()
    client = follower.client()
    wait_until(lambda: client.call(publish=kv.Publish(topic=b"m", payload=b"2")).code == kv.OK, "a new leader", PATIENCE_S)
    payloads = subscriber.payloads(2)
    assert payloads[0] == b"1" and payloads[1] == b"2"
