"""Configuring refuses a libraft that can lose acknowledged writes, and says why."""

import os
import pathlib
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
