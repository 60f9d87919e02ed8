"""Several programs, the same work, one after the other: who takes what."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping

from tests.bench.measure import Usage
from tests.bench.report import Section, Target, Verdict, megabytes, number

Contender = Callable[[str], Usage]
"""Copies the data below a key prefix."""
Judge = Callable[[str, bool], None]
"""Called with the prefix after every run, and whether it was the contender's first. Raises BenchFailed."""

RELAY = "copying limit: a relay without checksums"


def compete(name: str, contenders: Mapping[str, Contender], rounds: int, judge: Judge) -> dict[str, Usage]:
    """Every contender once per round, each time another first. Medians."""
    usages: dict[str, list[Usage]] = {contender: [] for contender in contenders}
    order = list(contenders)
    for turn in range(rounds):
        for contender in order[turn % len(order) :] + order[: turn % len(order)]:
            prefix = f"{name}-{turn}-{order.index(contender)}"
            usage = contenders[contender](prefix)
            seen = f"{usage.wall:.2f} s, {usage.cpu:.2f} CPU-s, {megabytes(usage.peak_rss)} MB"
            say(f"{name}, round {turn + 1}: {contender}: {seen}")
            usages[contender].append(usage)
            judge(prefix, turn == 0)
    return {contender: median(several) for contender, several in usages.items()}


def median(usages: list[Usage]) -> Usage:
    """Of each figure by itself."""
    return Usage(
        statistics.median(usage.wall for usage in usages),
        statistics.median(usage.cpu for usage in usages),
        round(statistics.median(usage.peak_rss for usage in usages)),
        {name: statistics.median(usage.servers[name] for usage in usages) for name in usages[0].servers},
    )


def per_file(title: str, figures: Mapping[str, Usage], files: int) -> Section:
    section = Section(title, ("", "wall s", "files/s", "client CPU ms/file", "peak RSS MB", _servers(figures)))
    for name, usage in figures.items():
        rates = number(files / usage.wall), number(usage.cpu / files * 1e3)
        section.rows.append((name, number(usage.wall), *rates, megabytes(usage.peak_rss), _used(usage)))
    return section


def per_gigabyte(title: str, figures: Mapping[str, Usage], gigabytes: float) -> Section:
    section = Section(title, ("", "wall s", "MB/s", "client CPU s/GB", "peak RSS MB", _servers(figures)))
    for name, usage in figures.items():
        rates = number(gigabytes * 1e3 / usage.wall), number(usage.cpu / gigabytes)
        section.rows.append((name, number(usage.wall), *rates, megabytes(usage.peak_rss), _used(usage)))
    return section


def against_relay(figures: Mapping[str, Usage], ours: str, relay: str = RELAY) -> Verdict:
    return Verdict("times the CPU of the copying limit", figures[ours].cpu / figures[relay].cpu, Target(1.5))


def _servers(figures: Mapping[str, Usage]) -> str:
    return f"CPU s of {', '.join(next(iter(figures.values())).servers)}"


def _used(usage: Usage) -> str:
    return ", ".join(number(seconds) for seconds in usage.servers.values())


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
