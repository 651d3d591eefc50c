"""One kvd of its own for a test: ephemeral ports, ended with the block."""

import os
import pathlib
import re
import subprocess
import time

import ended

BUILD = pathlib.Path(os.environ.get("KVD_BUILD_DIR", pathlib.Path(__file__).parents[2] / "build" / "dev"))
KVD = os.environ.get("KVD_BIN", str(BUILD / "server" / "kvd"))


class Kvd:
    def __init__(self, folder, *options):
        self.folder = pathlib.Path(folder)
        self.options = options

    def __enter__(self):
        ports = self.folder / "ports"
        with open(self.folder / "log", "w") as log:
            self.process = subprocess.Popen(
                [KVD, "--data-dir", self.folder / "data", "--client-listen", "127.0.0.1:0", "--peer-listen",
                 "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--ports-file", ports, *self.options],
                stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            self.wait_for(lambda: ports.exists() and "client" in ports.read_text())
            text = ports.read_text()
            self.client_port = int(re.search(r"client\W+(\d+)", text).group(1))
            self.http_port = int(re.search(r"http\W+(\d+)", text).group(1))
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def wait_for(self, condition, timeout_s=20):
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("kvd did not start:\n" + (self.folder / "log").read_text())
            time.sleep(0.01)

    def __exit__(self, *_):
        ended.end_all([self.process])
        ended.judge(self.process, self.folder / "log")
