"""Real kvd processes on loopback with ephemeral ports, and a client that speaks the protocol with nothing but protobuf."""

import importlib
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import ended

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
KVD = os.environ.get("KVD_BIN", str(ROOT / "build/dev/server/kvd"))
KVCTL = os.environ.get("KVCTL_BIN", str(ROOT / "build/dev/client/kvctl"))
HOST = "127.0.0.1"
# Sanitizers and a busy machine make everything slower; nothing here measures time.
PATIENCE_S = 60 if ended.SANITIZE else 30
# What a node may have beyond its bounds: freed memory that AddressSanitizer keeps back, to find its use (256 MiB).
KEPT_BYTES = (256 << 20) if ended.SANITIZE else 0


def _generated():
    directory = tempfile.mkdtemp(prefix="kvd-proto-")
    subprocess.run(["protoc", f"--python_out={directory}", f"--proto_path={ROOT / 'proto'}", "kv.proto"], check=True)
    sys.path.insert(0, directory)
    return importlib.import_module("kv_pb2")


kv = _generated()
REQUEST, REPLY, STREAM_ITEM, HELLO, HELLO_REPLY, GOODBYE, CANCEL, CREDIT = range(1, 9)
MESSAGES = {REPLY: kv.Reply, STREAM_ITEM: kv.StreamItem, HELLO_REPLY: kv.HelloReply, GOODBYE: kv.Goodbye}


def wait_until(condition, what, patience_s=PATIENCE_S):
    """Asks again and again; the pause only keeps the machine free for those that are waited for."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        select_pause(0.01)
    raise AssertionError(f"not within {patience_s} s: {what}")


def select_pause(seconds):
    import select

    select.select([], [], [], seconds)


class Client:
    """One connection."""

    def __init__(self, port, timeout_s=PATIENCE_S, lz4=False):
        self.socket = socket.create_connection((HOST, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.last_id = 0
        self.send(HELLO, kv.Hello(protocol_version=1, client_name="test", lz4=lz4))
        self.hello = self.receive(HELLO_REPLY)

    def send(self, kind, message):
        body = message.SerializeToString()
        self.socket.sendall(struct.pack("<IBBH", len(body), kind, 0, 0) + body)

    def _read(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError("closed by the server")
            data += piece
        return data

    def receive(self, expected=None):
        size, kind, _flags, _zero = struct.unpack("<IBBH", self._read(8))
        message = MESSAGES[kind]()
        message.ParseFromString(self._read(size))
        if expected is not None and kind != expected:
            raise AssertionError(f"frame of kind {kind}: {message}")
        return message

    def send_request(self, **fields):
        self.last_id += 1
        self.send(REQUEST, kv.Request(id=self.last_id, **fields))
        return self.last_id

    def call(self, **fields):
        self.send_request(**fields)
        return self.receive(REPLY)

    def put(self, key, value, deadline_ms=0, **fields):
        return self.call(put=kv.Put(key=key, value=value, **fields), deadline_ms=deadline_ms)

    def get(self, key, serializable=False, deadline_ms=0, **fields):
        return self.call(get=kv.Get(key=key, **fields), serializable=serializable, deadline_ms=deadline_ms)

    def close(self):
        self.socket.close()


class Node:
    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number
        self.directory = cluster.directory / f"node{number}"
        self.log = cluster.directory / f"node{number}.log"
        self.ports_file = cluster.directory / f"node{number}.ports"
        self.process = None
        self.said = None  # the log of that process: a test may choose another for the next
        self.ports = {}

    def command(self, *options):
        cluster = self.cluster
        return [KVD, f"--node-id={self.number}", "--cluster=test", f"--members={cluster.members}",
                f"--data-dir={self.directory}", f"--client-listen={HOST}:{cluster.client_ports[self.number]}",
                f"--peer-listen={HOST}:{cluster.peer_ports[self.number]}", f"--http-listen={HOST}:0",
                f"--ports-file={self.ports_file}", *cluster.options, *options]

    def start(self, *options, wait=True):
        assert not self.is_running()
        if self.process:
            ended.judge(self.process, self.said)
        self.said = self.log
        self.ports_file.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(*options), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            wait_until(lambda: self.ports_file.exists() or not self.is_running(), f"node {self.number} listens")
            assert self.is_running(), self.last_words()
            self.ports = dict(item.split("=") for item in self.ports_file.read_text().split())
            self.ports = {name: int(port) for name, port in self.ports.items()}

    def last_words(self):
        return self.log.read_text()[-3000:]

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def memory_bytes(self):
        """That it has in use (its resident set)."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:")), 0)

    def connect(self, kind, *arguments, **options):
        """A client of this kind."""
        return kind(self.ports["client"], *arguments, **options)

    def client(self, **options):
        return self.connect(Client, **options)

    def http(self, path):
        """Status code and body."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.ports['http']}{path}", timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def serves(self):
        try:
            return self.is_running() and self.http("/health")[0] == 200
        except OSError:
            return False


def free_ports(count):
    """Ports that are free now, below the range that the system hands out by itself. Nodes must know one another's, and
    a restarted node its own."""
    found = []
    while len(found) < count:
        port = random.randrange(10000, 31000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Cluster:
    node_class = Node

    def __init__(self, directory, nodes=3, options=()):
        self.directory = pathlib.Path(directory)
        self.options = options
        ports = free_ports(2 * nodes)
        self.client_ports = {i + 1: ports[i] for i in range(nodes)}
        self.peer_ports = {i + 1: ports[nodes + i] for i in range(nodes)}
        self.members = ",".join(f"{i}={HOST}:{port}" for i, port in self.peer_ports.items())
        self.nodes = {i + 1: self.node_class(self, i + 1) for i in range(nodes)}

    def __enter__(self):
        for node in self.nodes.values():
            node.start()
        self.wait_serving()
        return self

    def __exit__(self, *_):
        started = [node for node in self.nodes.values() if node.process]
        ended.end_all([node.process for node in started])
        for node in started:
            ended.judge(node.process, node.said)

    def wait_serving(self):
        for node in self.nodes.values():
            if node.is_running():
                wait_until(node.serves, f"node {node.number} serves\n{node.last_words()}")

    def leader(self):
        """The node that leads and serves."""

        def find():
            for node in self.nodes.values():
                if not node.is_running():
                    continue
                try:
                    client = node.client(timeout_s=2)
                    status = client.call(status=kv.Status()).status
                    client.close()
                except (OSError, EOFError):
                    continue
                if status.role == "leader" and status.state == "serving":
                    return node
            return None

        return wait_until(find, "a leader")

    def followers(self):
        leader = self.leader()
        return [node for node in self.nodes.values() if node is not leader]

    def endpoints(self):
        return ",".join(f"{HOST}:{port}" for port in self.client_ports.values())
