from __future__ import annotations

import math
import random
import re
import subprocess
import sys
import threading
import timeit
from pathlib import Path

from asynccopy import metrics
from asynccopy.metrics import FAMILIES, Timing, Timings

ROOT = Path(__file__).parents[2]


def test_names_follow_the_rules() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names)) > 20
    for family in FAMILIES:
        assert re.fullmatch(r"asynccopy_[a-z]+(_[a-z]+)*", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.kind != "histogram" or family.name.endswith("_seconds"), family.name
        assert family.help.endswith(".")
        assert all(re.fullmatch("[a-z]+", label) and label != "le" for label in family.labels)


def test_a_timing_counts_each_observation_once_in_the_right_bucket() -> None:
    timing = Timing((0.1, 1.0, 10.0))
    for seconds in (0.0, 0.1, 0.1000001, 1.0, 5.0, 10.0, 11.0, 1e9):
        timing.observe(seconds)
    assert timing.cumulative() == [2, 4, 6, 8]
    assert math.isclose(timing.seconds, 1e9 + 27.2000001)


def test_a_timing_is_what_a_naive_count_says() -> None:
    seconds = [random.expovariate(1 / 3) for _ in range(1000)]
    timing = Timing((0.5, 1.0, 2.0, 4.0, 8.0))
    for each in seconds:
        timing.observe(each)
    assert timing.cumulative() == [sum(each <= bound for each in seconds) for bound in (0.5, 1, 2, 4, 8, math.inf)]


def test_threads_may_observe() -> None:
    timing = Timing((1.0,))
    threads = [threading.Thread(target=lambda: [timing.observe(0.5) for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 79_900 <= timing.cumulative()[-1] <= 80_000


def test_an_observation_costs_less_than_a_microsecond() -> None:
    timing = metrics.Timing(metrics.STORE.bounds)
    best = min(timeit.repeat(lambda: timing.observe(0.03), number=10_000, repeat=20)) / 10_000
    assert best < 1e-6


def test_bounds_ascend() -> None:
    for timing in (metrics.NAMENODE, metrics.STORE, metrics.COMMIT, metrics.SCAN.of("a", "full")):
        assert list(timing.bounds) == sorted(set(timing.bounds))


def test_timings_are_told_apart_by_their_labels() -> None:
    timings = Timings((1.0,))
    timings.of("a", "full").observe(0.5)
    timings.of("a", "quick").observe(3)
    timings.of("a", "full").observe(3)
    assert {labels: timing.cumulative() for labels, timing in timings} == {
        ("a", "full"): [1, 2],
        ("a", "quick"): [0, 1],
    }


def test_no_metrics_library_is_imported_before_a_scrape() -> None:
    code = "import sys, asynccopy.metrics, asynccopy.control.exposition; assert 'prometheus_client' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_in_the_documents_is_complete() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(asynccopy_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows}
    assert told == {family.name: (family.kind, family.labels, family.help.rstrip(".")) for family in FAMILIES}
