"""The checkers of histories can complain: each kind of bad history is found, a good one passes."""

import recorder
from kvcluster import kv
from history import Read, Register, Write, violations

INF = float("inf")


def test_a_good_history_passes():
    register = Register([Write(1, 0, 1, True), Write(2, 2, 5, True), Write(3, 6, INF, False)],
                        [Read(1, 1.5, 1.8), Read(1, 2.5, 3), Read(2, 3.5, 4), Read(2, 7, 8), Read(3, 8.5, 9)])
    assert violations(register) == []


def test_a_lost_write_is_found():
    assert "lost" in violations(Register([Write(1, 0, 1, True), Write(2, 2, 3, True)], [Read(1, 4, 5)]))[0]


def test_an_invented_value_is_found():
    assert "invented" in violations(Register([Write(1, 0, 1, True)], [Read(2, 2, 3)]))[0]


def test_a_value_of_the_future_is_found():
    assert "invented" in violations(Register([Write(1, 0, 1, True), Write(2, 5, 6, True)], [Read(2, 2, 3)]))[0]


def test_reads_that_run_back_are_found():
    register = Register([Write(1, 0, 1, True), Write(2, 2, INF, False)], [Read(2, 3, 4), Read(1, 5, 6)])
    assert "backwards" in violations(register)[0]


def test_overlapping_reads_may_differ():
    register = Register([Write(1, 0, 1, True), Write(2, 2, INF, False)], [Read(2, 3, 6), Read(1, 4, 7)])
    assert violations(register) == []


def put(begin, end, value, revision, version, code=kv.OK):
    request = kv.Request(put=kv.Put(key=b"k", value=value))
    reply = kv.Reply(code=code, revision=revision, put=kv.PutResult(version=version))
    return recorder.record(1, 1, begin, end, request, reply)


def get(begin, end, value, revision, mod_revision, version):
    pair = kv.KeyValue(key=b"k", value=value, create_revision=2, mod_revision=mod_revision, version=version)
    reply = kv.Reply(revision=revision, get=kv.GetResult(kv=pair))
    return recorder.record(2, 2, begin, end, kv.Request(get=kv.Get(key=b"k")), reply)


WRITES = [put(0, 10, b"one", 2, 1), put(20, 30, b"two", 3, 2)]


def test_a_recorded_history_passes(tmp_path):
    open_write = put(5, None, b"never told", 0, 0)
    for operations in ([], WRITES, WRITES + [get(40, 50, b"two", 3, 3, 2), get(15, 25, b"one", 2, 2, 1), open_write],
                       WRITES + [get(30, 40, b"one", 2, 2, 1)],  # begun when the other ended: they overlap
                       WRITES + [open_write, get(40, 50, b"never told", 4, 4, 3)]):
        code, text = recorder.check(operations, tmp_path / "history")
        assert code == recorder.GOOD and text.startswith("good"), text


def test_bad_recorded_histories_are_found(tmp_path):
    refused = put(0, 10, b"refused", 0, 0, kv.BUSY)
    for read in (get(40, 50, b"one", 2, 2, 1), get(40, 50, b"two", 4, 4, 3), get(11, 19, b"two", 3, 3, 2),
                 get(40, 50, b"refused", 4, 4, 3)):
        code, text = recorder.check(WRITES + [refused, read], tmp_path / "history")
        assert code == recorder.BAD and 'key "k": not linearizable' in text, text


def test_what_is_no_history_is_refused(tmp_path):
    for line in ({"client": 1}, dict(WRITES[0], request="00f"), dict(WRITES[0], reply="xy"), [1]):
        code, text = recorder.check([line], tmp_path / "history")
        assert code == recorder.UNREADABLE, text
    assert recorder.subprocess.run([recorder.CHECK_HISTORY, tmp_path / "none"], capture_output=True).returncode == 2
