"""README.md's tour, typed in as it stands: only the ports and the data directory are others."""

import os
import re
import shlex
import subprocess

from test_up import ROOT, free_base

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is not part of the tour: it would start this very test, or a docker daemon.
SKIPPED = ("tests/run", "docker")
# The second write to a lock, and the status of a cluster of which one node is down.
REFUSED = ["kvctl put --if-absent lock/backup host-b", "kvctl status"]
# A block that begins so is typed in a terminal of its own, and what it starts stays.
OTHER_TERMINAL = re.compile(r"# (second|third) terminal$")
# Who types waits until the other terminal's command is ready, and in the end until what is said of them has come.
TYPING = """exec 2>&1
stay=()
trap 'kill "${stay[@]}" 2>/dev/null' EXIT
wait_until() {
    local i
    for ((i = 0; i < 300; i++)); do eval "$1" && return; sleep 0.1; done
    return 1
}
"""
READY = {"watch": """kvctl -o json status | grep -q '"watches":[1-9]'""",
         "run": "grep -q theme: {out}",
         "subscribe": "kvctl -o json status | grep -q '\"subscriptions\":[1-9]'"}
COME = ["grep -q expire {folder}/watch.out", "grep -q hello {folder}/subscribe.out",
        "[ \"$(tail -n 1 {folder}/run.out)\" = 'theme: none' ]"]


def tour():
    """Pairs: is it for another terminal, and the line."""
    lines = []
    for block in BLOCK.findall((ROOT / "README.md").read_text()):
        typed = [line for line in block.splitlines() if line.strip()]
        other = bool(OTHER_TERMINAL.match(typed[0]))
        lines += [(other, line) for line in typed[other:] if not line.startswith(SKIPPED)]
    return lines


def script(lines, folder):
    """Each line is told apart in the output; those of REFUSED fail on purpose."""
    text = [TYPING]
    for other, line in lines:
        if other:
            word = line.split()[1]
            out = folder / f"{word}.out"
            text += [f"{line} >{out} 2>{folder}/{word}.err &", "stay+=($!)"]
            line = f"wait_until {shlex.quote(READY[word].format(out=out))}"
        elif line.startswith("deploy/down") and "--purge" not in line:
            for condition in COME:
                condition = f"wait_until {shlex.quote(condition.format(folder=folder))}"
                text += [f"echo {shlex.quote('@@ ' + condition)}", condition, 'echo "@= $?"']
        text += [f"echo {shlex.quote('@@ ' + line)}", line, 'echo "@= $?"']
    return "\n".join(text)


def type_in(text, data, base):
    text = re.sub(r"deploy/up\b", f"deploy/up --no-install --data {data} --port {base}", text)
    text = re.sub(r"deploy/down\b", f"deploy/down --data {data}", text)
    text = text.replace("run/node", f"{data}/node")
    for node in range(3):
        text = text.replace(f"127.0.0.1:{4700 + 10 * node}", f"127.0.0.1:{base + 10 * node}")
    # The second command of the page comes before the endpoints are exported.
    environment = {**os.environ, "KVCTL_ENDPOINTS": f"127.0.0.1:{base}"}
    try:
        return subprocess.run(["bash", "-c", text], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, timeout=110).stdout
    finally:
        subprocess.run([ROOT / "deploy" / "down", "--data", data, "--purge"], check=False)


def test_tour(tmp_path):
    data = tmp_path / "run"
    lines = tour()
    assert any(line.startswith("kill -9") for _, line in lines) and lines[0] == (False, "deploy/up")
    assert [line.split()[1] for other, line in lines if other] == list(READY)
    output = type_in(script(lines, tmp_path), data, free_base())
    failed = []
    for part in output.split("@@ ")[1:]:
        command, _, rest = part.partition("\n")
        if not rest.rstrip().endswith("@= 0"):
            failed.append((command, rest))
    assert [command for command, _ in failed] == REFUSED, output
    after_kill = output.split("@@ kill -9")[1]
    assert "carol" in after_kill and after_kill.count("carol") >= 3, output
    assert not data.exists()
    # What the page says of the other terminals.
    events = [line.split("\t") for line in (tmp_path / "watch.out").read_text().splitlines()]
    assert sorted(event[1:] for event in events) == [["expire", "config/theme"], ["put", "config/size", "12"],
                                                     ["put", "config/theme", "dark"]]
    revisions = [int(event[0]) for event in events]
    assert revisions == sorted(set(revisions))
    themes = (tmp_path / "run.out").read_text().splitlines()
    assert themes[0] == themes[-1] == "theme: none" and "theme: dark" in themes
    assert "hello, all" in (tmp_path / "subscribe.out").read_text()
    assert "one at a time" in output
