"""Figures, their targets, and the page they are written into. Pure but for ``describe`` and ``write``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sqlite3
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from asynccopy.transfer.crc import IMPLEMENTATION

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
LIBRARIES = ("asynccopy", "uvloop", "msgspec", "fastcrc", "aiobotocore")


@dataclass(frozen=True)
class Target:
    """A promise about one number: at most, or at least."""

    limit: float
    unit: str = ""
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}{self.unit}"


@dataclass(frozen=True)
class Verdict:
    """One promise, what was measured, and whether it is kept. ``first``: the looser promise that was made before it."""

    what: str
    value: float
    target: Target
    first: Target | None = None

    @property
    def kept(self) -> bool:
        return self.target.met(self.value)


@dataclass
class Section:
    """One scenario: a table of figures, and the verdicts about them."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", *table(self.header, self.rows), ""]
        if self.verdicts:
            judged = [
                (
                    verdict.what,
                    number(verdict.value) + verdict.target.unit,
                    *mark(verdict.value, verdict.target),
                    *mark(verdict.value, verdict.first),
                )
                for verdict in self.verdicts
            ]
            lines += [*table(("promise", "measured", "target", "", "first target", ""), judged), ""]
        for note in self.notes:
            lines += [note, ""]
        return "\n".join(lines)


def mark(value: float, target: Target | None) -> tuple[str, str]:
    if target is None:
        return "", ""
    return str(target), "met" if target.met(value) else "**MISSED**"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(header), _line(["---"] * len(header)), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Three digits that count; whole numbers from a hundred on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def megabytes(size: float) -> str:
    return number(size / 1e6)


def describe(versions: Mapping[str, str]) -> list[str]:
    """The machine and the programs, one line each; ``versions`` are those of the servers."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    gibibytes = int(memory[1]) / (1 << 20) if memory else 0
    libraries = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    machine = (
        f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, {gibibytes:.0f} GiB, "
        f"Linux {platform.release()}, load when it ended {os.getloadavg()[1]:.1f} (5 min)"
    )
    python = f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}"
    return [
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}",
        f"- {python}, SQLite {sqlite3.sqlite_version}, {libraries}, CRCs in {IMPLEMENTATION}",
        "- " + ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run from its folder)"


def write(page: Path, text: str) -> None:
    """Replace what stands between the two markers. Raises ValueError for a page that lacks them."""
    old = page.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: lacks the markers {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}", encoding="utf-8")
