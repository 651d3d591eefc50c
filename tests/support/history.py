"""Histories of registers that have one writer each and hold rising numbers. For those linearizability is simple: a read gives
a number that was at least acknowledged before it began and at most attempted before it ended, and no read gives less
than one that ended before it began."""

import bisect
from dataclasses import dataclass, field


@dataclass
class Write:
    number: int
    began: float
    ended: float  # infinity: outcome never known
    acknowledged: bool


@dataclass
class Read:
    number: int
    began: float
    ended: float
    where: str = ""


@dataclass
class Register:
    writes: list = field(default_factory=list)
    reads: list = field(default_factory=list)


def highest_before(times_and_numbers):
    """A function that gives the highest number whose time is before another; 0 when there is none."""
    ordered = sorted(times_and_numbers)
    highest = [0]
    for _time, number in ordered:
        highest.append(max(highest[-1], number))
    times = [time for time, _number in ordered]
    return lambda time: highest[bisect.bisect_left(times, time)]


def violations(register):
    """What is wrong with the history, in words; empty when nothing is."""
    found = []
    acknowledged_before = highest_before((w.ended, w.number) for w in register.writes if w.acknowledged)
    attempted_before = highest_before((w.began, w.number) for w in register.writes)
    for read in register.reads:
        least = acknowledged_before(read.began)
        most = attempted_before(read.ended)
        if read.number < least:
            found.append(f"lost or stale: read {read} gives less than {least}, acknowledged before")
        if read.number > most:
            found.append(f"invented: read {read} gives more than {most}, the highest attempted")
    newest = 0
    events = sorted([(r.began, 1, r) for r in register.reads] + [(r.ended, 0, r) for r in register.reads],
                    key=lambda event: event[:2])
    for _time, is_begin, read in events:
        if is_begin:
            read.floor = newest
        else:
            if read.number < read.floor:
                found.append(f"backwards: read {read} gives less than {read.floor}, read before it began")
            newest = max(newest, read.number)
    return found
