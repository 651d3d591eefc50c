"""The programs of docs/guide/examples: compiled against what libkv installs, started, and what some of them do together
while nodes die."""

import os
import pathlib
import signal
import subprocess
import sys

from kvcluster import KVCTL, PATIENCE_S, ROOT, wait_until
from kvd_process import BUILD

EXAMPLES = ROOT / "docs" / "guide" / "examples"
# Those that stay until they are ended, and are run by several at a time.
STAYING = {"shared_config", "election", "chat"}
WORKER_TTL_MS = 3000


class Program:
    """One that stays; its lines are waited for."""

    def __init__(self, command, folder, number, **environment):
        self.out = folder / f"program{number}.out"
        self.err = folder / f"program{number}.err"
        with open(self.out, "w") as out, open(self.err, "w") as err:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=out,
                                            stderr=err, env={**os.environ, **environment})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        self.process.stdin.close()

    def lines(self):
        """Those that are complete."""
        return self.out.read_text().split("\n")[:-1]

    def wait(self, condition, what):
        """Until condition(lines) is true."""

        def is_so():
            assert self.process.poll() is None, f"ended: {self.lines()}, {self.err.read_text()}"
            return condition(self.lines())

        try:
            return wait_until(is_so, what, 2 * PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.lines()}, {self.err.read_text()}") from error

    def say(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


class Programs:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.number = 0
        self.flags = self.install()
        subprocess.run(["protoc", f"--python_out={self.folder}", f"--proto_path={ROOT / 'proto'}", "kv.proto"],
                       check=True)

    def install(self):
        prefix = self.folder / "prefix"
        subprocess.run(["cmake", f"-DCMAKE_INSTALL_PREFIX={prefix}", "-P", BUILD / "client" / "cmake_install.cmake"],
                       check=True, capture_output=True)
        (pc_file,) = prefix.rglob("libkv.pc")
        flags = subprocess.run(["pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "libkv"],
                               check=True, capture_output=True, text=True,
                               env={**os.environ, "PKG_CONFIG_PATH": str(pc_file.parent)}).stdout.split()
        return [*flags, f"-Wl,-rpath,{pc_file.parent.parent}", "-pthread"]

    def compile(self, name):
        program = self.folder / name
        if not program.exists():
            subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", EXAMPLES / f"{name}.c", "-o", program,
                            *self.flags], check=True)
        return program

    def start(self, name, *words):
        self.number += 1
        if name.endswith(".py"):
            return Program([sys.executable, EXAMPLES / name, *words], self.folder, self.number,
                           PYTHONPATH=str(self.folder))
        return Program([self.compile(name), *words], self.folder, self.number)


def ctl(endpoints, *words):
    result = subprocess.run([KVCTL, "-e", endpoints, "-t", "60s", *map(str, words)], capture_output=True, text=True,
                            timeout=2 * PATIENCE_S)
    assert result.returncode == 0, (words, result)
    return result.stdout


def put(endpoints, *words):
    """The revision that it made."""
    return int(ctl(endpoints, "put", *words).split()[-1])


# ---------------------------------------------------------------- what they do together


def share_configuration(programs, endpoints, fault):
    """A service in C and one in Python see each change of their configuration once, and the end of a key that lives for
    a while, although `fault` befalls the cluster in between."""
    with programs.start("shared_config", endpoints, "web") as web, \
            programs.start("config_watch.py", endpoints, "mail") as mail:
        for service in (web, mail):
            service.wait(lambda lines: lines, "it has read its configuration")
        changed = {put(endpoints, "config/size", 0): "size=0",
                   put(endpoints, "config/theme", "dark", "--ttl", "3s"): "dark"}
        for size in range(1, 10):
            if size == 5:
                fault()
            changed[put(endpoints, "config/size", size)] = f"size={size}"
        seen = []
        for service, name in ((web, "web"), (mail, "mail")):
            lines = service.wait(lambda lines: lines[-1].endswith(": size=9") and lines, "all changes and the expiry")
            loads = [line.removeprefix(name).split(":", 1) for line in lines]
            seen.append([(int(revision), settings) for revision, settings in loads[1:]])
        assert seen[0] == seen[1]
        revisions = [revision for revision, _ in seen[0]]
        assert revisions == sorted(set(revisions)), seen[0]
        settings = dict(seen[0])
        assert all(what in settings[revision] for revision, what in changed.items()), (changed, seen[0])
        (expiry,) = set(settings) - set(changed)
        assert "dark" in seen[0][revisions.index(expiry) - 1][1] and "dark" not in settings[expiry], seen[0]
        assert web.end() == 0


def chat(programs, endpoints, fault):
    """What three say is shown to each of them, all of it, once, in one order, although `fault` comes in between."""
    names = ("ada", "bob", "cyd")
    rooms = [programs.start("chat", endpoints, "general", name) for name in names]
    try:
        # The last ten lines are shown to who comes late, so now all listen.
        said = ["hello"]
        for room in rooms:
            room.say("hello")
        for room in rooms:
            room.wait(lambda lines: len(lines) == len(names), "all are there")
        for number in range(30):
            if number == 15:
                fault()
            said.append(f"line {number}")
            for room in rooms:
                room.say(f"line {number}")
        shown = [room.wait(lambda lines: len(lines) >= len(said) * len(names) and lines, "all lines") for room in rooms]
        assert shown[0] == shown[1] == shown[2]
        for name in names:
            assert [line for line in shown[0] if line.startswith(name)] == [f"{name}: {line}" for line in said]
        assert len(shown[0]) == len(said) * len(names)
        for room in rooms:
            room.process.stdin.close()
            assert room.process.wait(PATIENCE_S) == 0, room.err.read_text()
    finally:
        for room in rooms:
            room.__exit__()


def steps(endpoints):
    """(token, name) of each step that a worker did."""
    output = ctl(endpoints, "lrange", "work:steps", 0, -1)
    return [(int(line.split()[-2]), line.split()[-1]) for line in output.splitlines()]


def elect(programs, endpoints, fault):
    """One of three workers works at a time: one is killed while it leads, one sleeps for longer than its lease lives,
    and `fault` befalls the cluster."""
    workers = {name: programs.start("election", endpoints, name, WORKER_TTL_MS) for name in ("ada", "bob", "cyd")}

    def works(without=()):
        """Who has done a step that was not done when this was called."""
        before = len(steps(endpoints))

        def find():
            new = [name for _, name in steps(endpoints)[before:] if name not in without]
            return new and new[-1]

        return wait_until(find, f"a worker that is none of {without} works", 2 * PATIENCE_S)

    try:
        dead = works()
        workers[dead].kill()
        asleep = works((dead,))
        workers[asleep].process.send_signal(signal.SIGSTOP)
        last = works((dead, asleep))
        workers[asleep].process.send_signal(signal.SIGCONT)
        workers[asleep].wait(lambda lines: f"{asleep} leads no more" in lines, "it hears that it leads no more")
        fault()
        works((dead,))
        done = steps(endpoints)
        tokens = [token for token, _ in done]
        assert tokens == sorted(tokens), done
        assert len({token for token, _ in done}) == len(set(done)), done
        assert {dead, asleep, last} == set(workers)
        for name in (asleep, last):
            assert workers[name].end() == 0
    finally:
        for worker in workers.values():
            worker.__exit__()
