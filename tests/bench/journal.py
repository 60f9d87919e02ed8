"""How many rows the journal takes in per second. The rows are written by ``journal_rows`` in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.contest import say
from tests.bench.journal_rows import PAGE
from tests.bench.measure import Usage, clean_environment, run
from tests.bench.report import Section, Target, Verdict, megabytes, number

PAGES = (PAGE, PAGE // 10, PAGE // 100)
"""Files in a directory: what packing saves depends on how many lie together."""


def journal(scale: float) -> Section:
    """A million rows."""
    rows = _thousands(1_000_000 * scale)
    lines, usage = _rows("whole", rows)
    section = Section(f"Journal, {rows:,} files", ("", "rows/s", "CPU us/row"))
    for line in lines:
        section.rows.append((line["what"], number(line["rows_per_second"]), number(line["cpu_us_per_row"])))
    section.notes.append(
        f"Peak RSS {megabytes(usage.peak_rss)} MB, the pages that are written held as objects included. "
        "Each `done` is durable (synchronous=FULL) before its caller goes on."
    )
    return section


def growth(scale: float, rounds: int) -> Section:
    """What a file costs where 10,000,000 are known, beside 100,000: medians of the few, one run of the many."""
    few, many = (_thousands(count * scale) for count in (100_000, 10_000_000))
    section = Section(
        "What a file costs the journal, by how many it holds",
        ("files in the journal", "listed/s", "done/s", "CPU us/file listed", "CPU us/file done", "peak RSS MB"),
    )
    costs: dict[int, float] = {}
    for rows, turns in ((few, rounds), (many, 1)):
        runs = [_rows("last", rows) for _ in range(turns)]
        listed, done = ([lines[at] for lines, _ in runs] for at in (0, 1))
        rates = [median(line["rows_per_second"] for line in lines) for lines in (listed, done)]
        cpu = [median(line["cpu_us_per_row"] for line in lines) for lines in (listed, done)]
        costs[rows] = sum(cpu)
        peak = max(usage.peak_rss for _, usage in runs)
        section.rows.append((f"{rows:,}", *map(number, (*rates, *cpu)), megabytes(peak)))
    ratio = costs[many] / costs[few]
    section.verdicts.append(Verdict(f"CPU per file at {many:,} rows over {few:,}", ratio, Target(1.15)))
    section.notes.append("Measured on the last 100,000 files listed, and 100,000 done after that.")
    return section


def packed(scale: float) -> Section:
    """What files of real-looking names and checksums take at rest, beside rows, by how many a directory has."""
    rows = _thousands(200_000 * scale)
    section = Section(
        f"Journal, {rows:,} finished files as rows and packed",
        (
            "files in a directory",
            "",
            "bytes/file",
            "CPU us/file of an unchanged page",
            "CPU us/path looked up",
            "CPU us/file exported",
        ),
    )
    for page in PAGES:
        (as_rows, as_packs, packing), _ = _rows("packed", rows, page)
        for line in (as_rows, as_packs):
            figures = (line[key] for key in ("bytes_per_file", "us_per_listed", "us_per_look_up", "us_per_exported"))
            section.rows.append((f"{page:,}", line["what"], *map(number, figures)))
        if page == PAGE:
            section.verdicts.append(Verdict("bytes of a packed file", as_packs["bytes_per_file"], Target(60)))
            ratio = as_packs["us_per_listed"] / as_rows["us_per_listed"]
            section.verdicts.append(Verdict("CPU of an unchanged page, packed over rows", ratio, Target(1.25)))
            section.notes.append(
                f"The promises are for {PAGE:,} files in a directory. There they are packed at "
                f"{number(packing['files_per_second'])} files/s, {number(packing['cpu_us_per_file'])} us of CPU each; "
                f"the longest of the steps took {number(packing['most_ms'])} ms of CPU. Bytes are those of all used "
                "pages of the file, directories included. Of each file 36 bytes are random (both checksums, the "
                "ETag), and 8 more of its length and times."
            )
    return section


def _rows(what: str, rows: int, page: int = PAGE) -> tuple[list[dict[str, Any]], Usage]:
    say(f"journal of {rows:,} rows, {page:,} in a directory ...")
    with tempfile.TemporaryDirectory(prefix="asynccopy-bench-") as directory:
        command = [sys.executable, "-m", "tests.bench.journal_rows", what, str(rows), directory, str(page)]
        usage = run(command, clean_environment({}), Path(directory) / "journal.log", keep_output=True)
    lines: list[dict[str, Any]] = json.loads(usage.output)
    return lines, usage


def _thousands(rows: float) -> int:
    return max(1000, round(rows) // 1000 * 1000)
