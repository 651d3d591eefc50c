"""The programs of docs/guide/examples: compiled against what libkv installs, without a warning."""

import os
import pathlib
import subprocess

import pytest

from kvd_process import BUILD

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
EXAMPLES = ROOT / "docs" / "guide" / "examples"
pytestmark = pytest.mark.skipif(os.environ.get("KVD_SANITIZE", "") != "",
                                reason="a plain program cannot load a sanitized library")

NAMES = ["session_store", "rate_limiter", "leaderboard", "feature_flags", "cache", "job_queue", "bank_transfer"]


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run(["cmake", "-DCMAKE_INSTALL_PREFIX=" + str(prefix), "-P", BUILD / "client" / "cmake_install.cmake"],
                   check=True, capture_output=True)
    (pc_file,) = prefix.rglob("libkv.pc")
    flags = subprocess.run(["pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "libkv"],
                           check=True, capture_output=True, text=True,
                           env={**os.environ, "PKG_CONFIG_PATH": str(pc_file.parent)}).stdout.split()
    return [*flags, f"-Wl,-rpath,{pc_file.parent.parent}", "-pthread"]


def test_all_are_named():
    assert {path.stem for path in EXAMPLES.glob("*.c")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_compiles(flags, tmp_path, name):
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", EXAMPLES / f"{name}.c", "-o", tmp_path / name, *flags],
                   check=True)
