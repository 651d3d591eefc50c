"""kvd inspect on directories of real nodes: sound, damaged, torn, of a running node; nothing is changed."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from kvcluster import KVD, Cluster, kv


def inspect(kind, path, **options):
    """Exit code, what it printed, what it complained of."""
    result = subprocess.run([KVD, "inspect", kind, path], capture_output=True, text=True, timeout=60,
                            stdin=subprocess.DEVNULL, **options)
    return result.returncode, result.stdout, result.stderr


def everything(directory):
    """All names below, with content and time of the last change."""
    return {path.relative_to(directory): (path.stat().st_mtime_ns,
                                          hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
            for path in directory.rglob("*")}


def segments(directory):
    return sorted(path for path in (directory / "wal").iterdir() if re.fullmatch("[0-9a-f]{16}-[0-9a-f]{16}", path.name))


OPTIONS = ["--wal-segment-size=20MiB"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The directory of a node that wrote some segments and was stopped."""
    with Cluster(tmp_path_factory.mktemp("original"), nodes=1, options=OPTIONS) as cluster:
        client = cluster.leader().client()
        for number in range(130):
            assert client.put(b"key-%d" % (number % 7), os.urandom(500_000)).code == kv.OK
        client.close()
        assert cluster.nodes[1].terminate() == 0
    return cluster.nodes[1].directory


@pytest.fixture
def stopped(original, tmp_path):
    return pathlib.Path(shutil.copytree(original, tmp_path / "copy"))


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def last_record_byte(path):
    return len(path.read_bytes().rstrip(b"\0")) - 1


def test_a_sound_log(stopped):
    before = everything(stopped)
    code, text, complaints = inspect("wal", stopped)
    assert (code, complaints) == (0, "")
    assert re.search(r"^meta: cluster \d+, node 1, format 1$", text, re.MULTILINE)
    assert re.search(r"^  configuration at index 1, term 1\n    member 1 at 127\.0\.0\.1:\d+, voter$", text, re.MULTILINE)
    assert text.count("segment ") > len(segments(stopped)) > 3
    assert re.search(r"^  records: \d+ entry, \d+ vote, ", text, re.MULTILINE)
    entries = re.search(r"^log: term (\d+), vote for 1, entries 1 to (\d+),", text, re.MULTILINE)
    assert int(entries[1]) >= 2 and int(entries[2]) > 130
    assert text.endswith("sound\n") and "running" not in text
    assert everything(stopped) == before


def test_one_segment(stopped):
    first, last = segments(stopped)[0], segments(stopped)[-1]
    code, text, _ = inspect("wal", first)
    assert code == 0 and "segment 2 follows" in text and "one segment can tell" in text
    code, text, _ = inspect("wal", last.name, cwd=last.parent)
    assert code == 0 and "zeros behind" in text


def test_damage_is_named_and_left_alone(stopped):
    victim = segments(stopped)[1]
    flip(victim, 5000)
    before = everything(stopped)
    code, text, complaints = inspect("wal", stopped)
    assert code == 5
    assert str(victim) in complaints and re.search(r"at offset \d+", complaints)
    # What can be read is told all the same.
    assert str(segments(stopped)[-1]) in text and "records:" in text
    assert inspect("wal", victim)[0] == 5
    assert inspect("wal", segments(stopped)[0])[0] == 0
    assert everything(stopped) == before
    # The node itself comes to the same verdict.
    refused = subprocess.run([KVD, "--data-dir", stopped, "--cluster=test", "--client-listen=127.0.0.1:0",
                              "--peer-listen=127.0.0.1:0", "--http-listen="], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 5 and str(victim) in refused.stderr


def test_a_torn_end_is_no_damage_and_is_not_mended(stopped):
    last = segments(stopped)[-1]
    # Nothing behind the last record vouches for it.
    flip(last, last_record_byte(last))
    before = everything(stopped)
    code, text, complaints = inspect("wal", stopped)
    assert (code, complaints) == (0, "")
    assert "torn: the last" in text and "left as they are" in text
    assert everything(stopped) == before


def test_a_missing_segment(stopped):
    segments(stopped)[1].unlink()
    code, _, complaints = inspect("wal", stopped)
    assert code == 5 and "missing" in complaints


def test_a_running_node(tmp_path):
    with Cluster(tmp_path, nodes=1, options=OPTIONS) as cluster:
        node = cluster.nodes[1]
        client = cluster.leader().client()
        for number in range(60):
            assert client.put(b"key", os.urandom(500_000)).code == kv.OK
            if number % 10 == 0:
                code, text, complaints = inspect("wal", node.directory)
                assert (code, complaints) == (0, "")
                assert "a node is running on" in text and "log: term" in text
        assert inspect("snapshot", node.directory)[0] == 0
        # It is not in the way of the node, nor of its lock.
        assert client.put(b"key", b"last").code == kv.OK
        client.close()


def test_a_running_node_under_load(tmp_path):
    with Cluster(tmp_path, nodes=1, options=OPTIONS) as cluster:
        client = cluster.leader().client()
        looks = []
        for number in range(300):
            client.send_request(put=kv.Put(key=b"key", value=os.urandom(200_000)))
            if number % 30 == 0:
                looks.append(subprocess.Popen([KVD, "inspect", "wal", cluster.nodes[1].directory],
                                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        for _ in range(300):
            assert client.receive().code == kv.OK
        for look in looks:
            _, complaints = look.communicate(timeout=60)
            assert (look.returncode, complaints) == (0, "")
        client.close()


def test_snapshots(stopped, tmp_path):
    code, text, _ = inspect("snapshot", stopped)
    assert code == 0 and "snapshot" in text
    no_snapshot = tmp_path / "0000000000000064-0000000000000003"
    no_snapshot.write_bytes(b"kvdsnap1" + bytes(100))
    code, _, complaints = inspect("snapshot", no_snapshot)
    assert code == 5 and str(no_snapshot) in complaints and "offset 0" in complaints
    no_snapshot.write_bytes(b"")
    assert inspect("snapshot", no_snapshot)[0] == 5


@pytest.fixture(scope="module")
def with_snapshots(tmp_path_factory):
    """The directory of a node that has taken two snapshots and was stopped."""
    with Cluster(tmp_path_factory.mktemp("snapshots"), nodes=1, options=OPTIONS) as cluster:
        client = cluster.leader().client()
        for number in range(8):
            assert client.put(b"key-%d" % number, os.urandom(200_000)).code == kv.OK
            if number in (4, 7):
                assert client.call(snapshot_now=kv.SnapshotNow()).code == kv.OK
        client.close()
        assert cluster.nodes[1].terminate() == 0
    return cluster.nodes[1].directory


@pytest.fixture
def snapped(with_snapshots, tmp_path):
    return pathlib.Path(shutil.copytree(with_snapshots, tmp_path / "copy"))


def test_sound_snapshots(snapped):
    before = everything(snapped)
    code, text, complaints = inspect("snapshot", snapped)
    assert (code, complaints) == (0, "")
    older, newest = sorted((snapped / "snap").iterdir())
    for path in (older, newest):
        index, term = (int(part, 16) for part in path.name.split("-"))
        said = text[text.index(f"snapshot {path}\n"):]
        assert f"  state at index {index}, term {term}\n" in said
        assert re.search(r"    member 1 at 127\.0\.0\.1:\d+, voter\n  \d+ sound blocks, \d+ bytes raw, up to offset \d+\n"
                         rf"  file of {path.stat().st_size} bytes, hash [0-9a-f]{{16}}\n  sound\n", said)
        assert inspect("snapshot", path)[0] == 0
    assert everything(snapped) == before


@pytest.mark.parametrize("harm", ["head", "block", "trailer", "cut", "longer", "renamed"])
def test_a_damaged_snapshot(snapped, harm):
    older, newest = sorted((snapped / "snap").iterdir())
    size = newest.stat().st_size
    if harm == "cut":
        os.truncate(newest, size - 1000)
    elif harm == "longer":
        newest.write_bytes(newest.read_bytes() + b"x")
    elif harm == "renamed":
        newest = newest.rename(newest.with_name("7" + newest.name[1:]))
    else:
        flip(newest, {"head": 20, "block": size // 2, "trailer": size - 1}[harm])
    before = everything(snapped)
    code, text, complaints = inspect("snapshot", snapped)
    assert code == 5
    assert str(newest) in complaints and re.search(r"at offset \d+", complaints)
    # The other one is looked at all the same.
    assert "  not sound: " in text and text.count("  sound\n") == 1
    assert inspect("snapshot", newest)[0] == 5 and inspect("snapshot", older)[0] == 0
    assert everything(snapped) == before


def test_a_snapshot_of_a_newer_format(snapped):
    newest = max((snapped / "snap").iterdir())
    data = bytearray(newest.read_bytes())
    data[8:12] = (2).to_bytes(4, "little")
    data[60:64] = crc32c(data[:60]).to_bytes(4, "little")
    newest.write_bytes(data)
    code, _, complaints = inspect("snapshot", snapped)
    assert code == 4 and str(newest) in complaints and "format" in complaints


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def test_unfinished_snapshots_are_named(snapped):
    newest = max((snapped / "snap").iterdir())
    for end in (".tmp", ".part"):
        newest.with_name(newest.name + end).write_bytes(newest.read_bytes()[:1000])
    code, text, complaints = inspect("snapshot", snapped)
    assert (code, complaints) == (0, "")
    assert f"snap/{newest.name}.tmp: " in text and f"snap/{newest.name}.part: " in text


@pytest.mark.parametrize("arguments", [[], ["wal"], ["log", "x"], ["wal", "a", "b"], ["snapshot"]])
def test_wrong_usage(arguments):
    result = subprocess.run([KVD, "inspect", *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "Usage: kvd inspect wal|snapshot PATH" in result.stderr


def test_help():
    result = subprocess.run([KVD, "inspect", "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "Exit codes" in result.stdout
    assert "inspect" in subprocess.run([KVD, "--help"], capture_output=True, text=True, timeout=60).stdout


def test_what_cannot_be_read(tmp_path):
    code, _, complaints = inspect("wal", tmp_path / "nothing")
    assert code == 2 and "No such file" in complaints
    assert not (tmp_path / "nothing").exists()
    code, text, complaints = inspect("wal", tmp_path)
    assert code == 2 and "no data directory" in text and "/wal" in complaints
    assert list(tmp_path.iterdir()) == []
