"""What bad input gets: a clear error that names what, where and what to do, and nobody else disturbed."""

import fcntl
import os
import re
import socket
import struct
import subprocess

import pytest

from kvcluster import GOODBYE, HELLO, HOST, KVD, REQUEST, Client, Cluster, kv, wait_until


def kvd(*arguments, environment=None):
    """Runs kvd to its end; exit code and what it said."""
    result = subprocess.run([KVD, *arguments], capture_output=True, text=True, timeout=30,
                            env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL)
    return result.returncode, result.stderr + result.stdout


@pytest.mark.parametrize("arguments, environment, words", [
    (["--client-lisen=x"], {}, ["unknown flag", "--client-lisen", "--client-listen"]),
    (["--node-id"], {}, ["--node-id", "wants a value"]),
    (["--node-id=abc"], {}, ["flag --node-id", "number", "abc"]),
    (["--election-timeout=5parsecs"], {}, ["unknown unit", "parsecs", "ms, s, m or h"]),
    (["--wal-segment-size=1KiB"], {}, ["wal-segment-size", "1KiB"]),
    (["--peer-compression=maybe"], {}, ["true or false"]),
    (["--log-level=loud"], {}, ["log-level", "loud"]),
    (["extra"], {}, ["unexpected argument", "extra"]),
    (["--members=1=a:1,1=b:2"], {}, ["named twice"]),
    (["--members=1=a:1,2=a:1"], {}, ["one address"]),
    (["--members=2=a:1,3=b:2", "--node-id=1"], {}, ["node-id 1", "not among"]),
    (["--members=nonsense"], {}, ["nonsense", "ID=HOST:PORT"]),
    (["--heartbeat-interval=200ms"], {}, ["heartbeat-interval", "election-timeout"]),
    (["--client-address=0.0.0.0:4700"], {}, ["client-address", "nobody can connect"]),
    (["--client-listen=here"], {}, ["client-listen", "HOST:PORT"]),
    ([], {"KVD_NODE_ID": "x"}, ["KVD_NODE_ID", "number"]),
])
def test_wrong_configuration_is_refused_with_the_place_and_the_mend(arguments, environment, words):
    code, text = kvd(*arguments, environment=environment)
    assert code == 1
    for word in words:
        assert word in text


def test_a_configuration_file_names_the_line(tmp_path):
    path = tmp_path / "kvd.yaml"
    path.write_text("node-id: 1\ndata-dirr: /tmp/x\n")
    code, text = kvd(f"--config={path}")
    assert code == 1 and "line 2" in text and '"data-dir"' in text
    path.write_text("node-id: 1\nelection-timeout: 3 parsecs\n")
    code, text = kvd(f"--config={path}")
    assert code == 1 and "line 2" in text and "unit" in text
    path.write_text("- a\n- b\n")
    assert kvd(f"--config={path}")[0] == 1
    assert "cannot read" in kvd("--config=/nowhere/at/all")[1]


def test_flags_beat_environment_beats_file(tmp_path):
    path = tmp_path / "kvd.yaml"
    path.write_text("node-id: 2\ncluster: file\nlog-level: warn\n")
    code, text = kvd(f"--config={path}", "--check-config", "--node-id=4", environment={"KVD_CLUSTER": "environment",
                                                                                     "KVD_NODE_ID": "3"})
    assert code == 0
    assert "node-id: 4" in text and 'cluster: "environment"' in text and 'log-level: "warn"' in text


def test_the_sample_configuration_is_right():
    sample = os.path.join(os.environ.get("KVD_SOURCE_DIR", "."), "deploy/kvd.yaml")
    assert kvd(f"--config={sample}", "--check-config")[0] == 0


@pytest.fixture
def one(tmp_path):
    with Cluster(tmp_path, nodes=1) as made:
        yield made


def quick(directory, *options):
    return [f"--data-dir={directory}", f"--client-listen={HOST}:0", f"--peer-listen={HOST}:0", "--http-listen=",
            *options]


def test_a_taken_port_is_named(one, tmp_path):
    port = one.nodes[1].ports["client"]
    code, text = kvd(f"--data-dir={tmp_path / 'other'}", f"--client-listen={HOST}:{port}", f"--peer-listen={HOST}:0")
    assert code == 2 and str(port) in text and "another process has this port" in text and "--client-listen" in text
    port = one.nodes[1].ports["peer"]
    code, text = kvd(f"--data-dir={tmp_path / 'other'}", f"--client-listen={HOST}:0", f"--peer-listen={HOST}:{port}",
                     "--http-listen=")
    assert code == 2 and str(port) in text and "port is taken" in text and "--peer-listen" in text
    port = one.nodes[1].ports["http"]
    code, text = kvd(f"--data-dir={tmp_path / 'other'}", f"--client-listen={HOST}:0", f"--peer-listen={HOST}:0",
                     f"--http-listen={HOST}:{port}")
    assert code == 2 and str(port) in text and "another process has this port" in text and "--http-listen" in text
    still_serves(one)


def test_data_directories_of_others_are_refused(one, tmp_path):
    directory = one.nodes[1].directory
    code, text = kvd(*quick(directory, "--cluster=test"))
    assert code == 3 and "in use" in text and str(directory) in text
    one.nodes[1].terminate()
    code, text = kvd(*quick(directory, "--cluster=test", "--node-id=7"))
    assert code == 4 and "node 1" in text and "node 7" in text
    code, text = kvd(*quick(directory, "--cluster=another"))
    assert code == 4 and "cluster" in text
    meta = bytearray((directory / "meta").read_bytes())
    meta[9] ^= 1
    (directory / "meta").write_bytes(meta)
    code, text = kvd(*quick(directory, "--cluster=test"))
    assert code == 5 and "meta" in text and "replace" in text


def test_an_unusable_data_directory_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    code, text = kvd(*quick(file))
    assert code == 2 and str(file) in text
    code, text = kvd(*quick(tmp_path / "no" / "such"))
    assert code == 2 and "No such file" in text


def damaged(one, change):
    """Stops the node, changes its newest segment, starts it again; exit code and words."""
    node = one.nodes[1]
    client = node.client()
    for i in range(20):
        assert client.put(b"key%d" % i, b"value" * 20).code == kv.OK
    node.terminate()
    segment = sorted((node.directory / "wal").glob("*-*"))[-1]
    change(segment)
    code, text = kvd(*quick(node.directory, "--cluster=test"))
    return code, text, segment


def flip_byte_in_the_middle(segment):
    data = bytearray(segment.read_bytes())
    at = data.rindex(b"value" * 20, 0, data.rindex(b"value" * 20)) + 3
    data[at] ^= 0x10
    segment.write_bytes(data)


def test_a_flipped_bit_in_the_log_is_refused_by_file_and_offset(one):
    code, text, segment = damaged(one, flip_byte_in_the_middle)
    assert code == 5 and segment.name in text and re.search(r"offset \d+", text) and "replace" in text


def test_a_cut_log_is_refused(one):
    code, text, segment = damaged(one, lambda path: os.truncate(path, 4096))
    assert code in (4, 5) and segment.name in text


def test_a_missing_log_is_refused(one):
    code, text, _segment = damaged(one, lambda path: path.unlink())
    assert code == 5 and "missing" in text and "replace" in text


def still_serves(one):
    client = one.nodes[1].client()
    assert client.put(b"still", b"here").code == kv.OK
    client.close()


def talk(port, data, shut=False):
    """Sends bytes as a stranger; everything that comes back until the end."""
    with socket.create_connection((HOST, port), timeout=30) as stranger:
        stranger.sendall(data)
        if shut:
            stranger.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := stranger.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


@pytest.mark.parametrize("data, word", [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400"),
    (b"*1\r\n$4\r\nPING\r\n", b"-ERR"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100, b"TLS"),
    (b"\xff" * 64, b"not a frame"),
    (struct.pack("<IBBH", 0xFFFFFFFF, 4, 0, 0), b"bytes"),
    (struct.pack("<IBBH", 4, 1, 0, 0) + b"abcd", b"hello"),
    (struct.pack("<IBBH", 4, 4, 0, 0) + b"\xff\xff\xff\xff", b"malformed"),
], ids=["http", "resp", "tls", "bytes", "4-gb", "no-hello", "bad-hello"])
def test_strangers_on_the_client_port_get_one_clear_line(one, data, word):
    assert word in talk(one.nodes[1].ports["client"], data)
    still_serves(one)


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00" + b"x" * 100,
    os.urandom(256),
    b"\xff" * 1000,
    struct.pack("<IBBH", 6, HELLO, 0, 0) + b"\x08\x01\x12\x02me",
    struct.pack("<IBBH", 0xFFFFFFFF, 1, 0, 0) + b"x" * 1000,
    b"\x10",
    b"",
], ids=["http", "tls", "random", "bytes", "client", "4-gb", "half-a-frame", "silence"])
def test_strangers_on_the_peer_port_are_closed(one, data):
    talk(one.nodes[1].ports["peer"], data)
    still_serves(one)


def test_half_a_frame_and_silence_is_closed(one):
    data = struct.pack("<IBBH", 100, HELLO, 0, 0) + b"half"
    assert b"no hello" in talk(one.nodes[1].ports["client"], data)
    still_serves(one)


@pytest.mark.parametrize("port", ["client", "peer"])
def test_a_thousand_idle_connections_disturb_nobody(one, port):
    idle = [socket.create_connection((HOST, one.nodes[1].ports[port])) for _ in range(1000)]
    still_serves(one)
    for connection in idle:
        connection.close()


def test_more_connections_than_allowed_are_told(tmp_path):
    with Cluster(tmp_path, nodes=1, options=["--max-connections=3"]) as one:
        keep = [one.nodes[1].client() for _ in range(3)]
        with socket.create_connection((HOST, one.nodes[1].ports["client"]), timeout=30) as fourth:
            assert b"too many connections" in fourth.recv(4096)
        assert keep[0].put(b"a", b"b").code == kv.OK


def test_a_client_that_never_reads_is_closed_and_nobody_waits(one):
    writer = one.nodes[1].client()
    assert writer.put(b"big", b"x" * 1_000_000).code == kv.OK
    greedy = one.nodes[1].client()
    greedy.socket.settimeout(1)
    try:
        for _ in range(400):
            greedy.send_request(get=kv.Get(key=b"big"))
    except OSError:
        pass
    still_serves(one)
    wait_until(lambda: one.nodes[1].http("/metrics")[1].find("kvd_requests_waiting 0\n") > 0, "nothing waits")


def test_requests_that_are_wrong_say_how(one):
    client = one.nodes[1].client()
    for command, code, words in [
        ({"put": kv.Put(key=b"", value=b"x")}, kv.INVALID, ["key is empty"]),
        ({"put": kv.Put(key=b"k" * 4097, value=b"x")}, kv.TOO_LARGE, ["4097", "4096"]),
        ({"put": kv.Put(key=b"k", value=b"x" * (1 << 20) + b"x")}, kv.TOO_LARGE, ["1048577", "value-limit"]),
        ({"put": kv.Put(key=b"k", ttl_ms=0)}, kv.INVALID, ["ttl", "1 or more"]),
        ({"get": kv.Get(key=b"k", at_revision=99)}, kv.FUTURE_REVISION, ["99"]),
        ({"get": kv.Get(key=b"k", at_revision=-1)}, kv.INVALID, ["negative"]),
        ({"range": kv.Range(range=kv.KeyRange(start=b"b", end=b"a"))}, kv.INVALID, ["ends before"]),
        ({"range": kv.Range(range=kv.KeyRange(start=b"b", special=77))}, kv.INVALID, ["77"]),
        ({"delete": kv.Delete()}, kv.INVALID, ["neither"]),
        ({"config_set": kv.ConfigSet(name="value-limitt", value=1)}, kv.NOT_FOUND, ["value-limit"]),
        ({"config_set": kv.ConfigSet(name="value-limit", value=1)}, kv.OUT_OF_BOUNDS, ["1024"]),
        ({}, kv.INVALID, ["no command"]),
    ]:
        reply = client.call(**command)
        assert reply.code == code, (command, reply)
        for word in words:
            assert word in reply.message
    assert client.get(b"k").code == kv.NOT_FOUND
    assert client.call(status=kv.Status()).revision == 1


def test_leases_and_times_that_are_wrong_say_how(one):
    client = one.nodes[1].client()
    assert client.call(lease_grant=kv.LeaseGrant(lease_id=7, ttl_ms=60_000)).code == kv.OK
    assert client.call(lease_grant=kv.LeaseGrant(lease_id=8, ttl_ms=1000)).code == kv.OK
    assert client.put(b"k", b"x", lease_id=8).code == kv.OK
    # Asking keeps nothing alive.
    wait_until(lambda: client.call(lease_info=kv.LeaseInfo(lease_id=8)).code == kv.NOT_FOUND, "the lease ends")
    wait_until(lambda: client.get(b"k").code == kv.NOT_FOUND, "its key ends")
    too_long = 1 << 62
    for command, code, words in [
        ({"lease_keep_alive": kv.LeaseKeepAlive(lease_ids=[8])}, kv.NOT_FOUND, ["lease 8"]),
        ({"lease_keep_alive": kv.LeaseKeepAlive()}, kv.INVALID, ["no lease"]),
        ({"lease_grant": kv.LeaseGrant(lease_id=7, ttl_ms=5000)}, kv.EXISTS, ["lease"]),
        ({"lease_grant": kv.LeaseGrant(lease_id=-7, ttl_ms=5000)}, kv.INVALID, ["-7"]),
        ({"lease_grant": kv.LeaseGrant()}, kv.INVALID, ["ttl", "1 or more"]),
        ({"lease_grant": kv.LeaseGrant(ttl_ms=10)}, kv.OUT_OF_BOUNDS, ["lease-ttl-min"]),
        ({"lease_grant": kv.LeaseGrant(ttl_ms=too_long)}, kv.OUT_OF_BOUNDS, ["lease-ttl-max"]),
        ({"lease_revoke": kv.LeaseRevoke(lease_id=8)}, kv.NOT_FOUND, ["lease 8"]),
        ({"put": kv.Put(key=b"k", lease_id=8)}, kv.NOT_FOUND, ["lease 8"]),
        ({"put": kv.Put(key=b"k", ttl_ms=too_long)}, kv.OUT_OF_BOUNDS, ["ttl-max"]),
        ({"expire": kv.Expire(key=b"k", ttl_ms=1000)}, kv.NOT_FOUND, ["key"]),
        ({"ttl": kv.Ttl(key=b"k")}, kv.NOT_FOUND, ["key"]),
    ]:
        reply = client.call(**command)
        assert reply.code == code, (command, reply)
        for word in words:
            assert word in reply.message, (command, reply)
    # One of several that has ended is told as such, the others are renewed.
    leases = client.call(lease_keep_alive=kv.LeaseKeepAlive(lease_ids=[8, 7])).lease_keep_alive.leases
    assert [(lease.lease_id, lease.ttl_ms) for lease in leases] == [(8, 0), (7, 60_000)]
    assert client.get(b"k").code == kv.NOT_FOUND
    client.close()


def append(client, session, sequence, through=0, value=b"x"):
    stamp = kv.SessionStamp(session_id=session, sequence=sequence, acknowledged_through=through)
    return client.call(session=stamp, append=kv.Append(key=b"stamped", value=value))


def test_stamps_that_are_wrong_say_how_and_change_nothing(one):
    client = one.nodes[1].client()
    session = client.call(session_open=kv.SessionOpen()).session_open.session_id
    ordered = client.call(session_open=kv.SessionOpen(ordered=True)).session_open.session_id
    ended = client.call(session_open=kv.SessionOpen()).session_open.session_id
    assert client.call(session_close=kv.SessionClose(session_id=ended)).code == kv.OK
    first = append(client, session, 1)
    assert first.code == kv.OK and first.append.length == 1
    assert append(client, session, 3, through=2).append.length == 2
    for stamp, code, word in [
        ((session, 2), kv.INVALID, "acknowledged"),
        ((session, 0), kv.INVALID, "begin with 1"),
        ((0, 1), kv.INVALID, "begin with 1"),
        ((session, 4, 4), kv.INVALID, "its own stamp"),
        ((session, 3, 0, b"other"), kv.INVALID, "another command"),
        ((session, 1027), kv.BUSY, "1024"),
        ((ordered, 2), kv.BUSY, "waits for the one before"),
        ((ended, 1), kv.SESSION_EXPIRED, "ended"),
        ((77777, 1), kv.INVALID, "never opened"),
    ]:
        reply = append(client, *stamp)
        assert reply.code == code and word in reply.message, (stamp, reply)
    stamp = kv.SessionStamp(session_id=session, sequence=4)
    for command in [{"get": kv.Get(key=b"stamped")}, {"status": kv.Status()}]:
        reply = client.call(session=stamp, **command)
        assert reply.code == kv.INVALID and "only a write" in reply.message
    reply = client.call(session=stamp, session_renew=kv.SessionRenew(session_id=session))
    assert reply.code == kv.INVALID and "no stamp" in reply.message
    assert client.call(session_open=kv.SessionOpen(ttl_ms=5)).code == kv.OUT_OF_BOUNDS
    assert client.get(b"stamped").get.kv.value == b"xx"
    assert append(client, session, 3).append.length == 2


def test_a_retry_is_answered_alike_by_every_node(tmp_path):
    with Cluster(tmp_path) as cluster:
        session = cluster.nodes[1].client().call(session_open=kv.SessionOpen()).session_open.session_id
        replies = [append(node.client(), session, 1) for node in cluster.nodes.values()]
        assert {(reply.code, reply.append.length, reply.revision) for reply in replies} == {(kv.OK, 1, 2)}
        # Lowered since: the retry of what was done then gets what it got.
        client = cluster.nodes[1].client()
        assert append(client, session, 2, value=b"y" * 3000).append.length == 3001
        assert client.call(config_set=kv.ConfigSet(name="value-limit", value=1024)).code == kv.OK
        for node in cluster.nodes.values():
            node.terminate()
        for node in cluster.nodes.values():
            node.start()
        cluster.wait_serving()
        for node in cluster.nodes.values():
            assert append(node.client(), session, 2, value=b"y" * 3000).append.length == 3001
            assert append(node.client(), session, 3, value=b"y" * 3000).code == kv.TOO_LARGE


def test_a_write_with_an_unknown_field_is_refused(one):
    client = one.nodes[1].client()
    body = kv.Request(id=1, put=kv.Put(key=b"k", value=b"v")).SerializeToString() + b"\xf8\xff\x03\x01"
    client.socket.sendall(struct.pack("<IBBH", len(body), REQUEST, 0, 0) + body)
    reply = client.receive()
    assert reply.code == kv.INVALID and "does not know" in reply.message


# Field 500 of Request.
@pytest.mark.parametrize("field", [b"\xa2\x1f\x02\x08\x01", b"\xa0\x1f\x07"], ids=["message", "number"])
@pytest.mark.parametrize("common", [{}, {"deadline_ms": 100, "serializable": True}], ids=["alone", "with-options"])
def test_a_command_of_a_later_protocol_is_unsupported(one, field, common):
    client = one.nodes[1].client()
    body = kv.Request(id=9, **common).SerializeToString() + field
    client.socket.sendall(struct.pack("<IBBH", len(body), REQUEST, 0, 0) + body)
    reply = client.receive()
    assert reply.id == 9 and reply.code == kv.UNSUPPORTED and "does not know" in reply.message
    assert client.put(b"k", b"v").code == kv.OK


def test_an_id_in_use_closes_the_connection(one):
    client = one.nodes[1].client()
    request = kv.Request(id=5, put=kv.Put(key=b"k", value=b"v")).SerializeToString()
    frame = struct.pack("<IBBH", len(request), REQUEST, 0, 0) + request
    client.socket.sendall(frame * 2)
    with pytest.raises((EOFError, OSError, AssertionError)):
        while True:
            client.receive(2)
    still_serves(one)


def test_a_frame_over_the_limit_is_refused(one):
    client = one.nodes[1].client()
    client.socket.sendall(struct.pack("<IBBH", (16 << 20) + 1, REQUEST, 0, 0))
    goodbye = client.receive(GOODBYE)
    assert goodbye.code == kv.TOO_LARGE and "16777216" in goodbye.message


def test_settings_are_replicated_and_survive_a_restart(tmp_path):
    with Cluster(tmp_path) as cluster:
        client = cluster.nodes[1].client()
        reply = client.call(config_set=kv.ConfigSet(name="value-limit", value=2000))
        assert reply.code == kv.OK and reply.config_set.previous == 1 << 20
        for node in cluster.nodes.values():
            node.terminate()
        for node in cluster.nodes.values():
            node.start()
        cluster.wait_serving()
        for node in cluster.nodes.values():
            reply = node.client().call(config_get=kv.ConfigGet(name="value-limit"))
            assert reply.config_get.entry.value == 2000
        assert cluster.nodes[2].client().put(b"k", b"x" * 2001).code == kv.TOO_LARGE
