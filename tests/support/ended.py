"""How a process ended that a test had started: it did not crash, and no sanitizer complained of it. ThreadSanitizer goes on after a
race, and leaks are looked for at a regular end alone: with a sanitizer a process is asked to end, not killed."""

import os
import pathlib
import signal
import subprocess

SANITIZE = bool(os.environ.get("KVD_SANITIZE"))
CRASHES = {-signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL, -signal.SIGSEGV}
REPORTS = ("Sanitizer", "runtime error:")
# A node hands over first; one that cannot (its disk hangs, say) is killed after that time.
END_S = 20


def judge(process, log):
    """Of one that has ended, with the path of what it wrote."""
    text = pathlib.Path(log).read_text(errors="replace")
    assert process.returncode not in CRASHES, f"{process.args[0]} ended by signal {-process.returncode}\n{text[-3000:]}"
    for report in REPORTS:
        place = text.find(report)
        assert place < 0, f"{process.args[0]} in {log}:\n{text[max(0, place - 200):place + 6000]}"


def end_all(processes, close=None):
    """Ends those that still run. All are told before one is waited for. A program of the tests ends when its input (close) does."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGCONT)
        if SANITIZE and close:
            close.close()
        else:
            process.send_signal(signal.SIGTERM if SANITIZE else signal.SIGKILL)
    for process in running:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
