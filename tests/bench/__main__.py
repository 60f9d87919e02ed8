"""``python -m tests.bench``: what a copy costs, beside what was promised and what other programs take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from testbed import fetch
from testbed.process import ServerFailed
from tests.bench import concurrency, digests, memory, real, stubs, watching
from tests.bench.journal import growth, journal, packed
from tests.bench.measure import BenchFailed, own_peak_rss
from tests.bench.report import Section, describe, megabytes, write
from tests.bench.throttle import throttle

SCENARIOS = ("small", "big", "stub-small", "stub-big", "steering", "workers", "memory", "journal", "digests", "watch")
LONG = ("endurance", "growth")
"""A million files, ten million rows: only where they are asked for."""
PATIENT = ("throttle",)
"""Minutes of waiting for a store: only where it is asked for."""
STUBBED = {"stub-small", "stub-big", "steering", "workers", "memory", "endurance"}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when every promise is kept, 1 when one is missed or something failed, 2 when nothing could be run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = f"of {', '.join(SCENARIOS)} (default: all of these), {', '.join((*LONG, *PATIENT))}"
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=names)
    parser.add_argument(
        "--rounds", type=int, default=5, help="of all but memory, journal and watch; medians (default: 5)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="this much of the data, for a quick look (default: 1)")
    parser.add_argument(
        "--million",
        action="store_true",
        help=f"also {' and '.join(LONG)}; list a million directories, watch a million files",
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the markers of this page")
    options = parser.parse_args(argv)
    wanted = options.scenarios or [*SCENARIOS, *(LONG if options.million else ())]
    if unknown := set(wanted) - {*SCENARIOS, *LONG, *PATIENT}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if options.rounds < 1 or options.scale <= 0:
        parser.error("--rounds and --scale must be positive")
    try:
        sections = _measure(wanted, options.rounds, options.scale, million=options.million)
    except (BenchFailed, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    text = _page(wanted, options, sections)
    print(text)
    if options.write is not None:
        write(options.write, text)
    missed = sum(not verdict.kept for section in sections for verdict in section.verdicts)
    return 1 if missed else 0


def _measure(wanted: Sequence[str], rounds: int, scale: float, *, million: bool) -> list[Section]:
    sections: list[Section] = []
    if "small" in wanted or "big" in wanted:
        with real.stage() as stage:
            if "small" in wanted:
                sections.append(real.small(stage, rounds, scale))
            if "big" in wanted:
                sections.append(real.big(stage, rounds, scale))
    if STUBBED & set(wanted) and (reasons := fetch.missing(fetch.STUB)):
        raise BenchFailed("; ".join(reasons))
    if "stub-small" in wanted:
        sections.append(stubs.small(rounds, scale))
    if "stub-big" in wanted:
        sections.append(stubs.big(rounds, scale))
    if "steering" in wanted:
        sections.append(concurrency.steering(rounds, scale))
    if "workers" in wanted:
        sections.append(concurrency.workers(rounds, scale))
    if "memory" in wanted:
        sections.append(memory.copying(scale))
        sections.append(memory.ranges(scale))
        sections.append(memory.listing(scale, million=million))
    if "endurance" in wanted:
        sections.append(memory.endurance(scale))
    if "journal" in wanted:
        sections += [journal(scale), packed(scale)]
    if "growth" in wanted:
        sections.append(growth(scale, rounds))
    if "digests" in wanted:
        sections.append(digests.cost(scale))
    if "watch" in wanted:
        sections.append(watching.watch(scale, million=million))
    if "throttle" in wanted:
        sections += throttle(scale)
    return sections


def _page(wanted: Sequence[str], options: argparse.Namespace, sections: Sequence[Section]) -> str:
    command = f"python -m tests.bench {' '.join(wanted)} --rounds {options.rounds} --scale {options.scale:g}"
    lines = [f"`{command}{' --million' if options.million else ''}`", "", *describe(real.VERSIONS)]
    lines.append(f"- The measuring process itself peaked at {megabytes(own_peak_rss())} MB.")
    return "\n".join([*lines, "", *(section.markdown() for section in sections)])


if __name__ == "__main__":
    sys.exit(main())
