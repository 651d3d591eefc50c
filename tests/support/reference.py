"""What streams of events must have told, by the history that the cluster keeps: read once more from its beginning, on each node
and key by key; and what is wrong with a stream, in words."""

import bisect
import itertools

from kvcluster import CREDIT, STREAM_ITEM, kv

CREDIT_BYTES = 16 << 20
FIRST_REVISION = 2  # the first that an event can have


def read_stream(node, revision, **fields):
    """All entries of one stream from its beginning up to the revision, whole ones; and the gaps."""
    from swarm import Stream

    client = node.client()
    (name, wanted), = fields.items()
    stream = Stream(wanted)
    wanted.credit = CREDIT_BYTES
    number = client.send_request(**{name: wanted})
    while stream.told is None or stream.told < revision:
        item = client.receive(STREAM_ITEM)
        assert not item.end, item
        stream.take(item)
        client.send(CREDIT, kv.Credit(id=number, bytes=item.ByteSize()))
    client.close()
    assert stream.wrong is None, stream.wrong
    return [entry for entry in stream.entries if entry[0] <= revision], stream.gaps


def read_events(node, revision):
    """(revision, kind, key, value) of all keys."""
    everything = kv.KeyRange(special=kv.KeyRange.ALL)
    return read_stream(node, revision, watch=kv.Watch(range=everything, start_revision=FIRST_REVISION))[0]


def read_key(node, key, revision):
    """The same of one key by its history: (revision, whether it went, key, value)."""
    client = node.client()
    versions, more, begin = [], True, FIRST_REVISION
    while more:
        reply = client.call(key_history=kv.KeyHistory(key=key, from_revision=begin, to_revision=revision))
        assert reply.code == kv.OK, reply
        more = reply.key_history.more
        versions += [(v.kv.mod_revision, v.deleted, key, v.kv.value) for v in reply.key_history.versions]
        begin = versions[-1][0] + 1 if versions else revision
    client.close()
    return versions


def is_in(key, wanted):
    if wanted.special == kv.KeyRange.ALL:
        return True
    if wanted.special == kv.KeyRange.PREFIX:
        return key.startswith(wanted.start)
    if wanted.special == kv.KeyRange.FROM_KEY:
        return key >= wanted.start
    return wanted.start <= key < wanted.end if wanted.end else key == wanted.start


class Reference:
    def __init__(self, events):
        self.events = events
        self.of_key = {}
        for event in events:
            self.of_key.setdefault(event[2], []).append(event)

    def wanted(self, watch, began, told):
        alone = not watch.range.special and not watch.range.end
        events = self.of_key.get(watch.range.start, []) if alone else self.events
        events = itertools.islice(events, bisect.bisect_left(events, (began + 1,)), bisect.bisect_left(events, (told + 1,)))
        return [(revision, kind, key, b"" if watch.keys_only else value) for revision, kind, key, value in events
                if (alone or is_in(key, watch.range)) and (not watch.kinds or kind in watch.kinds)]


def difference(told, wanted):
    """The first one, in words; None: they are the same."""
    for number, (had, should) in enumerate(itertools.zip_longest(told, wanted)):
        if had != should:
            if had in wanted[:number]:
                what = "comes twice, or late"
            elif should in told[number:]:
                what = "is told before its turn, or never was"
            else:
                what = "is missing, or is another"
            return f"{what}: entry {number} of {len(wanted)} is {str(had)[:200]}, and should be {str(should)[:200]}"
    return None


def complaint(stream, reference):
    """What is wrong with a stream of events; None: it is the exact sequence of its range."""
    if stream.wrong:
        return stream.wrong
    if stream.end is not None:
        return f"it ended: {stream.end}"
    if stream.began is None:
        return "it never began"
    found = difference(stream.entries, reference.wanted(stream.wanted, stream.began, stream.told))
    return found and f"{stream.wanted.range}: {found}"
