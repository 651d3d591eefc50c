"""A process that crashed, or of which a sanitizer complained, makes the test fail that ran it."""

import signal
import subprocess
import sys

import pytest

import ended


def run(tmp_path, program):
    log = tmp_path / "log"
    with open(log, "w") as err:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=err, stderr=err)
        process.wait(60)
    return process, log


@pytest.mark.parametrize("program", ["pass", "raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"])
def test_what_may_be(tmp_path, program):
    ended.judge(*run(tmp_path, program))


@pytest.mark.parametrize("program, words", [
    ("import os; os.abort()", "ended by signal 6"),
    ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
    ("print('WARNING: ThreadSanitizer: data race (pid=1)')", "data race"),
    ("print('==1==ERROR: LeakSanitizer: detected memory leaks'); raise SystemExit(23)", "memory leaks"),
    ("print('a.c:1:2: runtime error: signed integer overflow')", "integer overflow"),
])
def test_what_may_not_be(tmp_path, program, words):
    with pytest.raises(AssertionError, match=words):
        ended.judge(*run(tmp_path, program))


@pytest.mark.parametrize("sanitize, code", [(False, -signal.SIGKILL), (True, 7)])
def test_with_a_sanitizer_a_process_is_asked_to_end(tmp_path, monkeypatch, sanitize, code):
    monkeypatch.setattr(ended, "SANITIZE", sanitize)
    process = subprocess.Popen([sys.executable, "-c", "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
                                "print(flush=True); signal.pause()"], stdout=subprocess.PIPE)
    process.stdout.readline()
    ended.end_all([process])
    assert process.returncode == code
