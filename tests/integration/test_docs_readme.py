"""README.md's tour, typed in as it stands: only the ports and the data directory are others."""

import os
import pathlib
import re
import subprocess

from test_up import ROOT, free_base

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is not part of the tour: it would start this very test, or a docker daemon.
SKIPPED = ("tests/run", "docker")
# The second write to a lock, and the status of a cluster of which one node is down.
REFUSED = ["kvctl put --if-absent lock/backup host-b", "kvctl status"]


def tour():
    lines = []
    for block in BLOCK.findall((ROOT / "README.md").read_text()):
        lines += [line for line in block.splitlines() if line.strip() and not line.startswith(SKIPPED)]
    return lines


def test_tour(tmp_path):
    data = tmp_path / "run"
    base = free_base()
    lines = tour()
    assert any(line.startswith("kill -9") for line in lines) and lines[0] == "deploy/up"
    # Each line is told apart in the output; those of REFUSED fail on purpose.
    script = ["exec 2>&1"]
    for line in lines:
        script += [f"echo '@@ {line}'", line, 'echo "@= $?"']
    text = "\n".join(script)
    text = re.sub(r"deploy/up\b", f"deploy/up --no-install --data {data} --port {base}", text)
    text = re.sub(r"deploy/down\b", f"deploy/down --data {data}", text)
    text = text.replace("run/node", f"{data}/node")
    for node in range(3):
        text = text.replace(f"127.0.0.1:{4700 + 10 * node}", f"127.0.0.1:{base + 10 * node}")
    # The second command of the page comes before the endpoints are exported.
    environment = {**os.environ, "KVCTL_ENDPOINTS": f"127.0.0.1:{base}"}
    try:
        output = subprocess.run(["bash", "-c", text], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, timeout=110).stdout
    finally:
        subprocess.run([ROOT / "deploy" / "down", "--data", data, "--purge"], check=False)
    failed = []
    for part in output.split("@@ ")[1:]:
        command, _, rest = part.partition("\n")
        if not rest.rstrip().endswith("@= 0"):
            failed.append((command, rest))
    assert [command for command, _ in failed] == REFUSED, output
    after_kill = output.split("@@ kill -9")[1]
    assert "carol" in after_kill and after_kill.count("carol") >= 3, output
    assert not data.exists()
