"""Locks and elections: mutual exclusion among processes, fairness, fencing of who was paused, what crashes leave."""

import json
import signal
import subprocess
import threading
import time

import pytest

from fakeserver import FakeServer
from kvcluster import HOST, KVCTL, PATIENCE_S, kv, wait_until
from kvctl_process import Staying, run
from kvd_process import Kvd
from player import Player


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory):
    with Kvd(tmp_path_factory.mktemp("data")) as server:
        endpoints = f"{HOST}:{server.client_port}"
        run(endpoints, "-t", "60s", "put", "first", "x")
        yield endpoints


def queue(endpoints, name):
    """Who holds it and who waits, in the order of the queue: letters of their kinds."""
    listed = json.loads(run(endpoints, "-o", "json", "range", "--prefix", f"{name}/"))["kvs"]
    return [pair["key"][len(name) + 1] for pair in sorted(listed, key=lambda pair: pair["create_revision"])
            if pair["key"] != f"{name}/other"]


def wait_queue(endpoints, name, kinds):
    wait_until(lambda: queue(endpoints, name) == list(kinds), f"queue {kinds}")


def test_command_runs_under_the_lock(endpoints):
    script = 'echo "$KV_FENCING_TOKEN $KV_LOCK_KEY $KV_LEASE_ID"; exit 7'
    output = run(endpoints, "lock", "simple", "--", "sh", "-c", script, code=7)
    token, key, lease = output.split()
    assert int(token) > 1 and key == f"simple/x-{int(lease):016x}"
    assert queue(endpoints, "simple") == []
    assert int(run(endpoints, "lock", "simple", "--", "sh", "-c", script, code=7).split()[0]) > int(token)
    run(endpoints, "lock", "simple", "--", "/no/such/command", code=127)
    assert run(endpoints, "lock", "simple", "--", "sh", "-c", "kill -9 $$", code=137) == ""
    assert queue(endpoints, "simple") == []


def test_mutual_exclusion(endpoints, tmp_path):
    """Six processes, ten times each; mkdir fails for the second of two at a time."""
    script = (f"mkdir {tmp_path}/inside || echo overlap; kvctl -e {endpoints} incr entries > /dev/null; "
              f"echo $KV_FENCING_TOKEN >> {tmp_path}/tokens; rmdir {tmp_path}/inside").replace("kvctl", KVCTL)
    loop = f"for i in 1 2 3 4 5 6 7 8 9 10; do {KVCTL} -e {endpoints} lock mutex -- sh -c '{script}' || exit 1; done"
    loops = [subprocess.Popen(["sh", "-c", loop], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) for _ in range(6)]
    for process in loops:
        output, _ = process.communicate(timeout=4 * PATIENCE_S)
        assert process.returncode == 0 and output == ""
    tokens = [int(line) for line in (tmp_path / "tokens").read_text().split()]
    assert len(tokens) == 60 and tokens == sorted(set(tokens))
    assert run(endpoints, "counter", "entries") == "60\n"


def test_waiters_are_served_in_order(endpoints, tmp_path):
    with Staying(endpoints, tmp_path, "lock", "fair") as holder:
        holder.wait_lines(1)
        waiters = []
        for i in range(4):
            script = f"echo {i} >> {tmp_path}/order"
            waiters.append(Staying(endpoints, tmp_path, "lock", "fair", "--timeout", "12h", "--", "sh", "-c", script))
            wait_queue(endpoints, "fair", "x" * (i + 2))
        assert not (tmp_path / "order").exists()
        assert holder.end() == 130
        assert [waiter.wait() for waiter in waiters] == [0] * 4
    assert (tmp_path / "order").read_text() == "0\n1\n2\n3\n"


def test_one_in_the_middle_gives_up(endpoints, tmp_path):
    """Who waited for it must not take its end for a turn."""
    with Staying(endpoints, tmp_path, "lock", "middle") as holder, \
            Staying(endpoints, tmp_path, "lock", "middle") as second:
        wait_queue(endpoints, "middle", "xx")
        wait_until(lambda: holder.lines() or second.lines(), "one of them has it")
        first, second = (holder, second) if holder.lines() else (second, holder)
        with Staying(endpoints, tmp_path, "lock", "middle") as third:
            wait_queue(endpoints, "middle", "xxx")
            assert second.end(signal.SIGTERM) == 143
            wait_queue(endpoints, "middle", "xx")
            assert third.lines() == []
            first.end()
            third.wait_lines(1)


def test_try_and_timeout(endpoints, tmp_path):
    with Staying(endpoints, tmp_path, "lock", "busy") as holder:
        holder.wait_lines(1)
        run(endpoints, "lock", "busy", "--try", "--", "true", code=2)
        run(endpoints, "lock", "busy", "--timeout", "200ms", "--", "true", code=2)
        assert queue(endpoints, "busy") == ["x"]
    # Killed: its lease ends it.
    assert run(endpoints, "lock", "busy", "--timeout", "60s", "--", "echo", "mine") == "mine\n"


def test_ctrl_c_while_others_come_and_go(endpoints, tmp_path):
    """The waiter is woken by each of them, and hears the signal all the same."""
    lines = tmp_path / "lines"
    lines.write_text("put crowd/other x\ndel crowd/other\n" * 100000)
    words = ("lock", "crowd", "--permits", "1")
    with Staying(endpoints, tmp_path, *words) as holder, open(lines) as stdin:
        holder.wait_lines(1)
        others = subprocess.Popen([KVCTL, "-e", endpoints, "shell"], stdin=stdin, stdout=subprocess.DEVNULL)
        try:
            with Staying(endpoints, tmp_path, *words) as waiter:
                wait_queue(endpoints, "crowd", "ss")
                assert waiter.end() == 130
            assert others.poll() is None
        finally:
            others.kill()
            others.wait()


def test_timeout_while_the_cluster_is_away(tmp_path):
    """It also bounds the requests that come before the waiting: five seconds each otherwise."""
    with Kvd(tmp_path) as server:
        endpoints = f"{HOST}:{server.client_port}"
        run(endpoints, "-t", "60s", "put", "first", "x")
        server.process.kill()
        from_s = time.monotonic()
        result = subprocess.run([KVCTL, "-e", endpoints, "lock", "n", "--timeout", "200ms", "--", "true"],
                                capture_output=True, text=True, timeout=PATIENCE_S)
        assert result.returncode in (2, 3) and result.stderr, result
        assert time.monotonic() - from_s < 4


@pytest.mark.parametrize("unclear", ["lease_grant", "put"])
def test_timeout_while_the_lease_or_the_place_is_asked_for(unclear):
    """It is the timeout that is told, not that the outcome of the request is unknown."""
    def answer(request):
        if request.WhichOneof("command") == unclear:
            return kv.Reply(code=kv.OUTCOME_UNKNOWN, message="who knows")
        return kv.Reply(lease_grant=kv.LeaseResult(lease_id=7, ttl_ms=10000))

    with FakeServer(answer) as server:
        result = subprocess.run([KVCTL, "-e", f"{HOST}:{server.port}", "lock", "n", "--timeout", "200ms", "--", "true"],
                                capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 2 and "not its turn in time: " in result.stderr and "who knows" in result.stderr, result


def test_ctrl_c_while_the_cluster_is_away(tmp_path):
    """Neither who holds it nor who waits stays for the five seconds of a call; both say what is left behind."""
    with Kvd(tmp_path) as server:
        endpoints = f"{HOST}:{server.client_port}"
        run(endpoints, "-t", "60s", "put", "first", "x")
        with Staying(endpoints, tmp_path, "lock", "n", "--ttl", "60s") as holder:
            holder.wait_lines(1)
            with Staying(endpoints, tmp_path, "lock", "n", "--ttl", "60s") as waiter:
                wait_queue(endpoints, "n", "xx")
                server.process.send_signal(signal.SIGSTOP)
                try:
                    for staying, said in ((holder, "others have their turn when the lease ends, in 60000 ms at most"),
                                          (waiter, "is free when its lease has ended, in 60000 ms at most")):
                        from_s = time.monotonic()
                        assert staying.end() == 130
                        assert time.monotonic() - from_s < 4
                        assert said in staying.errors()
                finally:
                    server.process.send_signal(signal.SIGCONT)
        # While it is there nothing is left, and nothing is said.
        wait_queue(endpoints, "n", "xx")
        with Staying(endpoints, tmp_path, "lock", "m") as holder:
            holder.wait_lines(1)
            assert holder.end() == 130 and holder.errors() == ""
        wait_queue(endpoints, "m", "")


def test_ctrl_c_while_it_is_given_up(tmp_path):
    """Who is stopped leaves the cluster half a second: others would wait until the lease ends."""
    revoked = threading.Event()
    state = {}

    def answer(request):
        command = request.WhichOneof("command")
        if command == "put":
            state["key"] = request.put.key
        if command == "lease_revoke":
            revoked.set()
            return None
        return {"lease_grant": kv.Reply(lease_grant=kv.LeaseResult(lease_id=7, ttl_ms=10000)),
                "put": kv.Reply(revision=5, put=kv.PutResult()),
                "range": kv.Reply(revision=5, range=kv.RangeResult(revision=5, kvs=[
                    kv.KeyValue(key=state.get("key", b""), create_revision=5)]))}.get(command)

    with FakeServer(answer) as server, Staying(f"{HOST}:{server.port}", tmp_path, "lock", "n", "--", "true") as holder:
        assert revoked.wait(PATIENCE_S)
        from_s = time.monotonic()
        holder.end()
        assert 0.45 < time.monotonic() - from_s < 4


def test_ctrl_c_of_an_observer_while_the_cluster_is_away(tmp_path):
    with Kvd(tmp_path) as server:
        endpoints = f"{HOST}:{server.client_port}"
        run(endpoints, "-t", "60s", "put", "first", "x")
        with Staying(endpoints, tmp_path, "elect", "n", "--observe") as observer:
            observer.wait_lines(1)
            server.process.send_signal(signal.SIGSTOP)
            try:
                from_s = time.monotonic()
                assert observer.end() == 130
                assert time.monotonic() - from_s < 4
            finally:
                server.process.send_signal(signal.SIGCONT)


def test_readers_and_writers(endpoints, tmp_path):
    with Staying(endpoints, tmp_path, "lock", "rw", "--shared") as reader1, \
            Staying(endpoints, tmp_path, "lock", "rw", "--shared") as reader2:
        reader1.wait_lines(1)
        reader2.wait_lines(1)
        with Staying(endpoints, tmp_path, "lock", "rw") as writer:
            wait_queue(endpoints, "rw", "rrx")
            # Behind a writer who waits: writers are not starved.
            with Staying(endpoints, tmp_path, "lock", "rw", "--shared") as reader3:
                wait_queue(endpoints, "rw", "rrxr")
                reader2.end()
                wait_queue(endpoints, "rw", "rxr")
                assert writer.lines() == [] and reader3.lines() == []
                reader1.end()
                writer.wait_lines(1)
                assert reader3.lines() == []
                writer.end()
                reader3.wait_lines(1)


def test_semaphore(endpoints, tmp_path):
    words = ("lock", "sem", "--permits", "2")
    with Staying(endpoints, tmp_path, *words) as one, Staying(endpoints, tmp_path, *words) as two:
        one.wait_lines(1)
        two.wait_lines(1)
        run(endpoints, *words, "--try", "--", "true", code=2)
        with Staying(endpoints, tmp_path, *words) as three:
            wait_queue(endpoints, "sem", "sss")
            assert three.lines() == []
            two.end()
            three.wait_lines(1)
            assert queue(endpoints, "sem") == ["s", "s"]


WRONG = {
    "lock": "usage: kvctl lock",
    "lock n --shared --permits 2": "one of --shared and --permits",
    "lock n --try -t 5s": "one of --try and --timeout",
    "elect n": "elect wants NAME VALUE",
    "elect n v --observe": "elect wants NAME VALUE",
    "elect n v --count 2": "--count goes with --observe",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words(endpoints, words):
    result = subprocess.run([KVCTL, "-e", endpoints, *words.split()], capture_output=True, text=True, timeout=PATIENCE_S)
    assert result.returncode == 1 and WRONG[words] in result.stderr


def test_bad_numbers(endpoints):
    for words, message in ((("lock", "n", "--permits", "0"), "1 to 4096 permits"),
                           (("lock", "n", "--permits", "5000"), "1 to 4096 permits"),
                           (("lock", "n" * 4078), "1 to 4077 bytes"),
                           (("lock", "n", "--ttl", "3650d"), "OUT_OF_BOUNDS")):
        result = subprocess.run([KVCTL, "-e", endpoints, *words], capture_output=True, text=True, timeout=PATIENCE_S)
        assert result.returncode == 4 and message in result.stderr, result.stderr


# ---------------------------------------------------------------- the lock is lost

def test_fencing_of_a_paused_holder(endpoints):
    with Player(endpoints) as paused, Player(endpoints) as other:
        token = int(paused.ask("lock", "fence", 1000).split()[1])
        assert paused.ask("put", "fenced", "before") == "written"
        paused.process.send_signal(signal.SIGSTOP)
        later = int(other.ask("lock", "fence", 1000).split()[1])
        assert later > token
        assert other.ask("put", "fenced", "other") == "written"
        paused.process.send_signal(signal.SIGCONT)
        # It does not know, or only now: the compare does.
        assert paused.ask("put", "fenced", "late") == "refused"
        assert paused.ask("state") != "held"
        assert run(endpoints, "get", "fenced") == "other\n"
        assert other.ask("state") == "held"


def test_token_in_a_transaction_of_kvctl(endpoints):
    script = ('printf "if created %s = %s\\nthen\\nput guarded yes\\n" $KV_LOCK_KEY $KV_FENCING_TOKEN | '
              f"{KVCTL} -e {endpoints} txn > /dev/null && echo $KV_LOCK_KEY $KV_FENCING_TOKEN")
    key, token = run(endpoints, "lock", "fence2", "--", "sh", "-c", script).split()
    assert run(endpoints, "get", "guarded") == "yes\n"
    run(endpoints, "txn", stdin=f"if created {key} = {token}\nthen\nput guarded late\n", code=2)


def test_command_of_a_paused_holder_is_ended(endpoints, tmp_path):
    # It ignores TERM.
    script = 'trap "" TERM; echo up; exec sleep 1000'
    with Staying(endpoints, tmp_path, "lock", "paused", "--ttl", "1s", "--", "sh", "-c", script) as holder:
        holder.wait_lines(1)
        holder.process.send_signal(signal.SIGSTOP)
        assert run(endpoints, "lock", "paused", "-t", "60s", "--", "echo", "mine") == "mine\n"
        holder.process.send_signal(signal.SIGCONT)
        assert holder.wait() == 3
        assert "the command is ended" in holder.errors() and "it is killed" in holder.errors()


def test_command_is_ended_when_the_cluster_is_away(tmp_path):
    with Kvd(tmp_path) as server:
        endpoints = f"{HOST}:{server.client_port}"
        run(endpoints, "-t", "60s", "put", "first", "x")
        script = 'trap "echo ended; exit 5" TERM; echo up; sleep 1000 & wait'
        with Staying(endpoints, tmp_path, "lock", "away", "--ttl", "1s", "--", "sh", "-c", script) as holder:
            holder.wait_lines(1)
            server.process.kill()
            assert holder.wait() == 3
            assert holder.lines() == ["up", "ended"] and "in doubt" in holder.errors()


def test_signals_are_passed_on(endpoints, tmp_path):
    script = 'trap "echo bye; exit 9" TERM; echo up; sleep 1000 & wait'
    with Staying(endpoints, tmp_path, "lock", "signals", "--", "sh", "-c", script) as holder:
        holder.wait_lines(1)
        assert holder.end(signal.SIGTERM) == 9
        assert holder.lines() == ["up", "bye"]
    assert queue(endpoints, "signals") == []


def test_command_of_a_killed_holder_is_told(endpoints, tmp_path):
    script = 'trap "echo bye; exit" TERM; echo up; while :; do sleep 0.05; done'
    with Staying(endpoints, tmp_path, "lock", "killed", "--ttl", "1s", "--", "sh", "-c", script) as holder:
        holder.wait_lines(1)
        holder.process.kill()
        holder.wait()
        assert holder.wait_lines(2) == ["up", "bye"]


# ---------------------------------------------------------------- elections, barriers

def test_election(endpoints, tmp_path):
    with Staying(endpoints, tmp_path, "elect", "boss", "--observe", "--json") as observer:
        assert json.loads(observer.wait_lines(1)[0])["leader"] is None
        with Player(endpoints) as first, Staying(endpoints, tmp_path, "elect", "boss", "two") as second:
            # Whoever is first.
            wait_until(lambda: queue(endpoints, "boss") == ["x"], "two is a candidate")
            second.wait_lines(1)
            first.say("campaign", "boss", "one")
            wait_queue(endpoints, "boss", "xx")
            leader = json.loads(observer.wait_lines(2)[1])["leader"]
            assert leader["value"] == "two" and second.lines() == [f"two\t{leader['token']}"]
            assert not first.has_answered()
            assert second.end() == 130
            token = int(first.answer().split()[1])
            assert token > leader["token"]
            assert json.loads(observer.wait_lines(3)[2])["leader"]["value"] == "one"
            assert first.ask("proclaim", "one-at-8080") == "proclaimed"
            after = json.loads(observer.wait_lines(4)[3])["leader"]
            assert after["value"] == "one-at-8080" and after["token"] == token
            assert run(endpoints, "elect", "boss", "--observe", "--count", "1") == f"one-at-8080\t{token}\n"
            run(endpoints, "del", "--prefix", "boss/")
            assert first.ask("proclaim", "late") == "CONDITION_FAILED"
            assert json.loads(observer.wait_lines(5)[4])["leader"] is None
        assert observer.end() == 130


def test_elected_command(endpoints):
    assert run(endpoints, "elect", "worker", "host-a", "--", "sh", "-c", "echo leads; exit 4", code=4) == "leads\n"


def test_barrier(endpoints):
    with Player(endpoints) as a, Player(endpoints) as b, Player(endpoints) as c:
        for _ in range(3):
            a.say("enter", "gate", 3)
            b.say("enter", "gate", 3)
            wait_queue(endpoints, "gate", "bb")
            assert not a.has_answered() and not b.has_answered()
            c.say("enter", "gate", 3)
            assert [player.answer() for player in (a, b, c)] == ["in"] * 3
            a.say("leave")
            # Until all have left.
            wait_until(lambda: queue(endpoints, "gate").count("b") == 2, "a has left")
            assert not a.has_answered()
            b.say("leave")
            c.say("leave")
            assert [player.answer() for player in (a, b, c)] == ["out"] * 3
            assert queue(endpoints, "gate") == []


def test_barrier_with_one_that_crashes(endpoints):
    with Player(endpoints) as a, Player(endpoints) as b:
        a.say("enter", "gate2", 2)
        assert b.ask("enter", "gate2", 2) == "in" and a.answer() == "in"
        b.kill()
        # Its lease ends.
        assert a.ask("leave") == "out"
        assert queue(endpoints, "gate2") == []
