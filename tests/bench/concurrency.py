"""The number of ranges in flight that is found by trying, beside numbers given; and two worker processes beside one."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench.contest import Contender, compete
from tests.bench.measure import Usage
from tests.bench.report import Section, Target, Verdict, megabytes, number
from tests.bench.stubs import KIB, MIB, Stubs, stubs

AUTO = "auto"


class Shape(NamedTuple):
    """A tree, the seconds before every answer of the source and of the sink, and the numbers to compare with."""

    name: str
    directories: int
    files: int
    size: int
    source_delay: float
    sink_delay: float
    given: tuple[int, ...]


SHAPES = (
    Shape("big files", 1, 24, 512 * MIB, 0.0, 0.0, (2, 8, 32, 128)),
    Shape("small files", 20, 1000, 64 * KIB, 0.0, 0.0, (4, 16, 64, 256)),
    Shape("small files, 50 ms of round trip", 20, 1500, 64 * KIB, 0.05, 0.05, (64, 128, 256, 512)),
    Shape("slow source", 20, 1500, 64 * KIB, 0.1, 0.0, (64, 128, 256, 512)),
    Shape("slow store", 20, 1500, 64 * KIB, 0.0, 0.2, (64, 128, 256, 512)),
)


def steering(rounds: int, scale: float) -> Section:
    """Nine tenths of the best number given, on every shape."""
    section = Section("Ranges in flight found by trying, between stubs", ("", "ranges: wall s", "of the best"))
    for shape in SHAPES:
        count = max(1, round(shape.files * scale))
        with stubs(
            shape.directories, count, shape.size, delay=shape.sink_delay, source_delay=shape.source_delay
        ) as pair:
            numbers = [AUTO, *map(str, shape.given)]
            contenders: dict[str, Contender] = {given: partial(_copy, pair, given) for given in numbers}
            figures = compete(shape.name, contenders, rounds, pair.arrived)
        best = min(figures[given].wall for given in numbers[1:])
        share = best / figures[AUTO].wall
        walls = ", ".join(f"{given}: {number(figures[given].wall)}" for given in numbers)
        section.rows.append((shape.name, walls, number(share)))
        section.verdicts.append(Verdict(f"{shape.name}: of the best's rate", share, Target(0.9, at_least=True)))
    return section


def workers(rounds: int, scale: float) -> Section:
    """Two worker processes on all cores, beside one process. Where the stubs need them too, that is part of it."""
    section = Section("Worker processes, between stubs", ("", "wall s", "files/s", "client CPU ms/file"))
    with stubs(20, max(1, round(1000 * scale)), 64 * KIB, pinned=False) as pair:
        contenders: dict[str, Contender] = {
            "one process": partial(_spread, pair, "1"),
            "two worker processes": partial(_spread, pair, "2"),
        }
        largest = [0]
        pair.asynccopy.watch = partial(_look_at_children, largest)
        figures = compete("workers", contenders, rounds, pair.arrived)
        for name, usage in figures.items():
            per_file = number(usage.cpu / pair.files * 1e3)
            section.rows.append((name, number(usage.wall), number(pair.files / usage.wall), per_file))
    one, two = figures.values()
    section.verdicts.append(
        Verdict("two workers: times as fast as one", one.wall / two.wall, Target(1.7, at_least=True))
    )
    section.notes.append(f"The largest worker process had {megabytes(largest[0])} MB.")
    return section


def _look_at_children(largest: list[int], pid: int) -> None:
    """Keep the highest resident size that a child of the process was seen with."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            status = Path(f"/proc/{child}/status").read_text()
            if (found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)) is not None:
                largest[0] = max(largest[0], int(found[1]) * KIB)
    except OSError:
        return  # it has ended


def _copy(pair: Stubs, given: str, prefix: str) -> Usage:
    return pair.copy(prefix, "--concurrency", given, "--processes", "1")


def _spread(pair: Stubs, processes: str, prefix: str) -> Usage:
    return pair.copy(prefix, "--processes", processes)
