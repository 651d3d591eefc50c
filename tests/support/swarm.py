"""Thousands of streams (watches and subscriptions) on few connections, by the protocol alone, in one thread. A stream whose
connection is lost goes on at another node behind what it was told. Some are read slowly: they give no credit for a while, or
nothing is read from their connection."""

import selectors
import struct
import threading
import time

from kvcluster import CREDIT, PATIENCE_S, REQUEST, STREAM_ITEM, Client, kv, wait_until

CREDIT_BYTES = 128 << 10
SLOW_CREDIT_BYTES = 1 << 10  # so little that a stream falls behind, catches up and falls behind again
SILENCE_S = 3  # so long a connection may be silent; its first stream asks for progress
PROGRESS_MS = 500
READ_BYTES = 1 << 18
LOOK_S = 0.05  # between two looks at all links
CONNECT_S = 0.5  # the other links wait meanwhile
ELSEWHERE = (kv.SHUTTING_DOWN, kv.NO_LEADER, kv.NOT_LEADER)  # ends of a stream that is asked for again


class Stream:
    """One watch or subscription: what is asked for, and what was told, in the order in which it came."""

    def __init__(self, wanted, slow_s=0):
        self.wanted = wanted  # a kv.Watch or kv.Subscribe; start and credit are set here
        self.slow_s = slow_s  # so long it keeps its credit back, of which it has little
        self.credit = SLOW_CREDIT_BYTES if slow_s else CREDIT_BYTES
        self.told = wanted.start_revision - 1 if wanted.start_revision else None  # everything up to here was told
        self.began = self.told  # the revision before the first that it must tell
        self.entries = []
        self.part = []  # of a revision of which more comes: asked for again when the connection is lost
        self.gaps = []
        self.end = None
        self.wrong = None
        self.owed = 0
        self.last_grant = 0.0
        self.fresh = True

    def request(self):
        """As it goes on from here."""
        self.part = []
        self.owed = 0
        self.fresh = True
        self.wanted.start_revision = 0 if self.told is None else self.told + 1
        self.wanted.credit = self.credit
        return {"watch" if isinstance(self.wanted, kv.Watch) else "subscribe": self.wanted}

    @staticmethod
    def entries_of(item):
        if item.HasField("watch"):
            return [(e.kv.mod_revision, e.kind, e.kv.key, e.kv.value) for e in item.watch.events]
        return [(m.revision, m.topic, m.payload) for m in item.topic.messages]

    def hurry(self):
        """It is slow no more."""
        self.owed += CREDIT_BYTES - self.credit
        self.credit = CREDIT_BYTES
        self.slow_s = 0

    def take(self, item):
        if item.end:
            self.end = item
            return
        body = item.watch if item.HasField("watch") else item.topic
        entries = self.entries_of(item)
        if self.fresh:
            self.fresh = False
            if entries or self.told not in (None, body.revision):
                self.wrong = self.wrong or f"its first item, behind {self.told}: {item}"[:500]
            if self.began is None:
                self.began = body.revision
        if self.told is not None and body.revision < self.told:
            self.wrong = self.wrong or f"told up to {body.revision} after {self.told}"
        if item.HasField("topic") and item.topic.gap_from:
            self.gaps.append((item.topic.gap_from, item.topic.gap_to))
        self.told = body.revision
        self.part += entries
        if item.more_fragments:
            # Whole revisions before the last one count already.
            whole = [entry for entry in self.part if entry[0] <= body.revision]
            self.part = self.part[len(whole):]
            self.entries += whole
        else:
            self.entries += self.part
            self.part = []


def frame(kind, message):
    body = message.SerializeToString()
    return struct.pack("<IBBH", len(body), kind, 0, 0) + body


class Link:
    """A connection and its streams. deaf_s: for so long nothing is read from it, then for a third of that it is."""

    def __init__(self, streams, deaf_s=0, home=None):
        self.streams = streams
        self.deaf_s = deaf_s
        self.home = home  # the node where it begins; later it is where it finds one
        self.client = None
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.last_heard = 0.0
        self.is_heard = False
        self.losses = 0

    def connect(self, node, now):
        self.client = node.connect(Client, timeout_s=CONNECT_S)
        self.client.socket.setblocking(False)
        self.incoming.clear()
        self.outgoing.clear()
        self.last_heard = now
        for number, stream in enumerate(self.streams):
            if stream.end is None:
                self.outgoing += frame(REQUEST, kv.Request(id=number + 1, **stream.request()))

    def lose(self):
        self.client.close()
        self.client = None
        self.losses += 1

    def is_deaf(self, now):
        return self.deaf_s and now % (self.deaf_s * 4 / 3) < self.deaf_s

    def read(self, now):
        """False: it is lost."""
        try:
            data = self.client.socket.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self.last_heard = now
        self.incoming += data
        at = 0
        while len(self.incoming) - at >= 8:
            size, kind, _flags, _zero = struct.unpack_from("<IBBH", self.incoming, at)
            if len(self.incoming) - at < 8 + size:
                break
            if kind != STREAM_ITEM:
                return False  # a goodbye
            item = kv.StreamItem.FromString(bytes(self.incoming[at + 8:at + 8 + size]))
            at += 8 + size
            if item.end and item.code in ELSEWHERE:
                return False
            stream = self.streams[item.id - 1]
            stream.take(item)
            stream.owed += size
            self.grant(item.id, stream, now)
        del self.incoming[:at]
        return True

    def grant(self, number, stream, now):
        if not stream.end and stream.owed > stream.credit // 4 and now - stream.last_grant >= stream.slow_s:
            self.outgoing += frame(CREDIT, kv.Credit(id=number, bytes=stream.owed))
            stream.owed = 0
            stream.last_grant = now

    def write(self):
        """False: it is lost."""
        try:
            while self.outgoing:
                del self.outgoing[:self.client.socket.send(self.outgoing[:READ_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


class Swarm(threading.Thread):
    """Keeps the links going until it is stopped: with Swarm(cluster, links, rng) as swarm: ..."""

    def __init__(self, cluster, links, rng):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.links = links
        self.random = rng
        self.selector = selectors.DefaultSelector()
        self.next_look = 0.0
        self.stop = False
        self.hurry = False  # nobody is slow any more
        self.failure = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.join(PATIENCE_S)
        for link in self.links:
            if link.client:
                link.client.close()
        self.selector.close()

    def streams(self):
        return [stream for link in self.links for stream in link.streams]

    def run(self):
        try:
            while not self.stop:
                self.turn()
        except Exception as error:  # noqa: BLE001 - told by who waits
            self.failure = error

    def wait_told(self, revision):
        """Until each stream has told all up to there, or has ended."""

        def told():
            assert self.failure is None, self.failure
            assert self.is_alive()
            return all(stream.end or (stream.told or 0) >= revision for stream in self.streams())

        wait_until(told, f"all streams tell revision {revision}")

    def losses(self):
        return sum(link.losses for link in self.links)

    def connect(self, link, now):
        nodes = [node for node in self.cluster.nodes.values() if node.is_running()]
        if not nodes:
            return
        try:
            link.connect(link.home or self.random.choice(nodes), now)
        except (OSError, EOFError, AssertionError):
            link.client = None
        link.home = None

    def lose(self, link):
        self.listen(link, False)
        link.lose()

    def listen(self, link, yes):
        if yes and not link.is_heard:
            self.selector.register(link.client.socket, selectors.EVENT_READ, link)
        elif link.is_heard and not yes:
            self.selector.unregister(link.client.socket)
        link.is_heard = yes

    def turn(self):
        now = time.monotonic()
        if now >= self.next_look:
            self.next_look = now + LOOK_S
            for link in self.links:
                self.look(link, now)
        for key, _ in self.selector.select(LOOK_S):
            link = key.data
            if not link.read(now) or not link.write():
                self.lose(link)

    def look(self, link, now):
        if link.client is None:
            self.connect(link, now)
            if link.client is None:
                return
        deaf = not self.hurry and link.is_deaf(now)
        self.listen(link, not deaf)
        if deaf:
            link.last_heard = now
        for number, stream in enumerate(link.streams):
            if self.hurry:
                stream.hurry()
            link.grant(number + 1, stream, now)
        if now - link.last_heard > SILENCE_S or not link.write():
            self.lose(link)
