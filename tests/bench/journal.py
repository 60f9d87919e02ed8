"""How many rows the journal takes in per second. The rows are written by ``journal_rows`` in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.bench.contest import say
from tests.bench.measure import clean_environment, run
from tests.bench.report import Section, megabytes, number


def journal(scale: float) -> Section:
    """A million rows."""
    rows = max(1000, round(1_000_000 * scale) // 1000 * 1000)
    say(f"journal of {rows:,} rows ...")
    with tempfile.TemporaryDirectory(prefix="asynccopy-bench-") as directory:
        command = [sys.executable, "-m", "tests.bench.journal_rows", str(rows), directory]
        usage = run(command, clean_environment({}), Path(directory) / "journal.log", keep_output=True)
    section = Section(f"Journal, {rows:,} files", ("", "rows/s", "CPU us/row"))
    for line in json.loads(usage.output):
        section.rows.append((line["what"], number(line["rows_per_second"]), number(line["cpu_us_per_row"])))
    section.notes.append(
        f"Peak RSS {megabytes(usage.peak_rss)} MB, the pages that are written held as objects included. "
        "Each `done` is durable (synchronous=FULL) before its caller goes on."
    )
    return section
