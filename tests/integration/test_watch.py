"""Watches over the protocol, on real processes: complete on every node, resumed elsewhere, slow readers, bad input."""

import contextlib
import time

import pytest

from kvcluster import CREDIT, CANCEL, PATIENCE_S, REPLY, STREAM_ITEM, Cluster, kv, wait_until

CREDIT_BYTES = 16 << 20
ALL = kv.KeyRange(special=kv.KeyRange.ALL)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("watch"), nodes=3) as cluster:
        yield cluster


def prefix(start):
    return kv.KeyRange(start=start, special=kv.KeyRange.PREFIX)


class Watcher:
    """One watch on a connection of its own; checks what holds for every stream."""

    def __init__(self, node, watched, **fields):
        self.client = node.client()
        fields.setdefault("credit", CREDIT_BYTES)
        self.id = self.client.send_request(watch=kv.Watch(range=watched, **fields))
        self.events = []
        self.told = None  # everything up to here was told

    def item(self):
        item = self.client.receive(STREAM_ITEM)
        assert item.id == self.id
        if item.end:
            return item
        assert item.HasField("watch") and item.revision == item.watch.revision
        for event in item.watch.events:
            revision = event.kv.mod_revision
            assert self.told is not None and revision > self.told
            assert revision <= item.revision + item.more_fragments
            assert not self.events or self.events[-1].kv.mod_revision <= revision
            self.events.append(event)
        assert self.told is None or item.revision >= self.told
        self.told = item.revision
        return item

    def until(self, revision):
        while self.told is None or self.told < revision:
            assert not self.item().end
        return self

    def end(self):
        while True:
            item = self.item()
            if item.end:
                return item

    def revisions(self):
        return [event.kv.mod_revision for event in self.events]

    def close(self):
        self.client.close()


@contextlib.contextmanager
def watching(node, watched, **fields):
    watcher = Watcher(node, watched, **fields)
    try:
        yield watcher
    finally:
        watcher.close()


def put(client, key, value=b"v"):
    reply = client.put(key, value)
    assert reply.code == kv.OK, reply
    return reply.revision


def refused(client, **fields):
    fields.setdefault("credit", 1000)
    fields.setdefault("range", ALL)
    client.send_request(watch=kv.Watch(**fields))
    item = client.receive(STREAM_ITEM)
    assert item.end
    return item


def test_every_node_tells_the_same(cluster):
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(watching(node, prefix(b"same/"))) for node in cluster.nodes.values()]
        for watcher in watchers:
            watcher.item()
        writer = cluster.leader().client()
        revisions = [put(writer, b"same/%d" % (i % 3), b"%d" % i) for i in range(100)]
        put(writer, b"other", b"x")
        for watcher in watchers:
            watcher.until(revisions[-1])
            assert watcher.revisions() == revisions
            assert [event.kv.value for event in watcher.events] == [b"%d" % i for i in range(100)]
        writer.close()


def test_an_event_tells_what_happened(cluster):
    node = cluster.leader()
    client = node.client()
    with watching(node, kv.KeyRange(start=b"one"), with_previous=True) as watcher:
        watcher.item()
        put(client, b"one", b"first")
        put(client, b"one", b"second")
        client.call(delete=kv.Delete(keys=[b"one"]))
        client.call(delete=kv.Delete(keys=[b"one"]))
        last = put(client, b"one", b"third")
        watcher.until(last)
        created, changed, deleted, again = watcher.events
    assert (created.kind, created.kv.value, created.HasField("previous")) == (kv.EVENT_PUT, b"first", False)
    assert created.kv.create_revision == created.kv.mod_revision and created.kv.version == 1
    assert (changed.kv.value, changed.previous.value, changed.kv.version) == (b"second", b"first", 2)
    assert (deleted.kind, deleted.kv.key, deleted.kv.value, deleted.previous.value) == \
        (kv.EVENT_DELETE, b"one", b"", b"second")
    assert deleted.kv.type == kv.TYPE_NONE and deleted.kv.mod_revision == changed.kv.mod_revision + 1
    assert again.kv.version == 1 and not again.HasField("previous")
    client.close()


def test_one_event_of_a_transaction(cluster):
    client = cluster.leader().client()
    with watching(cluster.leader(), prefix(b"txn/")) as watcher:
        watcher.item()
        operations = [kv.Request(put=kv.Put(key=b"txn/a", value=b"1")),
                      kv.Request(put=kv.Put(key=b"txn/b", value=b"1")),
                      kv.Request(put=kv.Put(key=b"txn/a", value=b"2")),
                      kv.Request(put=kv.Put(key=b"txn/gone", value=b"2")),
                      kv.Request(delete=kv.Delete(keys=[b"txn/gone"]))]
        reply = client.call(txn=kv.Txn(then=operations))
        assert reply.code == kv.OK
        watcher.until(reply.revision)
    assert sorted((event.kv.key, event.kv.value) for event in watcher.events) == [(b"txn/a", b"2"), (b"txn/b", b"1")]
    client.close()


def test_elements_of_collections(cluster):
    client = cluster.leader().client()
    names = [b"m%03d" % i for i in range(200)]
    with watching(cluster.leader(), prefix(b"el/")) as watcher:
        watcher.item()

        def event(**command):
            reply = client.call(**command)
            assert reply.code == kv.OK, reply
            watcher.until(reply.revision)
            return watcher.events[-1]

        field = kv.HashField(name=b"f", value=b"1")
        assert list(event(hash_set=kv.HashSet(key=b"el/h", fields=[field])).fields) == [field]
        told = event(hash_delete=kv.HashDelete(key=b"el/h", fields=[b"f"]))
        assert told.kind == kv.EVENT_DELETE and not told.removed
        assert list(event(set_add=kv.SetAdd(key=b"el/s", members=[b"b", b"a"])).elements) == [b"a", b"b"]
        told = event(set_remove=kv.SetRemove(key=b"el/s", members=[b"a"]))
        assert (list(told.elements), list(told.removed), told.kv.elements) == ([], [b"a"], 1)
        told = event(set_add=kv.SetAdd(key=b"el/s", members=names))
        assert told.replaced and told.kv.elements == 201 and not told.elements
        told = event(set_remove=kv.SetRemove(key=b"el/s", members=[names[7], b"none"]))
        assert list(told.removed) == [names[7]] and not told.replaced
        told = event(list_push=kv.ListPush(key=b"el/l", elements=[b"x", b"y"], end=kv.LIST_RIGHT))
        assert list(told.elements) == [b"x", b"y"]
        told = event(list_pop=kv.ListPop(key=b"el/l"))
        assert (list(told.elements), list(told.removed)) == ([], [b"x"])
        member = kv.ZSetMember(member=b"z", score=1.5)
        assert list(event(zset_add=kv.ZSetAdd(key=b"el/z", members=[member])).members) == [member]
        told = event(put=kv.Put(key=b"el/z", value=b"now a string"))
        assert told.kv.type == kv.TYPE_STRING and not told.members
        told = event(copy=kv.Copy(key=b"el/s", to=b"el/z"))
        assert told.replaced and told.kv.elements == 200
    client.close()


def test_filters(cluster):
    client = cluster.leader().client()
    with watching(cluster.leader(), prefix(b"fi/"), kinds=[kv.EVENT_DELETE]) as deletes, \
            watching(cluster.leader(), prefix(b"fi/"), types=[kv.TYPE_COUNTER]) as counters, \
            watching(cluster.leader(), prefix(b"fi/"), keys_only=True) as keys:
        for watcher in (deletes, counters, keys):
            watcher.item()
        put(client, b"fi/s")
        client.call(counter_add=kv.CounterAdd(key=b"fi/c", delta=3))
        client.call(delete=kv.Delete(keys=[b"fi/s"]))
        last = client.call(delete=kv.Delete(keys=[b"fi/c"])).revision
        for watcher in (deletes, counters, keys):
            watcher.until(last)
    assert [event.kv.key for event in deletes.events] == [b"fi/s", b"fi/c"]
    assert [(event.kind, event.kv.key) for event in counters.events] == \
        [(kv.EVENT_PUT, b"fi/c"), (kv.EVENT_DELETE, b"fi/c")]
    assert len(keys.events) == 4 and all(event.kv.value == b"" for event in keys.events)
    client.close()


def test_filters_that_let_nothing_pass(cluster):
    """It is no error: such a watch tells how far it is, and lives."""
    client = cluster.leader().client()
    with watching(cluster.followers()[0], prefix(b"no/"), kinds=[kv.EVENT_EXPIRE], types=[kv.TYPE_ZSET],
                  progress_ms=100) as watcher:
        watcher.item()
        for i in range(20):
            revision = put(client, b"no/%d" % i)
        assert watcher.until(revision).events == []
    client.close()


def test_progress_and_cancel(cluster):
    node = cluster.followers()[0]
    with watching(node, kv.KeyRange(start=b"silent"), progress_ms=100) as watcher:
        first = watcher.item()
        writer = node.client()
        revision = put(writer, b"noise")
        watcher.until(revision)
        assert not watcher.events and revision > first.revision
        watcher.client.send(CANCEL, kv.Cancel(id=watcher.id))
        assert watcher.end().code == kv.OK
        # The connection goes on.
        assert watcher.client.call(status=kv.Status()).code == kv.OK
        writer.close()


@pytest.mark.parametrize("fields, words", [
    ({"range": kv.KeyRange(start=b"a", end=b"a")}, "empty"),
    ({"range": kv.KeyRange(start=b"b", end=b"a")}, "ends before"),
    ({"range": kv.KeyRange()}, "no start"),
    ({"range": kv.KeyRange(special=9)}, "special"),
    ({"start_revision": -1}, "negative"),
    ({"progress_ms": 99}, "progress_ms"),
    ({"progress_ms": 86400001}, "progress_ms"),
    ({"kinds": [7]}, "kind of event 7"),
    ({"types": [kv.TYPE_NONE]}, "TYPE_NONE"),
    ({"types": [99]}, "unknown type 99"),
])
def test_what_bad_input_gets(cluster, fields, words):
    client = cluster.leader().client()
    item = refused(client, **fields)
    assert item.code == kv.INVALID and words in item.message, item
    assert client.call(status=kv.Status()).code == kv.OK
    client.close()


def test_a_future_start_waits(cluster):
    client = cluster.leader().client()
    revision = put(client, b"fu/1")
    with watching(cluster.leader(), prefix(b"fu/"), start_revision=revision + 3) as watcher:
        assert watcher.item().revision == revision + 2
        for i in range(4):
            last = put(client, b"fu/%d" % i)
        watcher.until(last)
        assert watcher.revisions() == [revision + 3, revision + 4]
    client.close()


def test_a_compacted_start_names_the_oldest(cluster):
    client = cluster.leader().client()
    for i in range(20):
        revision = put(client, b"co/%d" % i)
    assert client.call(compact=kv.Compact(revision=revision - 5)).code == kv.OK
    item = refused(client, start_revision=revision - 5)
    assert (item.code, item.hint.oldest_revision) == (kv.COMPACTED, revision - 5), item
    with watching(cluster.leader(), prefix(b"co/"), start_revision=revision - 4) as watcher:
        assert watcher.until(revision).revisions() == list(range(revision - 4, revision + 1))
    client.close()


def test_too_many_on_one_connection(cluster):
    limit = 16384
    client = cluster.leader().client()
    for i in range(limit + 1):
        client.send_request(watch=kv.Watch(range=kv.KeyRange(start=b"many/%d" % i), credit=1000))
    began = set()
    while len(began) < limit:
        item = client.receive(STREAM_ITEM)
        if item.end:
            assert item.id == limit + 1 and item.code == kv.BUSY, item
            assert (item.hint.limit, item.hint.limit_value) == ("connection-subscriptions", limit)
            refusal = item
        else:
            began.add(item.id)
    assert "connection-subscriptions" in refusal.message
    # All of them work, and the connection serves.
    revision = put(client, b"many/%d" % (limit - 1))
    item = client.receive(STREAM_ITEM)
    assert item.id == limit and item.watch.events[0].kv.mod_revision == revision
    # They go with their connection.
    client.close()

    def gone():
        lines = cluster.leader().http("/metrics")[1].splitlines()
        return "kvd_watches 0" in lines

    wait_until(gone, "the watches of a closed connection are gone")


def test_who_does_not_read_disturbs_nobody(cluster):
    node = cluster.leader()
    writer = node.client()
    with watching(node, prefix(b"slow/")) as slow, watching(node, prefix(b"slow/")) as quick:
        slow.item()
        quick.item()
        revisions = []
        # Far more than a socket and its buffers hold.
        for i in range(400):
            revisions.append(put(writer, b"slow/%d" % i, b"x" * 100_000))
            quick.until(revisions[-1])
            quick.client.send(CREDIT, kv.Credit(id=quick.id, bytes=200_000))
        assert quick.revisions() == revisions
        metrics = dict(line.rsplit(" ", 1) for line in node.http("/metrics")[1].splitlines() if line[0] != "#")
        assert int(metrics["kvd_subscriptions_behind"]) == 1
        # Nothing is lost when it reads again.
        while slow.told < revisions[-1]:
            assert not slow.item().end
            slow.client.send(CREDIT, kv.Credit(id=slow.id, bytes=200_000))
        assert slow.revisions() == revisions
    writer.close()


def test_history_that_goes_ends_a_slow_reader_with_its_reason(cluster):
    node = cluster.leader()
    client = node.client()
    revision = put(client, b"lost/0")
    with watching(node, prefix(b"lost/"), credit=1, start_revision=revision) as watcher:
        watcher.item()
        for i in range(10):
            revision = put(client, b"lost/%d" % i)
        client.call(compact=kv.Compact(revision=revision))
        end = watcher.end()
        assert (end.code, end.hint.oldest_revision) == (kv.COMPACTED, revision), end
    client.close()


def test_a_stream_is_resumed_at_another_node(tmp_path):
    """The node of the watch dies, and the leader: what was told goes on elsewhere without gap or overlap."""
    with Cluster(tmp_path, nodes=3) as cluster:
        victim = cluster.leader()
        writer = cluster.followers()[0]
        client = writer.client()
        watcher = Watcher(victim, prefix(b"go/"))
        watcher.item()
        written = [put(client, b"go/%d" % i) for i in range(30)]
        watcher.until(written[9])
        had, next_revision = watcher.revisions(), watcher.told + 1
        watcher.close()
        victim.kill()
        for i in range(30):
            deadline = time.monotonic() + PATIENCE_S
            while (reply := client.put(b"go/%d" % i, b"again")).code != kv.OK:
                assert time.monotonic() < deadline, reply
            written.append(reply.revision)
        other = [node for node in cluster.nodes.values() if node is not victim and node is not writer][0]
        with watching(other, prefix(b"go/"), start_revision=next_revision) as resumed:
            resumed.until(written[-1])
        told = had + resumed.revisions()
        assert told == sorted(set(told)) and set(written) <= set(told)
        client.close()


def test_require_leader(tmp_path):
    with Cluster(tmp_path, nodes=3) as cluster:
        lonely = cluster.followers()[0]
        with watching(lonely, ALL, require_leader_ms=500) as demanding, watching(lonely, ALL) as patient:
            demanding.item()
            patient.item()
            for node in cluster.nodes.values():
                if node is not lonely:
                    node.kill()
            end = demanding.end()
            assert end.code == kv.NO_LEADER and "require_leader_ms" in end.message, end
            for node in cluster.nodes.values():
                if node is not lonely:
                    node.start()
            cluster.wait_serving()
            client = lonely.client()
            patient.until(put(client, b"back"))
            assert patient.events[-1].kv.key == b"back"
            client.close()


def test_a_stopping_node_says_so(tmp_path):
    with Cluster(tmp_path, nodes=1) as cluster:
        node = cluster.nodes[1]
        watcher = Watcher(node, ALL)
        watcher.item()
        node.process.terminate()
        kinds = []
        with pytest.raises(EOFError):
            while True:
                kinds.append(watcher.client.receive())
        assert any(getattr(message, "end", False) and message.code == kv.SHUTTING_DOWN for message in kinds), kinds
        assert node.process.wait(PATIENCE_S) == 0
        watcher.close()
