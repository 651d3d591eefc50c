"""kvctl against a server, and without one."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from kvd_process import BUILD, Kvd

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
KVCTL = os.environ.get("KVCTL_BIN", str(BUILD / "client" / "kvctl"))
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Kvd(tmp_path_factory.mktemp("data")) as server:
        yield server


@pytest.fixture
def kvctl(server):
    def call(*arguments, code=0, stdin=b""):
        result = subprocess.run([KVCTL, *arguments], input=stdin, capture_output=True, timeout=60,
                                env={**os.environ, "KVCTL_ENDPOINTS": f"127.0.0.1:{server.client_port}"})
        assert result.returncode == code, (arguments, result.stdout, result.stderr)
        return result.stdout if code == 0 else result.stdout + result.stderr
    call("del", "--all")
    return call


def test_guide_as_it_stands(server):
    lines = [line for block in BLOCK.findall((ROOT / "docs" / "guide" / "commands.md").read_text())
             for line in block.splitlines()]
    assert len(lines) > 30
    # One node cannot hand over.
    script = "set -ex\n" + "\n".join(line for line in lines if "leader transfer" not in line)
    environment = {**os.environ, "KVCTL_ENDPOINTS": f"127.0.0.1:{server.client_port}",
                   "PATH": f"{os.path.dirname(KVCTL)}:{os.environ['PATH']}"}
    result = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Jello, world" in result.stdout


def test_values(kvctl, tmp_path):
    content = bytes(range(256)) * 10
    (tmp_path / "file").write_bytes(content)
    kvctl("put", "a", "-", stdin=content)
    kvctl("put", "b", f"@{tmp_path / 'file'}")
    assert kvctl("-o", "value", "get", "a") == content
    assert kvctl("-o", "value", "get", "b") == content
    kvctl("put", "c", "@@x")
    assert kvctl("get", "c") == b"@x\n"
    assert b"no/such" in kvctl("put", "c", "@/no/such", code=6)
    kvctl("put", "empty", "")
    assert kvctl("-o", "value", "get", "empty") == b""


def test_json_of_any_bytes(kvctl):
    kvctl(b"put", b"bad\xffkey", b"-", stdin=b"\xfe\x00")
    (pair,) = json.loads(kvctl("-o", "json", "range"))["kvs"]
    assert pair["key"] == "bad\ufffdkey" and pair["key_base64"] == "YmFk/2tleQ=="
    assert pair["value"] == "\ufffd\x00" and pair["value_base64"] == "/gA="
    assert kvctl("range") == b"bad\\xffkey\t\\xfe\\x00\n"


def test_conditions(kvctl):
    kvctl("put", "--if-absent", "k", "1")
    assert b"EXISTS" in kvctl("put", "--if-absent", "k", "2", code=2)
    assert b"NOT_FOUND" in kvctl("put", "--if-present", "other", "2", code=2)
    revision = json.loads(kvctl("-o", "json", "get", "k"))["mod_revision"]
    assert b"CONDITION_FAILED" in kvctl("put", "--if-rev", str(revision + 1), "k", "2", code=2)
    answer = json.loads(kvctl("-o", "json", "put", "--prev", "--if-rev", str(revision), "k", "2"))
    assert answer["done"] and answer["previous"]["value"] == "1"
    kvctl("put", "--if-value", "2", "k", "3")
    refused = kvctl("-o", "json", "put", "--prev", "--if-value", "2", "k", "4", code=2)
    answer = json.loads(refused.splitlines()[0])
    assert not answer["done"] and answer["previous"]["value"] == "3"
    kvctl("put", "--if-absent", "--if-present", "k", "4", code=1)


def test_ranges(kvctl):
    for i in range(5):
        kvctl("put", f"r/{i}", f"v{i}")
    kvctl("put", "s", "x")
    assert kvctl("ls", "r/") == b"r/0\nr/1\nr/2\nr/3\nr/4\n"
    assert kvctl("range", "--from", "r/1", "--to", "r/3") == b"r/1\tv1\nr/2\tv2\n"
    assert kvctl("range", "--to", "r/1", "--keys-only") == b"r/0\n"
    assert kvctl("range", "--from", "r/4", "-o", "value") == b"v4\nx\n"
    assert kvctl("ls", "--desc", "--limit", "2") == b"s\nr/4\n"
    assert kvctl("count", "--prefix", "r/") == b"5\n"
    assert kvctl("range", "--count-only") == b"6\n"
    past = json.loads(kvctl("-o", "json", "get", "r/1"))["mod_revision"]
    kvctl("del", "r/0")
    assert kvctl("ls", "--at", str(past)) == b"r/0\nr/1\n"
    assert json.loads(kvctl("-o", "json", "range", "--prefix", "none")) == {"kvs": [], "count": 0,
                                                                            "revision": past + 5}
    kvctl("range", "--prefix", "a", "--all", code=1)


def test_large_ranges_and_deletion_in_pieces(kvctl, server):
    subprocess.run(["xargs", "-P", "4", "-I", "{}", KVCTL, "-e", f"127.0.0.1:{server.client_port}", "put", "big/{}", "x"],
                   input="\n".join(f"{i:04}" for i in range(250)), text=True, check=True, stdout=subprocess.DEVNULL)
    kvctl("config", "set", "work-limit", "100")
    try:
        assert len(kvctl("ls", "big/").splitlines()) == 250
        assert b"TOO_LARGE" in kvctl("del", "--atomic", "--prefix", "big/", code=4)
        assert kvctl("count", "--prefix", "big/") == b"250\n"
        assert kvctl("del", "--prefix", "big/") == b"250\n"
    finally:
        kvctl("config", "set", "work-limit", "100000")
    assert kvctl("count") == b"0\n"


def test_del(kvctl):
    kvctl("put", "a", "1")
    kvctl("put", "b", "2")
    assert kvctl("del", "--prev", "a", "nothing") == b"1\na\t1\n"
    assert kvctl("del", "nothing") == b"0\n"
    for wrong in (["del"], ["del", "a", "--all"], ["del", "--all", "--prev"]):
        kvctl(*wrong, code=1)


def test_errors_name_the_limit(kvctl):
    assert b"4096" in kvctl("put", "k" * 4097, "v", code=4)
    assert b"1048576" in kvctl("put", "k", "-", stdin=b"x" * 1048577, code=4)
    assert b"NOT_FOUND" in kvctl("get", "nothing", code=2)
    assert b"INVALID" in kvctl("get", "", code=4)


def test_nodes(kvctl, server):
    endpoint = f"127.0.0.1:{server.client_port}"
    (node,) = json.loads(kvctl("-o", "json", "status"))["nodes"]
    assert node["endpoint"] == endpoint and node["role"] == "leader" and node["leader_id"] == node["node_id"]
    kvctl("put", "k", "v" * 100)
    (node,) = json.loads(kvctl("-o", "json", "status"))["nodes"]
    assert node["used_bytes"] > 100 and {"data_limit_bytes", "leases", "watches", "topics"} <= set(node)
    kvctl("lease", "grant", "60s")
    kvctl("publish", "news", "x")
    assert re.search(rb", [1-9]\d* bytes used, [1-9]\d* leases, 0 watches, [1-9]\d* topics, up ", kvctl("status"))
    assert json.loads(kvctl("-o", "json", "health")) == {"nodes": [{"endpoint": endpoint, "healthy": True}]}
    (member,) = json.loads(kvctl("-o", "json", "member", "list"))
    assert member["leader"] and member["role"] == "voter"
    assert {"value-limit", "work-limit"} <= {entry["name"] for entry in json.loads(kvctl("-o", "json", "config", "list"))}
    assert b"value-limit" in kvctl("config", "get", "value-limmit", code=2)


def test_one_endpoint_of_two(kvctl, server):
    endpoints = f"127.0.0.1:1,127.0.0.1:{server.client_port}"
    kvctl("--endpoints", endpoints, "put", "k", "v")
    output = kvctl("--endpoints", endpoints, "status", code=3)
    assert b"127.0.0.1:1: " in output and b"refused" in output and b"leader" in output


def test_without_a_server(kvctl):
    output = kvctl("-e", "127.0.0.1:1,no-such-host.invalid", "get", "k", code=3).decode()
    assert "127.0.0.1:1: connection refused" in output
    assert re.search(r"no-such-host\.invalid:4700: \w+", output)


def test_a_stranger_is_told(kvctl, server):
    # The http port speaks something else.
    output = kvctl("-t", "3s", "-e", f"127.0.0.1:{server.http_port}", "get", "k", code=3).decode()
    assert f"127.0.0.1:{server.http_port}: " in output


def test_completion():
    script = f"source {ROOT}/client/kvctl/completion.bash; COMP_WORDS=(kvctl {{}}); COMP_CWORD=$((${{{{#COMP_WORDS[@]}}}} - 1)); " \
             "_kvctl; echo ${{COMPREPLY[@]}}"

    def complete(words):
        # It asks kvctl itself what there is.
        environment = {**os.environ, "PATH": f"{os.path.dirname(KVCTL)}:{os.environ['PATH']}"}
        return subprocess.run(["bash", "-c", script.format(words)], capture_output=True, text=True,
                              env=environment, check=True).stdout.split()
    help_text = subprocess.run([KVCTL, "help"], capture_output=True, text=True, check=True).stdout
    commands = {line.split()[0] for line in re.findall(r"^  ([a-z]\w*.*)$", help_text, re.MULTILINE)}
    assert set(complete("''")) == commands
    assert complete("config 's'") == ["set"]
    assert "--if-absent" in complete("put --if")
    # A name of an option may have a value in one command and none in another.
    assert complete("watch --rev --") == [] and "--scores" in complete("zrange --rev --sc")
    for command in sorted(commands - {"config", "member", "leader", "snapshot", "help", "version", "lease", "flag"}):
        text = subprocess.run([KVCTL, "help", command], capture_output=True, text=True, check=True).stdout
        options = set(re.findall(r"--[a-z-]+(?= )", text.split("Options:")[1]))
        assert options == set(complete(f"{command} --")), command
