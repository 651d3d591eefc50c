"""For the tests of kvctl's configuration commands: kvctl with its streams apart, and services that go on."""

import os
import signal
import subprocess

from kvcluster import HOST, KVCTL, wait_until

NOWHERE = f"{HOST}:1"  # nobody listens there


def ctl(endpoints, *words, stdin="", timeout_s=60, session=False, **environment):
    """Exit code, output, errors. session: in a process group of its own."""
    result = subprocess.run([KVCTL, "-e", endpoints, *map(str, words)], input=stdin, capture_output=True, text=True,
                            timeout=timeout_s, start_new_session=session,
                            env={**os.environ, "KVCTL_HISTORY": "", **environment})
    return result.returncode, result.stdout, result.stderr


def run(types, *words, **options):
    return ctl(types.cluster.endpoints(), *words, **options)


def service(types, *words, prefix=None, **options):
    return run(types, "run", "--prefix", prefix or types.key(""), *words, **options)


class Service:
    """kvctl run that goes on; its command writes to a file."""

    def __init__(self, endpoints, tmp_path, script, *words):
        self.out = tmp_path / "out"
        self.err = tmp_path / "err"
        self.out.write_text("")
        with open(self.err, "w", encoding="utf-8") as err:
            self.process = subprocess.Popen([KVCTL, "-e", endpoints, "run", *map(str, words), "--", "sh", "-c", script],
                                            stdout=err, stderr=err, stdin=subprocess.DEVNULL,
                                            env={**os.environ, "OUT": str(self.out)})

    def says(self, text):
        wait_until(lambda: text in self.out.read_text(), f"{text!r} of {self.out.read_text()!r}, {self.err.read_text()}")

    def complains(self, text):
        wait_until(lambda: text in self.err.read_text(), f"{text!r} of {self.err.read_text()!r}")

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()


LOOP = "while :; do sleep 0.05; done"
