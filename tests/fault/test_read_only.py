"""Disks that become read-only under load, as a file system does that has met an error: the node ends with a clear message, the
others go on, nothing acknowledged is missing, and it starts again once its disk is writable."""

import os
import pathlib
import re
import subprocess

import pytest

from kvcluster import PATIENCE_S, Cluster, wait_until
from load import Load, seeded

MIB = 1 << 20
STORAGE_FAULT = 6
UNUSABLE_DIRECTORY = 2


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


class Disk:
    """A file system of its own, in a file."""

    def __init__(self, directory, name):
        self.image = directory / f"{name}.img"
        self.path = directory / name
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(256 * MIB)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", str(self.image))
        self.mount()

    def mount(self):
        run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.path))

    def trigger(self):
        device = subprocess.run(["findmnt", "-no", "SOURCE", str(self.path)], check=True, capture_output=True, text=True)
        return pathlib.Path("/sys/fs/ext4") / pathlib.Path(device.stdout.strip()).name / "trigger_fs_error"

    def break_down(self):
        """What the kernel does by itself when it finds the file system damaged."""
        self.trigger().write_text("tried by a test of kvd")

    def unmount(self):
        run("umount", str(self.path))

    def remount(self, how):
        run("mount", "-o", f"remount,{how}", str(self.path))


def reason_to_skip(directory):
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    disk = None
    try:
        disk = Disk(directory, "probe")
        with open(disk.trigger(), "w"):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no ext4 can be made, mounted and broken here: {getattr(error, 'stderr', '') or error}"
    finally:
        if disk:
            subprocess.run(["umount", "-l", str(disk.path)], capture_output=True)


@pytest.fixture
def cluster(tmp_path):
    reason = reason_to_skip(tmp_path)
    if reason:
        pytest.skip(reason)
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster", options=["--wal-segment-size=20MiB", "--snapshot-log-size=2MiB"])
    try:
        for number, node in made.nodes.items():
            node.disk = Disk(tmp_path, f"disk{number}")
            node.directory = node.disk.path / "data"
        with made:
            yield made
    finally:
        for node in made.nodes.values():
            subprocess.run(["umount", "-l", str(tmp_path / f"disk{node.number}")], capture_output=True)


def refuses_to_start(node):
    mark = len(node.log.read_text())
    node.start(wait=False)
    code = node.process.wait(PATIENCE_S)
    said = node.log.read_text()[mark:]
    print(code, said)
    assert code == UNUSABLE_DIRECTORY and re.search(rf"{node.directory}\S*: Read-only file system", said), said


def test_a_disk_that_becomes_read_only(cluster, tmp_path):
    rng = seeded()
    load = Load(cluster)
    followers = cluster.followers()
    for node in (rng.choice(followers), cluster.leader()):
        load.goes_on(200)
        node.disk.break_down()
        assert node.process.wait(PATIENCE_S) == STORAGE_FAULT, node.last_words()
        last = node.log.read_text().splitlines()[-1]
        assert re.search(rf"the log failed: \w+ {node.directory}/wal/\S+: Read-only file system; the node stops", last), last
        # The others go on, and it cannot be started before its disk is mended.
        load.goes_on(200)
        refuses_to_start(node)
        node.disk.unmount()
        node.disk.mount()
        node.start()
        cluster.wait_serving()
    load.end(tmp_path)


def test_a_start_on_a_read_only_disk(cluster):
    node = cluster.followers()[0]
    assert node.terminate() == 0
    node.disk.remount("ro")
    refuses_to_start(node)
    node.disk.remount("rw")
    node.start()
    wait_until(node.serves, "it serves again")
