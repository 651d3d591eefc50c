"""The Python client of docs/protocol.md, taken from the page and run against a server."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from kvd_process import Kvd

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page_client():
    (code,) = PYTHON.findall((ROOT / "docs" / "protocol.md").read_text())
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    subprocess.run(["protoc", f"--proto_path={ROOT / 'proto'}", f"--python_out={folder}", "kv.proto"], check=True)
    (folder / "client.py").write_text(page_client())
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Kvd(tmp_path_factory.mktemp("data")) as server:
        yield server


@pytest.fixture(scope="module")
def module(folder):
    sys.path.insert(0, str(folder))
    try:
        import client
        yield client
    finally:
        sys.path.remove(str(folder))


def test_at_most_forty_lines():
    assert len(page_client().splitlines()) <= 40


def test_page_runs(folder, server):
    result = subprocess.run([sys.executable, folder / "client.py", "127.0.0.1", str(server.client_port)],
                            capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"revision \d+\nhello\n", result.stdout)


def test_error_is_told(module, server):
    client = module.Client("127.0.0.1", server.client_port)
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        client.call(get=module.kv.Get(key=b"no such key"))


def test_commands_to_come_are_unsupported(module, server):
    kv = module.kv
    client = module.Client("127.0.0.1", server.client_port)
    with pytest.raises(RuntimeError, match="UNSUPPORTED"):
        client.call(backup=kv.Backup())
    assert client.call(put=kv.Put(key=b"still", value=b"there")).revision > 1


def test_pipelining(module, server):
    kv = module.kv
    client = module.Client("127.0.0.1", server.client_port)
    for i in range(1, 501):
        client.send(kv.Request(id=i, put=kv.Put(key=b"k%d" % i, value=b"v")))
    assert sorted(client.receive().id for _ in range(500)) == list(range(1, 501))


def test_streamed_range_within_credit(module, server):
    kv = module.kv
    module.KINDS[kv.Credit] = 8
    client = module.Client("127.0.0.1", server.client_port)
    for i in range(300):
        client.call(put=kv.Put(key=b"stream/%03d" % i, value=b"x" * 1000))
    request = kv.Range(range=kv.KeyRange(start=b"stream/", special=kv.KeyRange.PREFIX), stream=True, credit=1)
    client.send(kv.Request(id=7, range=request))
    keys, revisions = [], set()
    while True:
        item = client.receive()
        keys += [pair.key for pair in item.range.kvs]
        revisions.add(item.range.revision)
        if item.end:
            break
        client.send(kv.Credit(id=7, bytes=len(item.SerializeToString())))
    assert item.code == kv.OK
    assert keys == [b"stream/%03d" % i for i in range(300)]
    assert len(revisions - {0}) == 1
