"""The checker of histories can complain: each kind of bad history is found, a good one passes."""

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
