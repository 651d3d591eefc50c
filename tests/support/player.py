"""Directs tests/integration/coordination_play.c: a line in, a line out."""

import os
import subprocess
import tempfile

import ended
from kvcluster import PATIENCE_S, ROOT, wait_until

PLAY = os.environ.get("KV_COORDINATION_PLAY_BIN", str(ROOT / "build/dev/tests/kv_coordination_play"))


class Player:
    def __init__(self, endpoints):
        self.err = tempfile.NamedTemporaryFile()
        self.process = subprocess.Popen([PLAY, endpoints], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.err:
            ended.end_all([self.process], close=self.process.stdin)
            ended.judge(self.process, self.err.name)

    def say(self, *words):
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        self.process.stdin.flush()

    def has_answered(self):
        self.pending += self.process.stdout.read() or b""
        return b"\n" in self.pending

    def answer(self):
        wait_until(lambda: self.has_answered() or self.process.poll() is not None, "an answer", 2 * PATIENCE_S)
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode()

    def ask(self, *words):
        self.say(*words)
        return self.answer()

    def kill(self):
        self.process.kill()
        self.process.wait()
