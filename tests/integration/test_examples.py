"""The programs of docs/guide/examples: compiled against what libkv installs, run against a cluster of three."""

import os
import pathlib
import subprocess

import pytest

from kvcluster import Cluster
from kvd_process import BUILD

ROOT = pathlib.Path(os.environ.get("KVD_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
EXAMPLES = ROOT / "docs" / "guide" / "examples"
pytestmark = pytest.mark.skipif(os.environ.get("KVD_SANITIZE", "") != "",
                                reason="a plain program cannot load a sanitized library")

# What each says.
OUTPUT = {
    "session_store": "session a1 is taken\nsession a1: request 1\nsession a1: request 2\nsigned out of 2 sessions\n"
                     "session a1 is not open\n",
    "rate_limiter": "call 1: allowed, 4 more\ncall 2: allowed, 3 more\ncall 3: allowed, 2 more\ncall 4: allowed, 1 more\n"
                    "call 5: allowed, 0 more\ncall 6: refused, retry after at most a minute\n"
                    "call 7: refused, retry after at most a minute\n",
    "leaderboard": "first: cyd 1720.5 ada 1500 bob 1300\nbob: place 3 with 1300\naround: ada 1500 bob 1300 dan 1100\n",
    "feature_flags": "checkout=old search=off\nfirst editor: done\nsecond editor: somebody was faster\n"
                     "checkout=new search=off\ncheckout=old search=off\n",
    "cache": "8 callers served, computed 1 time\n",
    "job_queue": "1 given back\n9 jobs done\ngot a message\n",
    "bank_transfer": "done, ada has 3000\nrefused, ada has 3000\nbob has 7500\naccount:ada -> account:bob: 7000\n",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


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


def test_all_are_run():
    assert {path.stem for path in EXAMPLES.glob("*.c")} == set(OUTPUT)


@pytest.mark.parametrize("name", OUTPUT)
def test_compiles(flags, tmp_path, name):
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", EXAMPLES / f"{name}.c", "-o", tmp_path / name, *flags],
                   check=True)


@pytest.mark.parametrize("name", OUTPUT)
def test_runs(cluster, flags, tmp_path, name):
    program = tmp_path / name
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", EXAMPLES / f"{name}.c", "-o", program, *flags],
                   check=True)
    result = subprocess.run([program, cluster.endpoints()], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result
    assert result.stdout == OUTPUT[name]
    assert result.stderr == ""
