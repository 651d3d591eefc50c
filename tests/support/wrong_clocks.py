"""A cluster whose nodes may have wrong clocks: wrong_clock.c is loaded into each. (libfaketime does this, too, but a process
with condition variables hangs under it now and then.)"""

import struct
import subprocess

from kvcluster import ROOT, Cluster, Node

NS_PER_S = 10**9


class WrongNode(Node):
    def __init__(self, cluster, number):
        super().__init__(cluster, number)
        self.clock = cluster.directory / f"node{number}.clock"
        self.wall_ns = self.ahead_ns = 0
        self.set_clock()

    def set_clock(self, wall_s=0, ahead_s=0.0, rate=1.0):
        """The wall clock is so wrong; the monotonic one jumps forward by so much, and goes on at the rate."""
        self.ahead_ns += int(ahead_s * NS_PER_S)
        with open(self.clock, "r+b" if self.clock.exists() else "wb") as file:
            file.write(struct.pack("=qqq", wall_s * NS_PER_S, self.ahead_ns, int(rate * 1000)))

    def command(self, *options):
        return ["env", f"LD_PRELOAD={self.cluster.program}", f"KV_WRONG_CLOCK={self.clock}", *super().command(*options)]


class WrongCluster(Cluster):
    node_class = WrongNode

    def __init__(self, directory, **options):
        self.program = directory / "wrong_clock.so"
        subprocess.run(["cc", "-O2", "-std=c11", "-shared", "-fPIC", ROOT / "tests" / "fault" / "wrong_clock.c", "-o",
                        self.program, "-ldl", "-lpthread"], check=True)
        super().__init__(directory, **options)
