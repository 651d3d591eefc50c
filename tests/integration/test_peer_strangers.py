"""The peer port and those who do not belong there, or behave badly: the others go on, and the log names the refusal."""

import importlib
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading

import pytest

from kvcluster import HOST, PATIENCE_S, ROOT, Cluster, kv, wait_until


def _generated():
    directory = tempfile.mkdtemp(prefix="kvd-peer-proto-")
    subprocess.run(["protoc", f"--python_out={directory}", f"--proto_path={ROOT / 'proto'}", "peer.proto"], check=True)
    sys.path.insert(0, directory)
    return importlib.import_module("peer_pb2")


peer = _generated()
ORDERED, URGENT, HELLO, HELLO_REPLY, PING, PONG = range(1, 7)
LAST = 1


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def frame(kind, body=b"", size=None):
    """With another size than the body's: a lie."""
    rest = struct.pack("<IBBHI", len(body) if size is None else size, kind, LAST, 0, 0) + body
    return struct.pack("<I", crc32c(rest)) + rest


def read_frame(connection):
    """Kind and body; None: closed."""
    data = b""
    while len(data) < 16 or len(data) < 16 + struct.unpack_from("<I", data, 4)[0]:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return None
        data += piece
    return data[8], data[16:16 + struct.unpack_from("<I", data, 4)[0]]


def connect(node):
    return socket.create_connection((HOST, node.ports["peer"]), timeout=PATIENCE_S)


def wait_closed(connection):
    while read_frame(connection) is not None:
        pass
    connection.close()


def say_hello(connection, **fields):
    """The reply; None: closed without one."""
    connection.sendall(frame(HELLO, peer.PeerHello(protocol_version=1, **fields).SerializeToString()))
    answer = read_frame(connection)
    return answer and peer.PeerHelloReply.FromString(answer[1])


def hello(node, **fields):
    with connect(node) as connection:
        reply = say_hello(connection, **fields)
        wait_closed(connection)
        return reply


def cluster_id(node):
    """A refusal tells it."""
    return hello(node, cluster_id=1, node_id=2, to_node_id=node.number).cluster_id


def wait_logged(node, *words):
    wait_until(lambda: any(all(word in line for word in words) for line in node.log.read_text().splitlines()),
               f"node {node.number} logs {words}\n{node.last_words()}")


def goes_on(cluster, key=b"goes"):
    """Through every node that runs: a write, and a read that sees it."""
    for node in cluster.nodes.values():
        if not node.is_running():
            continue
        client = node.client()
        value = b"%s by %d" % (key, node.number)
        wait_until(lambda: client.put(key, value, deadline_ms=5000).code == kv.OK, f"node {node.number} writes")
        assert client.get(key).get.kv.value == value
        client.close()


@pytest.fixture
def three(tmp_path):
    with Cluster(tmp_path) as made:
        yield made


def test_the_checksum_of_this_file_is_right():
    assert crc32c(b"123456789") == 0xE3069283


def test_a_frame_of_four_gigabytes_is_refused_by_its_header(three):
    term = three.leader().client().call(status=kv.Status()).status.term
    for node in three.nodes.values():
        for kind in (HELLO, ORDERED):
            with connect(node) as connection:
                connection.sendall(frame(kind, size=0xFFFFFFFF))
                wait_closed(connection)
        wait_logged(node, "peer refused", f"from={HOST}", "not a frame of kvd's peer protocol")
    goes_on(three)
    assert three.leader().client().call(status=kv.Status()).status.term == term


def test_a_wrong_checksum_is_refused(three):
    node = three.leader()
    with connect(node) as connection:
        connection.sendall(b"\0\0\0\0" + frame(HELLO, b"x")[4:])
        wait_closed(connection)
    wait_logged(node, "peer refused", "checksum is wrong")
    goes_on(three)


def test_half_a_frame_and_silence_is_closed(three):
    node = three.leader()
    with connect(node) as connection:
        connection.sendall(frame(HELLO, b"x" * 1000)[:500])
        goes_on(three)
        wait_closed(connection)
    wait_logged(node, "peer refused", f"from={HOST}", "no hello in time")
    goes_on(three)


class Siege(threading.Thread):
    """Keeps a thousand idle connections to each of some nodes, anew for those that the node closes."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes = nodes
        self.poll = select.poll()
        self.connections = {}
        self.n_made = 0
        self.ended = threading.Event()

    def connect(self, node):
        try:
            connection = connect(node)
        except OSError:
            return
        self.connections[connection.fileno()] = (node, connection)
        self.poll.register(connection, select.POLLIN)
        self.n_made += 1

    def run(self):
        for _ in range(1000):
            for node in self.nodes:
                self.connect(node)
        while not self.ended.is_set():
            for descriptor, _ in self.poll.poll(100):
                node, connection = self.connections.pop(descriptor)
                self.poll.unregister(connection)
                connection.close()
                self.connect(node)

    def end(self):
        self.ended.set()
        self.join()
        for _, connection in self.connections.values():
            connection.close()


def test_a_restarted_node_rejoins_among_a_thousand_idle_connections(three):
    restarted = three.followers()[0]
    restarted.kill()
    siege = Siege([node for node in three.nodes.values() if node is not restarted])
    siege.start()
    try:
        wait_until(lambda: siege.n_made > 3000, "the siege is laid")
        goes_on(three, b"during")
        before = siege.n_made
        restarted.start()
        wait_until(restarted.serves, f"node {restarted.number} serves\n{restarted.last_words()}")
        goes_on(three, b"after")
        wait_until(lambda: siege.n_made > before, "it is still going on")
    finally:
        siege.end()
    for node in siege.nodes:
        wait_logged(node, "peer refused", f"from={HOST}", "too many connections")
        assert node.log.read_text().count("too many connections") < 10, "the log is not flooded"
    assert restarted.client().get(b"during", serializable=True).code == kv.OK


class Deaf(threading.Thread):
    """Stands in for a node: accepts, answers the hello, and never reads again."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.listener = socket.create_server((HOST, node.cluster.peer_ports[node.number]))
        self.connections = []
        self.n_served = 0

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            answer = read_frame(connection)
            if answer and answer[0] == HELLO:
                asked = peer.PeerHello.FromString(answer[1])
                reply = peer.PeerHelloReply(accepted=True, cluster_id=asked.cluster_id, node_id=self.node.number)
                connection.sendall(frame(HELLO_REPLY, reply.SerializeToString()))
                self.n_served += 1

    def end(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join()
        for connection in self.connections:
            connection.close()


def test_a_peer_that_never_reads_holds_nobody_up(three):
    replaced = three.followers()[0]
    replaced.kill()
    deaf = Deaf(replaced)
    deaf.start()
    try:
        leader = three.leader()
        wait_until(lambda: deaf.n_served >= 2, "both others speak to it")
        client = leader.client()
        for i in range(60):
            assert client.put(b"big%d" % i, bytes([i]) * 1_000_000, deadline_ms=PATIENCE_S * 1000).code == kv.OK
        wait_logged(leader, "peer unreachable", f"peer={replaced.number}", "no sign of life")
        goes_on(three)
    finally:
        deaf.end()
    replaced.start()
    wait_until(replaced.serves, f"node {replaced.number} serves\n{replaced.last_words()}")
    goes_on(three)


def test_a_node_of_another_cluster_is_refused_by_name(three):
    node = three.leader()
    ours = cluster_id(node)
    for _ in range(5):
        reply = hello(node, cluster_id=ours ^ 1, node_id=2, to_node_id=node.number)
        assert not reply.accepted
        assert f"of cluster {ours ^ 1}" in reply.reason and f"this node of {ours}" in reply.reason
    wait_logged(node, "peer refused", f"from={HOST}", f"of cluster {ours ^ 1}")
    assert node.log.read_text().count(f"of cluster {ours ^ 1}") == 1
    goes_on(three)


def test_a_real_node_of_another_cluster_stays_out(three):
    """With our members' addresses, in the place of one of them."""
    replaced = three.followers()[0]
    replaced.kill()
    other = three.directory / "other"
    with open(three.directory / "other.log", "wb") as log:
        stranger = subprocess.Popen(
            [*[option for option in replaced.command() if not option.startswith(("--cluster=", "--data-dir="))],
             "--cluster=another", f"--data-dir={other}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        for node in three.nodes.values():
            if node.is_running():
                wait_logged(node, "peer refused", "it is of cluster")
        words = three.directory / "other.log"
        wait_until(lambda: "refuses: it is of cluster" in words.read_text(), "it hears why")
        goes_on(three)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    replaced.start()
    wait_until(replaced.serves, f"node {replaced.number} serves\n{replaced.last_words()}")


def test_an_unknown_id_and_a_wrong_address_are_refused_by_name(three):
    node = three.leader()
    ours = cluster_id(node)
    reply = hello(node, cluster_id=ours, node_id=9, to_node_id=node.number)
    assert not reply.accepted and "node 9 is not a member" in reply.reason
    wait_logged(node, "peer refused", f"from={HOST}", "node 9 is not a member")
    reply = hello(node, cluster_id=ours, node_id=2, to_node_id=8)
    assert not reply.accepted and f"looks for node 8 at the address of node {node.number}" in reply.reason
    wait_logged(node, "peer refused", f"from={HOST}", "looks for node 8")
    goes_on(three)


def test_a_member_that_says_nonsense_is_closed_and_its_node_is_heard(three):
    """Somebody with a member's id takes the place of its connection; the member takes it back."""
    leader = three.leader()
    follower = three.followers()[0]
    ours = cluster_id(leader)
    with connect(leader) as connection:
        reply = say_hello(connection, cluster_id=ours, node_id=follower.number, to_node_id=leader.number)
        assert reply.accepted
        try:
            connection.sendall(frame(ORDERED, b"\xff" * 100))
            connection.sendall(frame(HELLO, b"again"))
        except OSError:
            pass
        wait_closed(connection)
    goes_on(three)


def test_an_end_is_not_held_up_by_strangers(three):
    node = three.followers()[0]
    idle = [connect(node) for _ in range(50)]
    half = connect(node)
    half.sendall(frame(HELLO, b"x" * 100)[:50])
    assert node.terminate() == 0
    for connection in [*idle, half]:
        connection.close()
    goes_on(three)
