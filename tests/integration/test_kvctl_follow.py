"""kvctl run and kvctl render --watch while keys change, and while the cluster is away."""

import json
import os
import signal
import subprocess

import pytest

from configcase import LOOP, Service
from kvcluster import KVCTL, Cluster, wait_until
from typecase import Types


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def types(cluster, request):
    types = Types(cluster, request.node.name)
    yield types
    types.close()


FAST = ("--debounce", "20ms")


def service(types, tmp_path, script, *words):
    return Service(types.cluster.endpoints(), tmp_path, script, "--prefix", types.key(""), *FAST, *words)


def test_restart(types, tmp_path):
    cache = tmp_path / "cache.json"
    types.ctl("put", types.key("theme"), "dark")
    script = f"trap 'echo end >>$OUT; exit 0' TERM; echo start $THEME $ADDED >>$OUT; {LOOP}"
    with service(types, tmp_path, script, "--cache", cache) as service_:
        service_.says("start dark\n")
        types.ctl("put", types.key("theme"), "light")
        service_.says("start dark\nend\nstart light\n")
        types.ctl("put", types.key("added"), "more")
        service_.says("end\nstart light more\n")
        types.ctl("del", types.key("theme"))
        service_.says("end\nstart more\n")
        assert json.loads(cache.read_text()) == {types.key("added"): "more"}
        # What makes no difference restarts nothing: the next one follows the last directly.
        types.ctl("touch", types.key("added"))
        types.ctl("sadd", types.key("set"), "x")
        types.ctl("put", types.key("theme"), "last")
        service_.says("start more\nend\nstart last more\n")
        assert service_.end() == 0


def test_restart_of_one_that_ignores_it(types, tmp_path):
    types.ctl("put", types.key("n"), "1")
    script = f"trap '' TERM; echo start $N >>$OUT; {LOOP}"
    with service(types, tmp_path, script, "--grace", "100ms") as service_:
        service_.says("start 1\n")
        types.ctl("put", types.key("n"), "2")
        service_.says("start 2\n")
        service_.complains("sh did not end within 100 ms: it is killed")


def test_restart_of_one_that_waits(types, tmp_path):
    """A command that ends by itself waits for its next start; another configuration is a reason to start it at once."""
    types.ctl("put", types.key("n"), "1")
    script = f"echo start $N >>$OUT; [ $N = 1 ] && exit 1; {LOOP}"
    with service(types, tmp_path, script, "--restart-on-exit") as service_:
        service_.complains("started again in 2000 ms")
        types.ctl("put", types.key("n"), "2")
        service_.says("start 2\n")


def test_signal(types, tmp_path):
    types.ctl("put", types.key("n"), "1")
    script = f"trap 'echo hup >>$OUT' HUP; echo start $N >>$OUT; {LOOP}"
    with service(types, tmp_path, script, "--on-change", "signal:HUP") as service_:
        service_.says("start 1\n")
        types.ctl("put", types.key("n"), "2")
        service_.says("start 1\nhup\n")
        types.ctl("put", types.key("n"), "3")
        service_.says("start 1\nhup\nhup\n")


def test_none(types, tmp_path):
    cache = tmp_path / "cache.json"
    types.ctl("put", types.key("n"), "1")
    with service(types, tmp_path, f"echo start $N >>$OUT; {LOOP}", "--on-change", "none", "--cache", cache) as service_:
        service_.says("start 1\n")
        types.ctl("put", types.key("n"), "2")
        wait_until(lambda: json.loads(cache.read_text()) == {types.key("n"): "2"}, "the cache is kept up to date")
        assert service_.end() == 128 + signal.SIGTERM
        assert service_.out.read_text() == "start 1\n"


def test_changes_together(types, tmp_path):
    """What changes within the debounce time is one restart."""
    types.ctl("put", types.key("n"), "0")
    script = f"trap 'echo end >>$OUT; exit 0' TERM; echo start $N >>$OUT; {LOOP}"
    with Service(types.cluster.endpoints(), tmp_path, script, "--prefix", types.key(""), "--debounce", "3s") as service_:
        service_.says("start 0\n")
        for number in range(1, 10):
            types.client.put(types.key("n").encode(), str(number).encode())
        service_.says("start 0\nend\nstart 9\n")


def test_cluster_goes_away(tmp_path):
    with Cluster(tmp_path, nodes=1) as cluster:
        types = Types(cluster, "t")
        types.ctl("put", types.key("n"), "1")
        cache = tmp_path / "cache.json"
        script = f"trap 'exit 0' TERM; echo start $N >>$OUT; {LOOP}"
        with service(types, tmp_path, script, "--cache", cache) as service_:
            service_.says("start 1\n")
            cluster.nodes[1].kill()
            # It goes on, and says why nothing comes.
            service_.complains("the cluster is away")
            assert service_.process.poll() is None
            cluster.nodes[1].start()
            cluster.wait_serving()
            types.ctl("put", types.key("n"), "2")
            service_.says("start 1\nstart 2\n")
        # Started while it is away: from the cache, until it is back.
        cluster.nodes[1].kill()
        with service(types, tmp_path, script, "--cache", cache) as service_:
            service_.says("start 2\n")
            cluster.nodes[1].start()
            cluster.wait_serving()
            types.ctl("put", types.key("n"), "3")
            service_.says("start 3\n")
            service_.complains("the cluster is back")


def test_render_begins_without_the_cluster(tmp_path):
    with Cluster(tmp_path, nodes=1) as cluster:
        types = Types(cluster, "t")
        types.ctl("put", "k", "v")
        types.close()
        cluster.nodes[1].kill()
        (tmp_path / "t.tmpl").write_text("{{ key \"k\" }}")
        with open(tmp_path / "err", "w", encoding="utf-8") as err:
            process = subprocess.Popen([KVCTL, "-e", cluster.endpoints(), "render", tmp_path / "t.tmpl", tmp_path / "out",
                                        "--watch"], stderr=err, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: "no endpoint can be reached" in (tmp_path / "err").read_text(), "it says so")
            cluster.nodes[1].start()
            wait_until(lambda: (tmp_path / "out").exists() and (tmp_path / "out").read_text() == "v", "it goes on")
            assert (tmp_path / "err").read_text().count("kvctl render: ") <= 2
        finally:
            process.terminate()
            process.wait(60)


def test_leader_dies(tmp_path):
    with Cluster(tmp_path, nodes=3) as cluster:
        types = Types(cluster, "t")
        types.ctl("put", types.key("n"), "1")
        out = tmp_path / "service"
        out.mkdir()
        with service(types, out, f"trap 'exit 0' TERM; echo start $N >>$OUT; {LOOP}") as service_:
            service_.says("start 1\n")
            cluster.leader().kill()
            wait_until(cluster.leader, "another leader")
            types.ctl("put", types.key("n"), "2")
            service_.says("start 1\nstart 2\n")


def test_render_watch(types, tmp_path):
    template = tmp_path / "t.tmpl"
    target = tmp_path / "out"
    log = tmp_path / "log"
    key = types.key("")
    template.write_text("{{ key \"PREFIXhost\" }}:{{ range prefix \"PREFIXlist/\" }}{{ .name }}={{ .value }};{{ end }}\n"
                        "{{ if exists \"PREFIXflag\" }}on{{ else }}off{{ end }}\n".replace("PREFIX", key))
    types.ctl("put", f"{key}host", "a")
    with open(tmp_path / "err", "w", encoding="utf-8") as err:
        process = subprocess.Popen([KVCTL, "-e", types.cluster.endpoints(), "render", template, target, "--watch", *FAST,
                                    "--check", "! grep -q bad {}", "--exec", f"cat {target} >>{log}; echo >>{log}"],
                                   stderr=err, stdin=subprocess.DEVNULL, env=os.environ)

    def holds(text):
        wait_until(lambda: target.exists() and target.read_text() == text, f"{text!r}, {(tmp_path / 'err').read_text()}")

    def complains(text):
        wait_until(lambda: text in (tmp_path / "err").read_text(), text)

    try:
        holds("a:\noff\n")
        types.ctl("put", f"{key}list/x", "1")
        holds("a:x=1;\noff\n")
        types.ctl("put", f"{key}flag", "")
        holds("a:x=1;\non\n")
        # What goes wrong is said, and the file stays until it is mended.
        types.ctl("del", f"{key}host")
        complains(f"there is no key \"{key}host\"")
        types.ctl("put", f"{key}host", "bad")
        complains("the check failed")
        assert target.read_text() == "a:x=1;\non\n"
        types.ctl("put", f"{key}host", "b")
        holds("b:x=1;\non\n")
        wait_until(lambda: log.read_text() == "a:\noff\n\na:x=1;\noff\n\na:x=1;\non\n\nb:x=1;\non\n\n", "four changes")
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(60)
