"""Data directories that cannot be used: full, read-only, of another user, of a newer format. kvd says which and why, ends
with the code of docs/operations/configuration.md, and starts once the cause is gone."""

import contextlib
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import threading

import pytest

from kvcluster import HOST, KVD, PATIENCE_S, Cluster, kv, wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
NOBODY = 65534
SEGMENT = "--wal-segment-size=20MiB"


def kvd(directory, *options, **how):
    """Runs kvd until it gives up; exit code and what it said."""
    result = subprocess.run([KVD, f"--data-dir={directory}", "--cluster=test", f"--client-listen={HOST}:0",
                             f"--peer-listen={HOST}:0", "--http-listen=", SEGMENT, *options], capture_output=True,
                            text=True, timeout=30, stdin=subprocess.DEVNULL, **how)
    return result.returncode, result.stderr + result.stdout


def serve_once(directory, **how):
    """Runs kvd until it serves, then ends it, or until it gives up; exit code and what it said."""
    with subprocess.Popen([KVD, f"--data-dir={directory}", "--cluster=test", f"--client-listen={HOST}:0",
                           f"--peer-listen={HOST}:0", "--http-listen=", SEGMENT], stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL, **how) as process:
        limit = threading.Timer(PATIENCE_S, process.kill)
        limit.start()
        text = ""
        for line in process.stderr:
            text += line
            if " serving " in line:
                process.terminate()
        limit.cancel()
    return process.returncode, text


@contextlib.contextmanager
def mounted(directory, options):
    """A disk in memory; the word by which it is mounted again with other options."""
    directory.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        yield lambda changed: subprocess.run(["mount", "-o", f"remount,{changed}", str(directory)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def node_in(directory):
    """A node of its own whose data lies in directory/node1."""
    return Cluster(directory, nodes=1, options=[SEGMENT])


def serves_and_stops(directory):
    with node_in(directory) as cluster:
        assert cluster.nodes[1].client().put(b"key", b"value").code == kv.OK
        assert cluster.nodes[1].terminate() == 0


# Nothing fits; the lock alone; half a segment of the log.
@needs_root
@pytest.mark.parametrize("size", ["8k", "64k", "10m"])
def test_a_disk_that_is_full_at_the_first_start(tmp_path, size):
    with mounted(tmp_path / "disk", f"size={size}") as remount:
        directory = tmp_path / "disk" / "node1"
        for _ in range(2):
            code, text = kvd(directory)
            assert code == 2, text
            assert str(directory) in text and "No space left on device" in text
            assert "choose another --data-dir" in text and "takes 20 MiB" in text
        remount("size=200m")
        serves_and_stops(tmp_path / "disk")


# One more file each time: the directory, LOCK, wal/, the spare, ..., meta.
@needs_root
def test_a_disk_that_can_take_no_more_files(tmp_path):
    refused = 0
    for files in range(2, 12):
        with mounted(tmp_path / "disk", f"size=200m,nr_inodes={files}") as remount:
            code, text = serve_once(tmp_path / "disk" / "node1")
            if code != 0:
                refused += 1
                assert code == 2, text
                assert f"{tmp_path}/disk/node1" in text
                assert "No space left on device" in text and "choose another --data-dir" in text
                remount("nr_inodes=1000")
                serves_and_stops(tmp_path / "disk")
    assert 3 <= refused < 10


@needs_root
def test_a_disk_that_is_full_at_a_restart(tmp_path):
    with mounted(tmp_path / "disk", "size=160m"), node_in(tmp_path / "disk") as cluster:
        node = cluster.nodes[1]
        assert node.client().put(b"key", b"value").code == kv.OK
        assert node.terminate() == 0
        room = os.statvfs(tmp_path / "disk")
        with open(tmp_path / "disk" / "filler", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)
        # Its own words go where there is room.
        node.log = tmp_path / "log"
        node.ports_file = tmp_path / "ports"
        node.start()
        client = node.client()
        wait_until(lambda: client.get(b"key", deadline_ms=1000).code == kv.OK, "reads are served")
        wait_until(lambda: client.put(b"other", b"x", deadline_ms=1000).code == kv.NO_SPACE, "writes are refused")
        (tmp_path / "disk" / "filler").unlink()
        wait_until(lambda: client.put(b"other", b"x", deadline_ms=1000).code == kv.OK, "writes go on")
        assert node.terminate() == 0


@needs_root
def test_a_read_only_disk(tmp_path):
    with mounted(tmp_path / "disk", "size=200m") as remount:
        serves_and_stops(tmp_path / "disk")
        remount("ro")
        for directory in (tmp_path / "disk" / "node1", tmp_path / "disk" / "new"):
            code, text = kvd(directory)
            assert code == 2, text
            assert str(directory) in text and "Read-only file system" in text and "remount it writable" in text
        remount("rw")
        serves_and_stops(tmp_path / "disk")


# ---------------------------------------------------------------- of another user


def take_all_from(path):
    path.chmod(0)


def take_write_from(path):
    path.chmod(0o555)


@pytest.fixture
def others():
    """A directory that another user reaches, and what makes subprocess run as that user. Without root: this user."""
    if os.geteuid() != 0:
        identity = {}
    else:
        identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        try:
            subprocess.run([KVD, "--version"], check=True, capture_output=True, **identity)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("another user cannot run kvd where it was built")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="kvd-other-"))
    directory.chmod(0o755)
    data = directory / "data"
    data.mkdir()
    if identity:
        os.chown(data, NOBODY, NOBODY)
    yield data, identity
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(directory)


@pytest.mark.parametrize("take", [take_all_from, take_write_from])
def test_a_directory_that_this_user_may_not_write(others, take):
    data, identity = others
    take(data)
    code, text = kvd(data, **identity)
    assert code == 2, text
    assert str(data) in text and "Permission denied" in text and "user that kvd runs as" in text


@pytest.mark.parametrize("take, place", [
    (take_all_from, "LOCK"), (take_all_from, "meta"), (take_all_from, "wal"), (take_all_from, "segment"),
    (take_write_from, "LOCK"), (take_write_from, "segment"),
])
def test_data_of_another_user(others, take, place):
    data, identity = others
    assert serve_once(data, **identity)[0] == 0
    path = next((data / "wal").glob("*-*")) if place == "segment" else data / place
    take(path)
    code, text = kvd(data, **identity)
    assert code == 2, text
    assert str(path) in text and "Permission denied" in text
    assert f"user {identity.get('user', os.geteuid())}" in text and "choose another --data-dir" in text


def test_a_parent_that_this_user_may_not_write(others):
    data, identity = others
    take_write_from(data)
    code, text = kvd(data / "new", **identity)
    assert code == 2, text
    assert str(data / "new") in text and "Permission denied" in text and "user that kvd runs as" in text


# ---------------------------------------------------------------- of another version


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_data_of_a_newer_format_is_refused(tmp_path):
    serves_and_stops(tmp_path)
    meta = tmp_path / "node1" / "meta"
    before = meta.read_bytes()
    (version,) = struct.unpack_from("<I", before, 8)
    assert struct.unpack_from("<I", before, 32)[0] == crc32c(before[:32])
    newer = bytearray(before)
    struct.pack_into("<I", newer, 8, version + 1)
    struct.pack_into("<I", newer, 32, crc32c(newer[:32]))
    meta.write_bytes(newer)
    code, text = kvd(tmp_path / "node1")
    assert code == 4
    assert str(tmp_path / "node1") in text and f"format {version + 1}" in text and "upgrade" in text
    # Looked at, not touched.
    assert meta.read_bytes() == newer
    meta.write_bytes(before)
    serves_and_stops(tmp_path)
