"""kvctl shell on a terminal: a pty, and a server that the test plays."""

import os
import pty
import re
import select
import signal
import stat
import time

import pytest

from fakeserver import FakeServer
from kvcluster import HOST, KVCTL, PATIENCE_S, kv, wait_until

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r|\a|\x08")
KEYS = [b"user:1", b"user:2", b"with space"]


def answer(request):
    command = request.WhichOneof("command")
    if command == "range":
        start = request.range.range.start
        kvs = [kv.KeyValue(key=key) for key in KEYS if key.startswith(start)]
        return kv.Reply(range=kv.RangeResult(kvs=kvs, revision=7), revision=7)
    if command == "hash_get_all":
        return kv.Reply(hash_get_all=kv.HashFieldsResult(fields=[kv.HashField(name=b"name", value=b"Ada")]), revision=7)
    if command == "counter_add":
        return kv.Reply(counter_add=kv.CounterResult(value=41), revision=7)
    if command in ("append", "list_range", "watch", "subscribe"):
        return None
    return kv.Reply(code=kv.NOT_FOUND, message="no such key")


SANITIZERS = {name: value for name, value in os.environ.items() if name in ("LSAN_OPTIONS", "TSAN_OPTIONS")}


class Terminal:
    """A program with a terminal of its own, which the test types into and reads."""

    def __init__(self, arguments, environment):
        self.output = ""
        self.seen = 0
        self.process, self.master = pty.fork()
        if self.process == 0:
            os.execve(arguments[0], arguments, environment)

    def type(self, text):
        try:
            os.write(self.master, text.encode())
        except OSError:
            pass  # it has ended

    def _read(self, timeout_s):
        readable, _, _ = select.select([self.master], [], [], timeout_s)
        if not readable:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        self.output += ESCAPES.sub("", data.decode(errors="replace"))
        return bool(data)

    def _read_living(self):
        if not self._read(0.1) and os.waitpid(self.process, os.WNOHANG)[0]:
            self.process = None
            raise AssertionError(f"ended: {self.output!r}")

    def wait_for(self, text):
        """Until the text is there, behind what was waited for before."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.output[self.seen:]:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.output[self.seen:]!r}"
            self._read_living()
        self.seen = self.output.index(text, self.seen) + len(text)

    def interrupt_until(self, text):
        """Types ^C until the text is there: of a command that nobody hears of it is not known when it began."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.output[self.seen:]:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.output[self.seen:]!r}"
            self.type("\x03")
            # A terminal throws away at ^C what nobody has read yet: the next one waits until nothing comes any more, which is
            # longer than it takes the command to look (100 ms).
            while self._read(0.3):
                pass
            self._read_living()

    def end(self, key=""):
        """Types the key that ends it, at a prompt (elsewhere the terminal swallows a ^D); the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        self.type(key)
        process = 0
        while not process:
            self._read(0.1)
            process, status = os.waitpid(self.process, os.WNOHANG)
            assert process or time.monotonic() < deadline, f"does not end: {self.output!r}"
        while self._read(0.1):
            pass
        code = os.waitstatus_to_exitcode(status)
        os.close(self.master)
        self.process = None
        return code

    def close(self):
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            os.close(self.master)


@pytest.fixture
def server():
    with FakeServer(answer) as server:
        yield server


@pytest.fixture
def shell(server, tmp_path):
    terminals = []

    def start(*options, **environment):
        terminals.append(Terminal([KVCTL, "-e", f"{HOST}:{server.port}", *options, "shell"],
                                  {"PATH": os.environ["PATH"], "TERM": "xterm", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8",
                                   **SANITIZERS, **environment}))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def history_of(tmp_path):
    return tmp_path / ".local/state/kvd/kvctl_history"


def test_commands_prompt_and_timing(shell):
    terminal = shell()
    terminal.wait_for("kvd:1 (leads)> ")
    terminal.type("incr visits\n")
    terminal.wait_for("41\n")
    terminal.wait_for(" ms)\n")
    terminal.wait_for("kvd:1 (leads)> ")
    terminal.type("timing off\nincr visits\n")
    terminal.wait_for("41\n")
    terminal.type("help hset\n")
    terminal.wait_for("Usage: kvctl hset KEY FIELD VALUE")
    terminal.type("exit\n")
    assert terminal.end() == 0
    assert terminal.output.count(" ms)") == 1


@pytest.mark.parametrize("status,prompt", [
    (kv.StatusResult(node_id=2, leader_id=1, state="serving"), "kvd:2 (leader 1)> "),
    (kv.StatusResult(node_id=2, leader_id=0, state="no-leader"), "kvd:2 (no leader)> "),
    (kv.StatusResult(node_id=2, leader_id=1, state="no-space"), "kvd:2 (leader 1, no-space)> "),
])
def test_prompt_tells_the_state(server, shell, status, prompt):
    server.status = status
    terminal = shell()
    terminal.wait_for(prompt)
    assert terminal.end("\x04") == 0


def test_prompt_without_a_server(tmp_path):
    terminal = Terminal([KVCTL, "-e", f"{HOST}:1", "shell"], {"TERM": "xterm", "HOME": str(tmp_path), **SANITIZERS})
    try:
        terminal.wait_for("kvd (unreachable)> ")
        terminal.type("incr k\n")
        terminal.wait_for("connection refused")
        terminal.wait_for("> ")
        assert terminal.end("\x04") == 3
    finally:
        terminal.close()


def test_completion(server, shell):
    terminal = shell()
    terminal.wait_for("> ")
    terminal.type("hgeta\t")
    terminal.wait_for("hgetall ")
    # What two keys have in common, then both, then the one.
    terminal.type("us\t")
    terminal.wait_for("user:")
    terminal.type("\t")
    terminal.wait_for("user:1  user:2\n")
    terminal.type("2\t\n")
    terminal.wait_for("name\tAda\n")
    assert server.requests[-1].hash_get_all.key == b"user:2"
    asked = [request.range for request in server.requests if request.WhichOneof("command") == "range"]
    assert asked and all(0 < request.limit <= 51 and request.keys_only for request in asked)
    # A key that needs quotes gets them.
    terminal.type("hgetall wi\t\n")
    terminal.wait_for("name\tAda\n")
    assert server.requests[-1].hash_get_all.key == b"with space"
    terminal.type("hgetall \"with s\t\n")
    terminal.wait_for("name\tAda\n")
    assert server.requests[-1].hash_get_all.key == b"with space"
    # Options, commands of two words, and nothing where a value stands.
    terminal.type("put --if-a\t")
    terminal.wait_for("--if-absent ")
    terminal.type("\x15config l\t")
    terminal.wait_for("list ")
    terminal.type("\x15help hgeta\t\n")
    terminal.wait_for("Usage: kvctl hgetall KEY")
    before = len(server.requests)
    terminal.type("put k us\tx\n")
    terminal.wait_for("NOT_FOUND")
    assert server.requests[before].put.value == b"usx"


def test_hint(shell):
    terminal = shell()
    terminal.wait_for("> ")
    terminal.type("linsert ")
    terminal.wait_for("KEY before|after PIVOT ELEMENT")


def test_interrupt_drops_the_line(server, shell):
    terminal = shell()
    terminal.wait_for("> ")
    terminal.type("incr never")
    terminal.wait_for("never")
    terminal.type("\x03")
    terminal.wait_for("> ")
    # Nor does it end the shell where there is none.
    terminal.type("\x03")
    terminal.wait_for("> ")
    terminal.type("incr k\n")
    terminal.wait_for("41\n")
    assert [request.counter_add.key for request in server.requests] == [b"k"]


@pytest.mark.parametrize("line,known", [
    ("append k x", "OUTCOME_UNKNOWN: stopped by the caller: it may or may not have been done"),
    ("lrange k 0 1", "CLOSED: stopped by the caller"),
])
def test_interrupt_stops_the_command(server, shell, line, known):
    terminal = shell("-t", "60s")
    terminal.wait_for("> ")
    terminal.type(f"{line}\n")
    wait_until(lambda: server.requests, "the request")
    terminal.type("\x03")
    terminal.wait_for(f"kvctl {line.split()[0]}: {known}\n")
    terminal.wait_for("kvd:1 (leads)> ")
    terminal.type("incr k\n")
    terminal.wait_for("41\n")
    terminal.type("exit\n")
    assert terminal.end() == (5 if "UNKNOWN" in known else 3)


def test_interrupt_before_anything_was_sent(server, shell):
    server.is_mute = True
    terminal = shell("-t", "60s")
    terminal.wait_for("kvd (unreachable)> ")
    terminal.type("append k x\n")
    terminal.interrupt_until("nothing was done\n")
    assert "CLOSED: stopped by the caller: nothing was done" in terminal.output
    terminal.wait_for("> ")
    assert terminal.end("\x04") == 3


def test_interrupt_of_what_stays(server, shell):
    terminal = shell("-t", "60s")
    for n, line in enumerate(("watch k", "subscribe t")):
        terminal.wait_for("> ")
        terminal.type(f"{line}\n")
        wait_until(lambda: len(server.requests) > n, "the request")
        terminal.type("\x03")
        terminal.wait_for("ms)\n")
    terminal.wait_for("> ")
    assert terminal.end("\x04") == 130


def test_interrupts_around_commands(shell):
    """Whenever it comes: it does not end the shell."""
    terminal = shell()
    for _ in range(30):
        terminal.wait_for("> ")
        terminal.type("incr k\n\x03")
    terminal.wait_for("> ")
    terminal.type("hgetall k\n")
    terminal.wait_for("Ada\n")
    terminal.wait_for("> ")
    terminal.type("exit\n")
    assert terminal.end() in (0, 3, 5)


def test_terminated_while_a_command_runs(server, shell):
    terminal = shell("-t", "60s")
    terminal.wait_for("> ")
    terminal.type("append k x\n")
    wait_until(lambda: server.requests, "the request")
    os.kill(terminal.process, signal.SIGTERM)
    terminal.wait_for("it may or may not have been done\n")
    assert terminal.end() == 143


def test_history(server, shell, tmp_path):
    terminal = shell()
    terminal.wait_for("> ")
    terminal.type("incr first\n")
    terminal.wait_for("41\n")
    terminal.type(" put secret hidden\n")
    terminal.wait_for("NOT_FOUND")
    terminal.type("exit\n")
    assert terminal.end() == 2
    assert stat.S_IMODE(history_of(tmp_path).stat().st_mode) == 0o600
    assert history_of(tmp_path).read_text() == "incr first\nexit\n"
    # Another shell has it: up, up is the line before exit.
    terminal = shell()
    terminal.wait_for("> ")
    terminal.type("\x10\x10\n")
    terminal.wait_for("41\n")
    terminal.wait_for("> ")
    assert server.requests[-1].counter_add.key == b"first"
    assert terminal.end("\x04") == 0


def test_history_elsewhere_or_not_at_all(shell, tmp_path):
    for environment in ({"XDG_STATE_HOME": str(tmp_path / "state")}, {"KVCTL_HISTORY": ""},
                        {"KVCTL_HISTORY": str(tmp_path / "no" / "folder" / "file")}):
        terminal = shell(**environment)
        terminal.wait_for("> ")
        terminal.type("incr k\n")
        terminal.wait_for("41\n")
        terminal.wait_for("> ")
        assert terminal.end("\x04") == 0
    assert (tmp_path / "state/kvd/kvctl_history").read_text() == "incr k\n"
    assert (tmp_path / "no/folder/file").read_text() == "incr k\n"
    assert not history_of(tmp_path).exists()


def test_history_is_bounded(shell, tmp_path):
    history = history_of(tmp_path)
    history.parent.mkdir(parents=True)
    history.write_text("".join(f"incr k{i}\n" for i in range(2500)))
    terminal = shell()
    terminal.wait_for("> ")
    assert terminal.end("\x04") == 0
    lines = history.read_text().splitlines()
    assert len(lines) == 1000 and lines[0] == "incr k1500" and lines[-1] == "incr k2499"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_history_that_cannot_be_written(shell):
    terminal = shell(KVCTL_HISTORY="/dev/null/history")
    terminal.wait_for("> ")
    terminal.type("incr k\n")
    terminal.wait_for("cannot be written, lines are not kept")
    terminal.wait_for("41\n")


def test_exit_code_is_the_last_failure(shell):
    terminal = shell()
    terminal.wait_for("> ")
    terminal.type("get nothing\n")
    terminal.wait_for("NOT_FOUND")
    terminal.type("gte k\n")
    terminal.wait_for("did you mean \"get\"")
    terminal.type("incr k\n")
    terminal.wait_for("41\n")
    terminal.wait_for("> ")
    assert terminal.end("\x04") == 1
