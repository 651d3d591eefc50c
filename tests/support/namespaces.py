"""A cluster whose nodes live in network namespaces of their own, on a bridge in another one; links can be cut both ways or
one way, and slowed. Clients reach each node from within its namespace, so that a cut link cuts nodes from each other alone.
Needs root."""

import contextlib
import ctypes
import itertools
import os
import subprocess

from kvcluster import Cluster, Node

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = itertools.count(1)


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


def reason_to_skip():
    """Why no namespaces can be had here; None: they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"kvd-probe-{os.getpid()}"
    try:
        run("ip", "netns", "add", name)
        try:
            run("ip", "-n", name, "link", "add", "br0", "type", "bridge")
            run("ip", "netns", "exec", name, "iptables", "-A", "INPUT", "-s", "10.99.0.1", "-j", "DROP")
        finally:
            run("ip", "netns", "del", name)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"this machine makes no network namespaces, bridges or packet filters: {getattr(error, 'stderr', '') or error}"
    return None


@contextlib.contextmanager
def inside(namespace):
    """The calling thread is in the namespace; sockets that it makes stay there."""

    def enter(path):
        with open(path) as file:
            if LIBC.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {path}")

    with open(f"/proc/self/task/{ctypes.CDLL(None).gettid()}/ns/net") as own:
        enter(f"/run/netns/{namespace}")
        try:
            yield
        finally:
            LIBC.setns(own.fileno(), CLONE_NEWNET)


class NamespaceNode(Node):
    def __init__(self, cluster, number):
        super().__init__(cluster, number)
        self.namespace = f"{cluster.prefix}-{number}"
        self.address = f"10.99.0.{number}"

    def command(self, *options):
        command = super().command(*options)
        listen = f"--peer-listen={self.address}:{self.cluster.peer_ports[self.number]}"
        command = [listen if part.startswith("--peer-listen=") else part for part in command]
        return ["ip", "netns", "exec", self.namespace, *command]

    def connect(self, kind, *arguments, **options):
        with inside(self.namespace):
            return super().connect(kind, *arguments, **options)

    def http(self, path):
        with inside(self.namespace):
            return super().http(path)

    # ---- faults

    def cut(self):
        """Nothing comes or goes."""
        run("ip", "-n", self.cluster.bridge, "link", "set", f"port{self.number}", "down")

    def mend(self):
        run("ip", "-n", self.cluster.bridge, "link", "set", f"port{self.number}", "up")

    def deafen(self, other, yes=True):
        """What the other sends does not arrive; what goes to it does."""
        run("ip", "netns", "exec", self.namespace, "iptables", "-A" if yes else "-D", "INPUT", "-s", other.address, "-j", "DROP")

    def lose_route(self, other, yes=True):
        """Connecting to the other fails at once, sending stalls; what it sends arrives."""
        run("ip", "-n", self.namespace, "route", "add" if yes else "del", "blackhole", f"{other.address}/32")

    def slow(self, rate="2mbit", latency="300ms"):
        """What it sends passes at that rate, and is lost beyond that much of it."""
        run("tc", "-n", self.namespace, "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "16kb", "latency",
            latency)

    def quicken(self):
        run("tc", "-n", self.namespace, "qdisc", "del", "dev", "eth0", "root")


class NamespaceCluster(Cluster):
    node_class = NamespaceNode

    def __init__(self, directory, nodes=3, options=()):
        self.prefix = f"kvd{os.getpid()}-{next(NUMBERS)}"
        self.bridge = f"{self.prefix}-b"
        super().__init__(directory, nodes, options)
        self.members = ",".join(f"{i}={node.address}:{self.peer_ports[i]}" for i, node in self.nodes.items())

    def __enter__(self):
        try:
            self.build()
            return super().__enter__()
        except BaseException:
            self.__exit__()
            raise

    def build(self):
        run("ip", "netns", "add", self.bridge)
        run("ip", "-n", self.bridge, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.bridge, "link", "set", "br0", "up")
        for node in self.nodes.values():
            port = f"port{node.number}"
            run("ip", "netns", "add", node.namespace)
            run("ip", "-n", self.bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
            run("ip", "-n", self.bridge, "link", "set", port, "master", "br0", "up")
            run("ip", "-n", node.namespace, "addr", "add", f"{node.address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                run("ip", "-n", node.namespace, "link", "set", link, "up")

    def __exit__(self, *_):
        try:
            super().__exit__()
        finally:
            for name in [self.bridge, *(node.namespace for node in self.nodes.values())]:
                subprocess.run(["ip", "netns", "del", name], capture_output=True)
