"""Histories of registers that have one writer each and hold rising numbers. For those linearizability is simple: a read gives
a number that was at least acknowledged before it began and at most attempted before it ended, and no read gives less
than one that ended before it began."""

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


def violations(register):
    """What is wrong with the history, in words; empty when nothing is."""
    found = []
    for read in register.reads:
        least = max((w.number for w in register.writes if w.acknowledged and w.ended < read.began), default=0)
        most = max((w.number for w in register.writes if w.began < read.ended), default=0)
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
