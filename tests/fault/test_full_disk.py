"""A small disk that fills up: what grows is refused, all else goes on, and it clears by itself."""

import os
import subprocess

import pytest

from kvcluster import Cluster, kv, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@pytest.fixture
def small_disk(tmp_path):
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(tmp_path)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("this machine lets nobody mount")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(path, disk, leave_bytes=10 << 20):
    """In steps: the node itself takes room for its log meanwhile."""
    with open(path, "wb") as file:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > leave_bytes:
            size = os.fstat(file.fileno()).st_size
            try:
                os.posix_fallocate(file.fileno(), size, min(1 << 20, free - leave_bytes))
            except OSError:
                return


def test_a_full_disk_refuses_growth_and_clears_by_itself(small_disk):
    with Cluster(small_disk, nodes=1, options=["--wal-segment-size=20MiB"]) as cluster:
        node = cluster.nodes[1]
        client = node.client()
        assert client.put(b"key", b"value").code == kv.OK
        filler = small_disk / "filler"
        fill(filler, small_disk)
        reply = wait_until(lambda: (r := client.put(b"key2", b"x")).code != kv.OK and r, "writes are refused")
        assert reply.code == kv.NO_SPACE and "disk of node 1" in reply.message and str(small_disk) in reply.message
        assert client.call(status=kv.Status()).status.state == "no-space"
        assert client.get(b"key").get.kv.value == b"value"
        assert client.call(delete=kv.Delete(keys=[b"key"])).code == kv.OK
        filler.unlink()
        wait_until(lambda: client.put(b"key3", b"x").code == kv.OK, "writes go on when there is room")
