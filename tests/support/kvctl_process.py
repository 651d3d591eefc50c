"""kvctl that stays: started, its lines waited for, ended by a signal."""

import os
import signal
import subprocess

import ended
from kvcluster import KVCTL, PATIENCE_S, wait_until


class Staying:
    """with Staying(endpoints, folder, "watch", "k") as watch: watch.wait_lines(1)"""

    number = 0

    def __init__(self, endpoints, folder, *words, env=None):
        Staying.number += 1
        self.out = folder / f"kvctl{Staying.number}.out"
        self.err = folder / f"kvctl{Staying.number}.err"
        with open(self.out, "w") as out, open(self.err, "w") as err:
            self.process = subprocess.Popen([KVCTL, "-e", endpoints, *words], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=err, env={**os.environ, **(env or {})})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ended.end_all([self.process])
        ended.judge(self.process, self.err)

    def lines(self):
        """Those that are complete."""
        return self.out.read_text().split("\n")[:-1]

    def wait_lines(self, count):
        return wait_until(lambda: len(self.lines()) >= count and self.lines(), f"{count} lines; {self.lines()}, "
                                                                            f"{self.errors()}")

    def errors(self):
        return self.err.read_text()

    def wait(self):
        """Its exit code."""
        return self.process.wait(PATIENCE_S)

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.wait()


def run(endpoints, *words, code=0, stdin=None):
    """What a kvctl that ends has printed."""
    result = subprocess.run([KVCTL, "-e", endpoints, *words], input=stdin, capture_output=True, text=True,
                            timeout=2 * PATIENCE_S)
    assert result.returncode == code, (words, result)
    return result.stdout
