"""kvctl render and run: once, without waiting for changes (test_kvctl_follow.py does)."""

import base64
import json
import os
import pty
import select
import signal
import stat
import threading

import pytest

from configcase import LOOP, NOWHERE, Service, ctl, run, service
from kvcluster import KVCTL, PATIENCE_S, Cluster, kv
from typecase import Types


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def types(cluster, request):
    types = Types(cluster, request.node.name.replace("[", "-").replace("]", ""))
    yield types
    types.close()


# ---------------------------------------------------------------- render


def test_render(types, tmp_path):
    prefix = types.key("")
    types.ctl("put", f"{prefix}host", "db.example")
    types.ctl("put", f"{prefix}motd", "it's \"here\"")
    types.ctl("counter", f"{prefix}n", "5")
    types.ctl("hset", f"{prefix}user", "name", "ada")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "part.tmpl").write_text(
        "user {{ hash \"PREFIXuser\" \"name\" }}\n{{ include \"more.tmpl\" }}".replace("PREFIX", prefix))
    (tmp_path / "sub" / "more.tmpl").write_text("more\n")
    (tmp_path / "t.tmpl").write_text((
        "host {{ key \"PREFIXhost\" }} {{ key \"PREFIXn\" }} {{ key \"PREFIXnone\" | default \"-\" }}\n"
        "{{ range prefix \"PREFIXm\" }}{{ .key }} {{ .name }} {{ .value | shell }} {{ .value | json }}\n{{ end }}"
        "{{ if exists \"PREFIXhost\" }}yes{{ else }}no{{ end }}\n{{ include \"sub/part.tmpl\" }}").replace("PREFIX", prefix))
    expected = (f"host db.example 5 -\n{prefix}motd otd 'it'\\''s \"here\"' \"it's \\\"here\\\"\"\nyes\nuser ada\nmore\n")
    assert run(types, "render", tmp_path / "t.tmpl", "-")[:2] == (0, expected)
    target = tmp_path / "out"
    log = tmp_path / "log"
    words = ["render", tmp_path / "t.tmpl", target, "--check", f"cat {{}} >>{log}", "--exec", f"echo \"$KV_FILE\" >>{log}"]
    assert run(types, *words) == (0, "", "")
    assert target.read_text() == expected and log.read_text() == f"{expected}{target}\n"
    # Nothing is different: nothing is written or run.
    inode = target.stat().st_ino
    assert run(types, *words) == (0, "", "")
    assert target.stat().st_ino == inode and log.read_text() == f"{expected}{target}\n"
    # The mode stays, a link is followed.
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    types.ctl("counter", f"{prefix}n", "6")
    assert run(types, "render", tmp_path / "t.tmpl", tmp_path / "link") == (0, "", "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640 and "db.example 6" in target.read_text()
    assert (tmp_path / "link").is_symlink()
    # The check fails: what was there stays, and nothing else.
    types.ctl("counter", f"{prefix}n", "7")
    code, _, errors = run(types, "render", tmp_path / "t.tmpl", target, "--check", "exit 3")
    assert code == 6 and f"the check failed, {target} stays as it was: \"exit 3\" ended with 3" in errors
    assert "db.example 6" in target.read_text()
    code, _, errors = run(types, "render", tmp_path / "t.tmpl", target, "--exec", "exit 4")
    assert code == 6 and "the command after it failed" in errors and "db.example 7" in target.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "log", "out", "sub", "t.tmpl"]


def test_render_new_file(types, tmp_path):
    """A new file is for those whom the umask allows; what is no file is left alone."""
    (tmp_path / "t.tmpl").write_text("secret\n")
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            assert run(types, "render", tmp_path / "t.tmpl", tmp_path / f"{mask:o}") == (0, "", "")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mask:o}").stat().st_mode) == mode
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code, _, errors = run(types, "render", tmp_path / "t.tmpl", pipe, timeout_s=PATIENCE_S)
    assert code == 6 and f"{pipe} is no regular file" in errors
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    code, _, errors = run(types, "render", tmp_path / "t.tmpl", tmp_path)
    assert code == 6 and f"{tmp_path} is no regular file" in errors


@pytest.mark.parametrize("template,code,message", [
    ("\n{{ key \"no/such\" }}", 2, "NOT_FOUND: {dir}/t line 2: there is no key \"no/such\""),
    ("{{ include \"t\" }}", 1, "{dir}/t line 1: a cycle: {dir}/t is being included already"),
    ("{{ include \"a\" }}", 1, "{dir}/b line 2: a cycle: {dir}/a is being included already"),
    ("{{ include \"none\" }}", 1, "{dir}/t line 1: {dir}/none: No such file"),
    ("a\n{{ kee \"x\" }}", 1, "{dir}/t line 2: key, hash, range"),
    ("{{ if exists \"x\" }}", 1, "{dir}/t line 1: the {{ end }}"),
])
def test_render_refused(types, tmp_path, template, code, message):
    (tmp_path / "t").write_text(template)
    (tmp_path / "a").write_text("{{ include \"b\" }}")
    (tmp_path / "b").write_text("\n{{ include \"a\" }}")
    (tmp_path / "out").write_text("old")
    got, output, errors = run(types, "render", tmp_path / "t", tmp_path / "out")
    assert (got, output) == (code, "") and message.replace("{dir}", str(tmp_path)) in errors, errors
    assert (tmp_path / "out").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out", "t"]


def test_render_without_files(types, tmp_path):
    assert run(types, "render", tmp_path / "none", "-")[0] == 6
    (tmp_path / "t").write_text("x")
    code, _, errors = run(types, "render", tmp_path / "t", tmp_path / "no" / "out")
    assert code == 6 and "No such file or directory" in errors
    (tmp_path / "t").write_text("{{ key \"x\" | default \"y\" }}")
    code, _, errors = ctl(NOWHERE, "render", tmp_path / "t", tmp_path / "out")
    assert code == 3 and not (tmp_path / "out").exists()


# ---------------------------------------------------------------- run


def test_run_environment(types):
    prefix = types.key("")
    for key, value in [("db-host", "h"), ("db.port", "1"), ("db_port", "2"), ("1st", "x"), ("path/\u00e4", "umlaut")]:
        types.ctl("put", prefix + key, value)
    types.ctl("counter", f"{prefix}n", "-3")
    types.ctl("sadd", f"{prefix}set", "x")
    types.call(put=kv.Put(key=f"{prefix}zero".encode(), value=b"a\0b"))
    types.ctl("put", f"{prefix}over/db-host", "other")
    code, output, errors = service(types, "--prefix", f"{prefix}over/", "--", "env", DB_HOST="inherited", KEPT="kept")
    variables = dict(line.split("=", 1) for line in output.splitlines())
    assert code == 0 and variables["KEPT"] == "kept"
    assert {name: variables[name] for name in ("DB_HOST", "DB_PORT", "PATH___", "N", "OVER_DB_HOST")} == {
        "DB_HOST": "other", "DB_PORT": "2", "PATH___": "umlaut", "N": "-3", "OVER_DB_HOST": "other"}
    assert f"DB_PORT is the name of {prefix}db.port and of {prefix}db_port: the last one counts" in errors
    for key, why in [("1st", "no name"), ("set", "only strings and counters"), ("zero", "zero byte")]:
        assert any(line.startswith(f"kvctl run: left out: {prefix}{key}: ") and why in line for line in errors.splitlines())
    assert "DB_HOST is the name" not in errors


def test_run_exit_codes(types, tmp_path):
    assert service(types, "--", "sh", "-c", "exit 7")[0] == 7
    assert service(types, "--", "sh", "-c", "kill -KILL $$")[0] == 128 + signal.SIGKILL
    code, _, errors = service(types, "--", "no-such-command")
    assert code == 127 and "cannot start no-such-command: No such file or directory" in errors
    (tmp_path / "text").write_text("no program")
    code, _, errors = service(types, "--", tmp_path / "text")
    assert code == 126 and f"cannot start {tmp_path}/text: Permission denied" in errors
    assert "there are no keys below --prefix yet" in errors
    # Options behind -- are the command's.
    assert service(types, "--", "echo", "--prefix", "-x")[1] == "--prefix -x\n"


def test_run_signals(types, tmp_path):
    traps = "; ".join(f"trap 'echo {name} >>$OUT' {name}" for name in ("HUP", "USR1", "USR2"))
    script = f"{traps}; trap 'echo TERM >>$OUT; exit 9' TERM; echo start >>$OUT; {LOOP}"
    with Service(types.cluster.endpoints(), tmp_path, script, "--prefix", types.key("")) as service:
        service.says("start\n")
        for name in ("HUP", "USR1", "USR2"):
            service.process.send_signal(getattr(signal, f"SIG{name}"))
            service.says(f"{name}\n")
        assert service.end() == 9
        service.says("TERM\n")


def test_run_is_killed(types, tmp_path):
    """Its command is told to end, since nobody looks after it any more."""
    script = f"trap 'echo TERM >>$OUT; exit' TERM; echo start >>$OUT; {LOOP}"
    with Service(types.cluster.endpoints(), tmp_path, script, "--prefix", types.key("")) as service:
        service.says("start\n")
        service.process.kill()
        service.process.wait(PATIENCE_S)
        service.says("TERM\n")


def test_run_ignores_its_signal(types, tmp_path):
    script = f"trap '' TERM; echo start $$ >>$OUT; {LOOP}"
    with Service(types.cluster.endpoints(), tmp_path, script, "--prefix", types.key(""), "--grace", "100ms") as service:
        service.says("start ")
        service.says("\n")
        pid = int(service.out.read_text().split()[1])
        assert service.end() == 128 + signal.SIGKILL
        assert "sh did not end within 100 ms: it is killed" in service.err.read_text()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_run_on_a_terminal(types):
    """The command has the terminal: it reads, ctrl-z stops both, ctrl-c is the command's."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(KVCTL, [KVCTL, "-e", types.cluster.endpoints(), "run", "--prefix", types.key(""), "--", "cat"])
    seen = b""

    def shows(text):
        nonlocal seen
        while text not in seen:
            assert select.select([terminal], [], [], PATIENCE_S)[0], (text, seen)
            seen += os.read(terminal, 4096)
        seen = b""

    try:
        shows(b"no keys below --prefix yet")
        for text in (b"first", b"second"):
            os.write(terminal, text + b"\n")
            shows(text + b"\r\n" + text + b"\r\n")
            os.write(terminal, b"\x1a")
            _, status = os.waitpid(pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            os.kill(pid, signal.SIGCONT)
        os.write(terminal, b"third\n")
        shows(b"third\r\nthird\r\n")
        os.write(terminal, b"\x03")
        shows(b"^C")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.WEXITSTATUS(status) == 128 + signal.SIGINT


def test_run_restart_on_exit(types, tmp_path):
    script = "echo start >>$OUT; exit 3"
    with Service(types.cluster.endpoints(), tmp_path, script, "--prefix", types.key(""), "--restart-on-exit") as service:
        service.says("start\nstart\nstart\n")
        service.complains("sh ended with 3: started again in 500 ms")
        service.complains("sh ended with 3: started again in 1000 ms")
        # In the pause it has nobody to pass the signal to.
        service.complains("2000 ms")
        assert service.end() == 128 + signal.SIGTERM


def test_run_with_cache(types, tmp_path):
    prefix = types.key("")
    cache = tmp_path / "cache.json"
    types.ctl("put", f"{prefix}x", "kept\n")
    types.call(put=kv.Put(key=f"{prefix}y".encode(), value=b"\xff"))
    show = ["--", "sh", "-c", "echo \"$X,$Y\" | base64"]
    expected = base64.b64encode(b"kept\n,\xff\n").decode() + "\n"
    assert service(types, "--cache", cache, *show)[:2] == (0, expected)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    # The cluster is away: with the cache, without, and with a damaged one.
    code, output, errors = ctl(NOWHERE, "run", "--prefix", prefix, "--cache", cache, *show)
    assert (code, output) == (0, expected)
    assert "the cluster is away" in errors and f"starting with the configuration that {cache} kept" in errors
    code, output, errors = ctl(NOWHERE, "run", "--prefix", prefix, *show)
    assert (code, output) == (3, "") and "--cache FILE" in errors
    code, output, errors = ctl(NOWHERE, "run", "--prefix", prefix, "--cache", tmp_path / "none", *show)
    assert (code, output) == (3, "") and "there is no cache either" in errors
    cache.write_text(cache.read_text()[:-5])
    code, output, errors = ctl(NOWHERE, "run", "--prefix", prefix, "--cache", cache, *show)
    assert (code, output) == (3, "") and f"{cache} line " in errors
    # One that cannot be written is told, and the command runs.
    code, output, errors = service(types, "--cache", tmp_path / "no" / "cache", *show)
    assert (code, output) == (0, expected) and "the cache is not kept" in errors
    assert not list(tmp_path.glob(".*"))


def test_one_revision(types, tmp_path):
    """Two keys that always hold the same are the same in whatever is made of them, though somebody writes all the time."""
    keys = [types.key("a").encode(), types.key("z").encode()]
    writer = types.cluster.leader().client()
    stop = threading.Event()

    def put_both(number):
        text = str(number).encode()
        writer.call(txn=kv.Txn(then=[kv.Request(put=kv.Put(key=key, value=text)) for key in keys]))

    def write():
        number = 1
        while not stop.is_set():
            put_both(number)
            number += 1

    put_both(0)
    (tmp_path / "t").write_text("".join(f"{{{{ key \"{key.decode()}\" }}}} " for key in keys))
    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    try:
        for _ in range(10):
            first, last = run(types, "render", tmp_path / "t", "-")[1].split()
            document = json.loads(run(types, "export", types.key(""), "--format", "json")[1])
            variables = service(types, "--prefix", keys[1].decode()[:-1], "--", "sh", "-c", "echo $A $Z")[1].split()
            assert first == last and len(set(document.values())) == 1 and variables[0] == variables[1]
            seen.add(first)
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert len(seen) > 1
