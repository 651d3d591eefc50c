"""The http port beside strangers, silence and slow readers; and what monitoring programs make of its pages."""

import os
import re
import shutil
import socket
import struct
import subprocess
import time

import pytest

from kvcluster import HOST, PATIENCE_S, Cluster, kv, wait_until

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("http"), nodes=1) as made:
        yield made


def dial(one):
    return socket.create_connection((HOST, one.nodes[1].ports["http"]), timeout=PATIENCE_S)


def until_closed(stranger):
    """All that comes; the time limit of the socket fails the test when no end comes."""
    answer = b""
    try:
        while piece := stranger.recv(65536):
            answer += piece
    except (ConnectionResetError, BrokenPipeError):
        pass
    return answer


def nobody_is_disturbed(one):
    node = one.nodes[1]
    assert node.http("/livez") == (200, "alive\n")
    assert node.http("/health")[0] == 200
    client = node.client()
    assert client.put(b"still", b"here").code == kv.OK
    client.close()


# More than the port takes at once, too: then those that stay silent make room.
@pytest.mark.parametrize("count", [1000, 2500])
def test_idle_connections_do_not_silence_the_port(one, count):
    idle = [dial(one) for _ in range(count)]
    try:
        nobody_is_disturbed(one)
    finally:
        for connection in idle:
            connection.close()


def test_silence_is_closed(one):
    with dial(one) as stranger:
        assert until_closed(stranger) == b""
    nobody_is_disturbed(one)


@pytest.mark.parametrize("data", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 600,
    os.urandom(4096),
    b"\xff" * 4096,
    struct.pack("<IBBH", 6, 4, 0, 0) + b"\x08\x01\x12\x02me",
    struct.pack("<IBBH", 0xFFFFFFFF, 1, 0, 0) + b"x" * 1000,
    b"GET /livez HTTP/1.1\r\nHost: te",
    b"GET /livez HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 100_000,
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
], ids=["tls", "random", "bytes", "hello", "4-gb-frame", "half-a-request", "large-header", "large-address"])
def test_strangers_are_answered_or_closed(one, data):
    with dial(one) as stranger:
        try:
            stranger.sendall(data)
        except OSError:
            pass
        nobody_is_disturbed(one)
        answer = until_closed(stranger)
        assert answer == b"" or re.match(rb"HTTP/1.[01] 4\d\d ", answer), answer
    nobody_is_disturbed(one)


@pytest.mark.parametrize("method, code", [(b"GET", b"400"), (b"POST", b"405"), (b"PUT", b"405"), (b"DELETE", b"405")])
@pytest.mark.parametrize("header", [b"Content-Length: 4294967296", b"Transfer-Encoding: chunked"])
def test_a_body_is_refused_before_it_comes(one, method, code, header):
    with dial(one) as stranger:
        stranger.sendall(method + b" /livez HTTP/1.1\r\nHost: test\r\n" + header + b"\r\n\r\n")
        answer = until_closed(stranger)
    assert answer.startswith(b"HTTP/1.1 " + code), answer
    assert b"GET" in answer
    nobody_is_disturbed(one)


def test_an_empty_body_is_none(one):
    with dial(one) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert until_closed(client).endswith(b"alive\n")


def test_a_connection_serves_several_requests(one):
    with dial(one) as client:
        client.sendall(LIVEZ * 3 + b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        assert until_closed(client).count(b"alive\n") == 4


def test_a_client_that_never_reads_is_closed(one):
    request = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n"
    with dial(one) as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.setblocking(False)
        refused = 0
        deadline = time.monotonic() + PATIENCE_S
        # As much as the server takes; in the end it takes no more.
        while refused < 50 and time.monotonic() < deadline:
            try:
                greedy.send(request * 20)
                refused = 0
            except BlockingIOError:
                refused += 1
                nobody_is_disturbed(one)
            except OSError:
                break
        nobody_is_disturbed(one)

        def is_closed():
            try:
                greedy.send(b"G")
            except BlockingIOError:
                return False
            except OSError:
                return True
            return False

        wait_until(is_closed, "the connection is ended")
    nobody_is_disturbed(one)


# ---------------------------------------------------------------- /metrics

SAMPLE = re.compile(r'(?P<name>[a-z_][a-z0-9_]*)(?P<labels>\{[a-z_]+="[^"\\]*"(?:,[a-z_]+="[^"\\]*")*\})? '
                    r"(?P<value>[-+.0-9e]+|\+Inf)")


def complaints(page):
    """What is wrong with a page of metrics, by the text format and the custom of its users."""
    found = []
    kinds, helped, seen = {}, set(), set()
    for line in page.splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split()[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            if name in kinds:
                found.append(f"{name} comes twice")
            kinds[name] = kind
            if (kind == "counter") != name.endswith("_total"):
                found.append(f"{name} is a {kind}")
        elif match := SAMPLE.fullmatch(line):
            name = match["name"]
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            name = base if kinds.get(base) == "histogram" else name
            if name not in kinds or name not in helped:
                found.append(f"{name} has no head")
            if not name.startswith("kvd_"):
                found.append(f"{name} is not ours")
            if (line.rpartition(" ")[0]) in seen:
                found.append(f"{line} comes twice")
            seen.add(line.rpartition(" ")[0])
        else:
            found.append(f"no sample: {line}")
    return found


GOOD = '# HELP kvd_a_total A.\n# TYPE kvd_a_total counter\nkvd_a_total{code="OK"} 1\nkvd_a_total{code="BUSY"} 2\n'


@pytest.mark.parametrize("page, word", [
    (GOOD + "kvd_b 1\n", "no head"),
    (GOOD + 'kvd_a_total{code="OK"} 3\n', "twice"),
    (GOOD + "# TYPE kvd_a_total counter\n", "twice"),
    (GOOD + "kvd_a_total one\n", "no sample"),
    (GOOD.replace("a_total", "a"), "is a counter"),
])
def test_the_checker_finds(page, word):
    assert complaints(GOOD) == []
    assert any(word in text for text in complaints(page))


def metrics(one):
    client = one.nodes[1].client()
    assert client.put(b"k", b"v").code == kv.OK
    assert client.get(b"none").code == kv.NOT_FOUND
    code, page = one.nodes[1].http("/metrics")
    assert code == 200
    return page


def test_metrics_are_well_formed(one):
    page = metrics(one)
    assert complaints(page) == []
    assert re.search(r"^kvd_serving 1$", page, re.MULTILINE)


def number(page, name):
    return float(re.search(rf"^kvd_{re.escape(name)} (\S+)$", page, re.MULTILINE)[1])


def test_turns_sessions_and_history_are_counted(one):
    before = metrics(one)
    client = one.nodes[1].client()
    session = client.call(session_open=kv.SessionOpen(ttl_ms=60000))
    assert session.code == kv.OK
    page = metrics(one)
    assert number(page, "sessions") == number(before, "sessions") + 1
    assert number(page, "session_bytes") > number(before, "session_bytes")
    # metrics() puts the same key each time: the former value becomes history.
    assert number(page, "history_versions") > number(before, "history_versions")
    assert number(page, "core_turn_seconds_count") > number(before, "core_turn_seconds_count")
    assert number(page, 'core_turn_seconds_bucket{le="1"}') <= number(page, "core_turn_seconds_count")
    # What asks for the status meanwhile does not take the longest turn away from the scraper.
    assert client.call(status=kv.Status()).status.sessions == number(page, "sessions")
    assert number(metrics(one), "core_turn_max_seconds") > 0


def test_each_command_is_counted_by_its_name(one):
    client = one.nodes[1].client()
    assert client.call(counter_add=kv.CounterAdd(key=b"n", delta=1)).code == kv.OK
    assert client.call(txn=kv.Txn()).code == kv.OK
    page = metrics(one)
    assert 'command="counter_add"' in page and 'command="txn"' in page


def test_promtool_takes_the_metrics(one):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here (Debian: prometheus)")

    def check(page):
        return subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True)

    result = check(metrics(one))
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert check("kvd_a 1\nkvd_a 1\n").returncode != 0
