"""For the tests of types: a cluster of three, kvctl on it, and calls by protobuf alone."""

import json
import os
import subprocess

from kvcluster import KVCTL, Cluster, kv


class Types:
    """Both ways to the cluster. Keys are the test's own: `name` is put before those that it makes by key()."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.client = cluster.leader().client()

    def key(self, text):
        return f"{self.name}/{text}"

    def ctl(self, *words, code=0, stdin=""):
        """What kvctl prints; of a failure what it says."""
        result = subprocess.run([KVCTL, "-e", self.cluster.endpoints(), *words], input=stdin, capture_output=True, text=True,
                                timeout=60, env={**os.environ, "KVCTL_HISTORY": ""})
        assert result.returncode == code, (words, result)
        return result.stdout if code in (0, 2) and not result.stderr else result.stdout + result.stderr

    def json(self, *words, code=0):
        return json.loads(self.ctl("-o", "json", *words, code=code))

    def call(self, code=kv.OK, **command):
        """The result of one command by protobuf."""
        reply = self.client.call(**command)
        assert reply.code == code, (command, reply)
        return getattr(reply, next(iter(command))) if code == kv.OK else reply

    def revision(self):
        return self.client.call(exists=kv.Exists(keys=[b"x"])).revision

    def refused(self, code, **command):
        """The command fails with this code, and changes nothing."""
        before = self.revision()
        reply = self.call(code=code, **command)
        assert reply.message != ""
        assert self.revision() == before
        return reply

    def close(self):
        self.client.close()


__all__ = ["Cluster", "Types", "kv"]
