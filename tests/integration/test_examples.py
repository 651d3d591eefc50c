"""The programs of docs/guide/examples that end by themselves, run against a cluster of three."""

import os
import subprocess

import pytest

from examplecase import EXAMPLES, STAYING, Programs
from kvcluster import Cluster

pytestmark = pytest.mark.skipif(os.environ.get("KVD_SANITIZE", "") != "",
                                reason="a plain program cannot load a sanitized library")

# What each says.
OUTPUT = {
    "session_store": "a1 is taken\nada has 2 open: a1 b2\nb2 has ended by itself\nada has 1 open: a1\n"
                     "a1 has ended by itself\na1 is not open\nada has 0 open:\n",
    "rate_limiter": "call 1: allowed, 4 more\ncall 2: allowed, 3 more\ncall 3: allowed, 2 more\ncall 4: allowed, 1 more\n"
                    "call 5: allowed, 0 more\ncall 6: refused, retry after at most a minute\n"
                    "call 7: refused, retry after at most a minute\n",
    "leaderboard": "first: cyd 1720.5 ada 1500 bob 1300\nbob: place 3 with 1300\naround: ada 1500 bob 1300 dan 1100\n",
    "feature_flags": "on 20%: 214 of 1000 users have it, 0 lost it\non 50%: 489 of 1000 users have it, 0 lost it\n"
                     "off 50%: 0 of 1000 users have it, 489 lost it\n",
    "cache": "8 callers served, computed 1 time\n",
    "job_queue": "1 given back\n9 jobs done\ngot a message\n",
    "bank_transfer": "done, ada has 3000\nrefused, ada has 3000\nbob has 7500\naccount:ada -> account:bob: 7000\n",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return Programs(tmp_path_factory.mktemp("programs"))


def test_all_are_run():
    assert {path.stem for path in EXAMPLES.glob("*.c")} == set(OUTPUT) | STAYING


@pytest.mark.parametrize("name", OUTPUT)
def test_runs(cluster, programs, name):
    result = subprocess.run([programs.compile(name), cluster.endpoints()], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result
    assert result.stdout == OUTPUT[name]
    assert result.stderr == ""
