"""kvctl watch, publish, subscribe and top, against real nodes."""

import json
import os
import pty
import re
import select
import signal
import subprocess

import pytest

from kvcluster import HOST, KVCTL, PATIENCE_S, ROOT, Cluster, wait_until
from kvctl_process import Staying, run
from kvd_process import Kvd


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory):
    with Kvd(tmp_path_factory.mktemp("data")) as server:
        endpoints = f"{HOST}:{server.client_port}"
        run(endpoints, "-t", "60s", "put", "first", "x")
        yield endpoints


BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page, said", [("streams.md", "put config/theme=dark"), ("coordination.md", "one at a time")])
def test_guide_as_it_stands(tmp_path, page, said):
    blocks = [block for _, block in BLOCK.findall((ROOT / "docs" / "guide" / page).read_text())]
    assert len(blocks) >= 4
    with Kvd(tmp_path) as server:
        environment = {**os.environ, "KVCTL_ENDPOINTS": f"{HOST}:{server.client_port}",
                       "PATH": f"{os.path.dirname(KVCTL)}:{os.environ['PATH']}"}
        run(environment["KVCTL_ENDPOINTS"], "-t", "60s", "put", "first", "x")
        result = subprocess.run(["bash", "-c", "set -ex\n" + "\n".join(blocks)], env=environment, capture_output=True,
                                text=True, timeout=2 * PATIENCE_S)
    assert result.returncode == 0, result.stderr
    assert said in result.stdout


def revision_of(endpoints):
    return json.loads(run(endpoints, "-o", "json", "status"))["nodes"][0]["revision"]


def test_watch_tells_what_happens(endpoints, tmp_path):
    start = revision_of(endpoints) + 1
    with Staying(endpoints, tmp_path, "watch", "w/", "--prefix", "--rev", str(start), "--prev") as watch:
        run(endpoints, "put", "w/a", "1")
        run(endpoints, "put", "other", "1")
        run(endpoints, "put", "w/a", "2\t")
        run(endpoints, "del", "w/a")
        run(endpoints, "hset", "w/h", "f", "v")
        run(endpoints, "zadd", "w/z", "1.5", "m")
        assert watch.wait_lines(5) == [
            f"{start}\tput\tw/a\t1",
            f"{start + 2}\tput\tw/a\t2\\t\t(before: 1)",
            f"{start + 3}\tdelete\tw/a\t(before: 2\\t)",
            f"{start + 4}\tput\tw/h\t(hash of 1) f=v",
            f"{start + 5}\tput\tw/z\t(zset of 1) m=1.5",
        ]
        assert watch.end() == 130


def test_watch_json_with_expiry(endpoints, tmp_path):
    with Staying(endpoints, tmp_path, "watch", "ttl-key", "--json", "--count", "2", "--rev",
                 str(revision_of(endpoints) + 1)) as watch:
        run(endpoints, "put", "ttl-key", "dark", "--ttl", "300ms")
        assert watch.wait() == 0
        put, expire = map(json.loads, watch.lines())
    assert put["kind"] == "put" and put["kv"]["value"] == "dark" and put["kv"]["expires_at_ms"] > 0
    assert expire == {"kind": "expire", "revision": put["revision"] + 1, "key": "ttl-key"}


def test_watch_kinds_and_values(endpoints, tmp_path):
    start = str(revision_of(endpoints) + 1)
    for value in "123":
        run(endpoints, "put", "kinds", value)
        run(endpoints, "del", "kinds")
    assert run(endpoints, "watch", "kinds", "--rev", start, "--kinds", "put", "--count", "3", "-o", "value") == "1\n2\n3\n"
    text = run(endpoints, "watch", "--all", "--rev", start, "--kinds", "delete,expire", "--count", "2")
    assert [line.split("\t")[1:] for line in text.splitlines()] == [["delete", "kinds"]] * 2


def test_watch_exec(endpoints, tmp_path):
    log = tmp_path / "log"
    start = str(revision_of(endpoints) + 1)
    run(endpoints, "put", "exec", "one two")
    run(endpoints, "put", "exec", "$(touch bad)")
    run(endpoints, "del", "exec")
    command = f'echo "$KV_EVENT_KIND $KV_EVENT_KEY $KV_EVENT_VALUE $KV_EVENT_REVISION" >> {log}; cat >> {log}; exit 3'
    result = subprocess.run([KVCTL, "-e", endpoints, "watch", "exec", "--rev", start, "--count", "3", "--exec", command],
                            capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path)
    assert result.returncode == 0 and result.stderr.count("the command ended with 3") == 3
    lines = log.read_text().splitlines()
    assert lines[0] == f"put exec one two {start}" and json.loads(lines[1])["kv"]["value"] == "one two"
    assert lines[2] == f"put exec $(touch bad) {int(start) + 1}" and not (tmp_path / "bad").exists()
    assert lines[4].startswith("delete exec  ") and json.loads(lines[5])["kind"] == "delete"


def test_watch_of_what_is_compacted(endpoints):
    run(endpoints, "put", "compacted", "1")
    run(endpoints, "put", "compacted", "2")
    run(endpoints, "compact", str(revision_of(endpoints)))
    result = subprocess.run([KVCTL, "-e", endpoints, "watch", "compacted", "--rev", "2"], capture_output=True, text=True,
                            timeout=PATIENCE_S)
    assert result.returncode == 4 and "COMPACTED" in result.stderr


WRONG = {
    "watch": "watch wants KEY, KEY --prefix, or --all",
    "watch k --all": "watch wants KEY",
    "watch k --kinds put,gone": "put, delete or expire",
    "watch k --kinds ,": "put, delete or expire",
    "subscribe": "subscribe wants TOPIC, or --pattern GLOB",
    "subscribe t --pattern t*": "subscribe wants TOPIC",
    "subscribe t --last 3 --rev 4": "one of --last and --rev",
    "top --interval 0s": "--interval wants TIME",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words(endpoints, words):
    result = subprocess.run([KVCTL, "-e", endpoints, *words.split()], capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 1 and WRONG[words] in result.stderr and result.stdout == ""


def test_nobody_is_there():
    result = subprocess.run([KVCTL, "-e", f"{HOST}:1", "-t", "500ms", "watch", "k"], capture_output=True, text=True,
                            timeout=PATIENCE_S)
    assert result.returncode == 3 and result.stdout == ""


def test_topics(endpoints, tmp_path):
    with Staying(endpoints, tmp_path, "subscribe", "--pattern", "chat/*", "--count", "3") as all_rooms, \
            Staying(endpoints, tmp_path, "subscribe", "chat/b", "--json") as one_room:
        # Who listens is known when the messages begin to come.
        published = 0
        while len(all_rooms.lines()) == 0 or len(one_room.lines()) == 0:
            run(endpoints, "publish", "chat/b", f"hello {published}")
            published += 1
        run(endpoints, "publish", "other", "x")
        run(endpoints, "publish", "chat/a", "-", stdin="from a pipe")
        run(endpoints, "publish", "chat/a", "more")
        assert all_rooms.wait() == 0 and len(all_rooms.lines()) == 3
        assert {json.loads(line)["topic"] for line in one_room.lines()} == {"chat/b"}
        assert one_room.end(signal.SIGTERM) == 143
    last = run(endpoints, "subscribe", "--pattern", "chat/*", "--last", "2", "--count", "2")
    assert [line.split("\t")[1:] for line in last.splitlines()] == [["chat/a", "from a pipe"], ["chat/a", "more"]]
    listed = {topic["topic"]: topic["messages"] for topic in json.loads(run(endpoints, "topics", "--json"))["topics"]}
    assert listed == {"chat/a": 2, "chat/b": published, "other": 1}


def put_once(endpoints, key, value):
    """Also when its outcome is unknown: kvctl has no session, so that a second try might do it twice."""

    def is_done():
        words = [KVCTL, "-e", endpoints, "-t", "10s"]
        if subprocess.run([*words, "put", key, value], capture_output=True).returncode == 0:
            return True
        return subprocess.run([*words, "-o", "value", "get", key], capture_output=True).stdout == value.encode()

    wait_until(is_done, f"{key} is {value}", 2 * PATIENCE_S)


def test_watch_goes_on_when_the_leader_dies(tmp_path):
    with Cluster(tmp_path) as cluster:
        endpoints = cluster.endpoints()
        leader = cluster.leader()
        with Staying(endpoints, tmp_path, "watch", "k", "-o", "value", "--count", "40", "--rev", "1") as watch:
            for i in range(40):
                if i == 20:
                    watch.wait_lines(1)
                    leader.kill()
                put_once(endpoints, "k", str(i))
            assert watch.wait() == 0
            assert watch.lines() == [str(i) for i in range(40)]


def test_top_lines(endpoints, tmp_path):
    with Staying(endpoints, tmp_path, "top", "--interval", "300ms", "--json") as top:
        number = 0

        def busy():
            nonlocal number
            number += 1
            run(endpoints, "put", f"busy/{number}", "x")
            return any(prefix["prefix"] == "busy/" for line in top.lines() for prefix in json.loads(line)["prefixes"])

        wait_until(busy, "a prefix is busy")
        node = json.loads(top.lines()[-1])["nodes"][0]
        assert node["role"] == "leader" and node["requests"] > number / 2 and node["connections"] >= 1
        # Its own, which counts the prefixes.
        assert node["watches"] == 1 and node["subscriptions"] == 0
        assert top.end() == 130
    text = run(endpoints, "top", "--count", "2", "--interval", "10ms")
    assert len(re.findall(r"^[\d.:]+: node 1, leader, serving", text, re.MULTILINE)) == 2
    assert text.count("\nchanges: ") == 2 and "\033" not in text


def test_top_screen_is_left_as_it_was(endpoints):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(KVCTL, [KVCTL, "-e", endpoints, "top", "--interval", "100ms"])
    seen = b""

    def read_more():
        nonlocal seen
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536)
        return seen

    wait_until(lambda: b"busiest prefixes" in read_more(), "a screen")
    assert seen.startswith(b"\033[?1049h\033[?25l") and b"role" in seen
    os.write(terminal, b"\x03")
    wait_until(lambda: b"\033[?25h\033[?1049l" in read_more(), "the screen as it was")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    os.close(terminal)


def subscriptions(endpoints):
    return sum(node["subscriptions"] for node in json.loads(run(endpoints, "-o", "json", "status"))["nodes"])


def test_a_start_without_a_majority_says_so(tmp_path):
    with Cluster(tmp_path) as cluster:
        for number in (1, 2):
            cluster.nodes[number].kill()
        for command in (["watch", "far"], ["subscribe", "far"]):
            result = subprocess.run([KVCTL, "-e", cluster.endpoints(), "-t", "1s", *command], capture_output=True, text=True,
                                    timeout=PATIENCE_S)
            assert result.returncode == 3 and "within 1000 ms (--timeout)" in result.stderr, result


def test_the_loss_of_the_majority_is_said(tmp_path):
    """What stays says that nothing can come, and goes on."""
    with Cluster(tmp_path) as cluster:
        endpoints = cluster.endpoints()
        run(endpoints, "-t", "60s", "put", "first", "x")
        with Staying(endpoints, tmp_path, "watch", "far/", "--prefix") as watch, \
                Staying(endpoints, tmp_path, "subscribe", "far") as subscribe, \
                Staying(endpoints, tmp_path, "elect", "far", "--observe") as observe:
            observe.wait_lines(1)
            run(endpoints, "put", "far/a", "1")
            watch.wait_lines(1)
            wait_until(lambda: subscriptions(endpoints) == 1, "it has begun")
            for number in (1, 2):
                cluster.nodes[number].kill()
            for stays in (watch, subscribe, observe):
                wait_until(lambda: "NO_LEADER" in stays.errors() and "going on" in stays.errors(), "it is said")
            for number in (1, 2):
                cluster.nodes[number].start()
            cluster.wait_serving()
            run(endpoints, "-t", "60s", "put", "far/b", "2")
            run(endpoints, "-t", "60s", "publish", "far", "hello")
            assert len(watch.wait_lines(2)) == 2
            subscribe.wait_lines(1)
            assert observe.end() == 130
