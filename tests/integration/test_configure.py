"""Configuring refuses a libraft that can lose acknowledged writes, and says why."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))


def configure(tmp_path, raft_version):
    (tmp_path / "raft.pc").write_text(f"Name: raft\nDescription: fake\nVersion: {raft_version}\nLibs: -lraft\n")
    return subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja"], capture_output=True, text=True,
                          env={**os.environ, "PKG_CONFIG_PATH": str(tmp_path)})


@pytest.mark.parametrize("version", ["0.15.0", "0.22.0"])
def test_old_libraft_is_refused(tmp_path, version):
    result = configure(tmp_path, version)
    message = " ".join(result.stderr.split())
    assert result.returncode != 0
    assert f"libraft {version} is too old" in message
    assert "acknowledged writes" in message and "deploy/deps" in message


def test_new_libraft_is_taken(tmp_path):
    result = configure(tmp_path, "0.22.1")
    assert result.returncode == 0, result.stderr


def unused(dependencies, lists):
    """Names of what is looked for and that nothing links."""
    names = re.findall(r"^pkg_check_modules\((\w+) ", dependencies, re.MULTILINE)
    assert names
    return [name for name in names if f"PkgConfig::{name}" not in lists]


def test_nothing_is_wanted_that_nothing_links():
    dependencies = (ROOT / "cmake" / "KvDependencies.cmake").read_text()
    folders = ["common", "proto", "raft", "server", "client", "tests"]
    lists = "".join(path.read_text() for folder in folders for path in (ROOT / folder).rglob("CMakeLists.txt"))
    assert unused(dependencies, lists) == []
    assert unused(dependencies + "pkg_check_modules(NOTHING nothing)\n", lists) == ["NOTHING"]
