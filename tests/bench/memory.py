"""Memory and rates on trees too large for a small machine's HDFS, between stubs that compute them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

from testbed.process import cpu_seconds, memory
from tests.bench.contest import say
from tests.bench.measure import BenchFailed
from tests.bench.report import Section, Target, Verdict, megabytes, number
from tests.bench.stubs import BUCKET, KIB, MIB, Stubs, stubs

FLAT = 1.25
"""How many times the memory of 10,000 files a million may take and still be called flat."""
IN_FLIGHT = 1000
STEADY = 64
"""Ranges in flight where a copy is watched from its start to its end."""
DELAY = 1.0
"""Seconds for which the sink keeps an answer back, so that as many files as may be really are in flight."""


def copying(scale: float) -> Section:
    """Peak RSS with a thousand files in flight."""
    section = Section(
        f"Memory with 1,000 files in flight (a sink that answers after {DELAY:g} s)",
        ("", "wall s", "client CPU ms/file", "peak RSS MB"),
    )
    peaks: list[float] = []
    for directories in (10, 100):
        with stubs(max(1, round(directories * scale)), 1000, 64 * KIB, delay=DELAY) as pair:
            say(f"copying {pair.files:,} files ...")
            usage = pair.copy("copy", "--concurrency", str(IN_FLIGHT))
        peaks.append(usage.peak_rss)
        cpu = number(usage.cpu / pair.files * 1e3)
        section.rows.append((f"copy {pair.files:,} x 64 KiB", number(usage.wall), cpu, megabytes(usage.peak_rss)))
    section.verdicts.append(Verdict("highest peak RSS", max(peaks) / 1e6, Target(150, " MB"), Target(200, " MB")))
    return section


def ranges(scale: float) -> Section:
    """What one more range in flight takes."""
    section = Section("Memory of ranges in flight (stubs)", ("ranges in flight", "wall s", "MB/s", "peak RSS MB"))
    peaks: dict[int, int] = {}
    with stubs(1, max(200, round(1500 * scale)), 8 * MIB) as pair:
        for in_flight in (64, min(IN_FLIGHT, pair.files)):
            say(f"copying {pair.files:,} x 8 MiB, {in_flight} in flight ...")
            usage = pair.copy(f"ranges-{in_flight}", "--concurrency", str(in_flight))
            peaks[in_flight] = usage.peak_rss
            rate = number(pair.gigabytes * 1e3 / usage.wall)
            section.rows.append((f"{in_flight:,}", number(usage.wall), rate, megabytes(usage.peak_rss)))
    (few, least), (many, most) = peaks.items()
    each = (most - least) / (many - few) / MIB
    section.verdicts.append(Verdict("memory of one more range", each, Target(0.6, " MiB")))
    return section


def listing(scale: float, *, million: bool) -> Section:
    """Peak RSS and rate of listings: wide directories and many of them."""
    section = Section(
        "Listing (`--dry-run`, stubs, start-up included)",
        ("", "wall s", "entries/s", "client CPU us/entry", "peak RSS MB"),
    )
    wide = [(1, 10_000), (1, 100_000), (1, 1_000_000)]
    deep = [(10_000, 1), (100_000, 1)] + ([(1_000_000, 1)] if million else [])
    peaks: dict[str, list[float]] = {"wide": [], "deep": []}
    rates: list[float] = []
    for kind, shapes in (("wide", wide), ("deep", deep)):
        for shape in shapes:
            directories, files = (max(1, round(count * scale)) if count > 1 else 1 for count in shape)
            with stubs(directories, files, KIB) as pair:
                what = f"{pair.files:,} files in one directory" if kind == "wide" else f"{directories:,} directories"
                say(f"listing {what} ...")
                usage = pair.asynccopy.list(pair.source.url, f"s3://{BUCKET}/list")
            entries = pair.files if kind == "wide" else directories + pair.files
            peaks[kind].append(usage.peak_rss)
            if kind == "wide":
                rates.append(entries / usage.cpu)
            what = what if kind == "wide" else f"{what} of one file"
            figures = number(entries / usage.wall), number(usage.cpu / entries * 1e6)
            section.rows.append((what, number(usage.wall), *figures, megabytes(usage.peak_rss)))
    section.verdicts.append(
        Verdict("entries of the widest per second of client CPU", rates[-1], Target(100_000, at_least=True))
    )
    for kind, text in (("wide", "files"), ("deep", "directories")):
        growth = peaks[kind][-1] / peaks[kind][0]
        section.verdicts.append(Verdict(f"memory of the most {text} over that of the fewest", growth, Target(FLAT)))
    return section


class Sample(NamedTuple):
    """Of a running copy: when, how many files the sink had, CPU seconds so far, bytes of memory."""

    at: float
    files: int
    cpu: float
    rss: int


class Stretch(NamedTuple):
    """Of a part of the work: files per second, CPU seconds per file, bytes of memory."""

    rate: float
    cpu: float
    rss: float


def endurance(scale: float) -> Section:
    """1,000,000 x 4 KiB: as fast at the end as at the start, in the same memory.

    With a number of ranges given: while the best is found by trying, speed and memory rise, and would hide a decline.
    """
    with stubs(max(10, round(1000 * scale)), 1000, 4 * KIB) as pair:
        say(f"copying {pair.files:,} files ...")
        samples: list[Sample] = []
        pair.asynccopy.watch = partial(_sample, pair, samples)
        usage = pair.copy("million", "--concurrency", str(STEADY))
    title = f"{pair.files:,} files of 4 KiB between stubs, {STEADY} ranges in flight"
    section = Section(title, ("of the files", "files/s", "client CPU ms/file", "RSS MB"))
    section.notes.append(
        f"In all {number(usage.wall)} s, {number(usage.cpu / pair.files * 1e3)} ms of client CPU per file, "
        f"peak RSS {megabytes(usage.peak_rss)} MB. The second tenth is taken for the start: in the first the tree is "
        "still being listed."
    )
    parts = [_part(samples, pair.files, tenth / 10, (tenth + 1) / 10) for tenth in range(10)]
    for tenth, part in enumerate(parts):
        figures = number(part.rate), number(part.cpu * 1e3), megabytes(part.rss)
        section.rows.append((f"{tenth * 10} to {tenth * 10 + 10} %", *figures))
    first, last = parts[1], parts[9]
    section.verdicts += [
        Verdict("rate of the last tenth over that of the second", last.rate / first.rate, Target(0.9, at_least=True)),
        Verdict("CPU per file in the last tenth over that in the second", last.cpu / first.cpu, Target(1.1)),
        Verdict("memory in the last tenth over that in the second", last.rss / first.rss, Target(FLAT)),
    ]
    return section


def _sample(pair: Stubs, samples: list[Sample], pid: int) -> None:
    samples.append(Sample(time.monotonic(), pair.sink.holds()[0], cpu_seconds(pid), memory(pid)))


def _part(samples: Sequence[Sample], files: int, begin: float, end: float) -> Stretch:
    """What is seen between two shares of the work. Raises BenchFailed when it was too short to see."""
    within = [sample for sample in samples if begin * files <= sample.files <= end * files and sample.rss]
    if len(within) < 2 or within[0].files == within[-1].files:
        raise BenchFailed(f"too short to be watched: {len(within)} samples between {begin:.0%} and {end:.0%}")
    first, last = within[0], within[-1]
    count = last.files - first.files
    rss = median(sample.rss for sample in within)
    return Stretch(count / (last.at - first.at), (last.cpu - first.cpu) / count, rss)
