"""What could go wrong unnoticed: what a child took, whether a promise is kept, what is written where."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.bench.contest import compete, median
from tests.bench.measure import BenchFailed, Usage, own_peak_rss, run
from tests.bench.report import BEGIN, END, Section, Target, Verdict, number, write

MIB = 1 << 20


def test_a_child_is_charged_for_its_time_and_memory(tmp_path: Path) -> None:
    program = (
        "import time\n"
        f"held = bytearray({200 * MIB}); held[::4096] = b'x' * len(held[::4096])\n"
        "while time.process_time() < 0.5: pass\n"
        "time.sleep(0.3)\n"
        "print('done')"
    )
    usage = run([sys.executable, "-c", program], os.environ, tmp_path / "log", keep_output=True)
    assert usage.output == "done\n"
    assert usage.wall >= 0.8
    assert 0.5 <= usage.cpu < usage.wall
    # The kernel counts the process that it was forked from, too.
    assert 200 * MIB <= usage.peak_rss < max(300 * MIB, own_peak_rss() + 10 * MIB)


def test_a_child_that_fails_yields_no_figures(tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match=r"(?s)ended with 3.*broken"):
        run([sys.executable, "-c", "import sys; print('broken', file=sys.stderr); sys.exit(3)"], {}, tmp_path / "log")


def test_a_child_is_watched_until_it_ends(tmp_path: Path) -> None:
    seen: list[int] = []
    run([sys.executable, "-c", "import time; time.sleep(0.7)"], {}, tmp_path / "log", watch=seen.append)
    assert len(seen) >= 2
    assert len(set(seen)) == 1


def test_everybody_is_first_in_turn_and_judged() -> None:
    judged: list[tuple[str, bool]] = []
    walls = iter([1.0, 2.0, 3.0, 5.0, 4.0, 6.0])
    ran: list[str] = []

    def contender(prefix: str) -> Usage:
        ran.append(prefix)
        return Usage(next(walls), 1, 10, {"store": 2})

    figures = compete("it", {"a": contender, "b": contender}, 3, lambda *seen: judged.append(seen))
    assert ran == ["it-0-0", "it-0-1", "it-1-1", "it-1-0", "it-2-0", "it-2-1"]
    assert judged == [(prefix, prefix.startswith("it-0")) for prefix in ran]
    assert (figures["a"].wall, figures["b"].wall) == (4.0, 3.0)


def test_each_figure_has_its_own_median() -> None:
    usages = [Usage(1, 30, 200, {"s": 5}), Usage(2, 10, 300, {"s": 4}), Usage(9, 20, 100, {"s": 9})]
    assert median(usages) == Usage(2, 20, 200, {"s": 5})


@pytest.mark.parametrize(
    ("value", "target", "kept"),
    [
        (0.6, Target(0.6, " ms"), True),
        (0.61, Target(0.6, " ms"), False),
        (2.6, Target(2.6, at_least=True), True),
        (2.5, Target(2.6, at_least=True), False),
    ],
)
def test_a_promise_is_kept_up_to_its_limit(value: float, target: Target, kept: bool) -> None:
    assert Verdict("it", value, target).kept is kept


def test_a_missed_promise_is_seen() -> None:
    section = Section("Copy", ("", "s"), [("ours", number(1234.5))])
    section.verdicts += [
        Verdict("CPU", 0.91, Target(0.8, " s")),
        Verdict("speed", 3, Target(2.6, at_least=True)),
        Verdict("late", 3, Target(5, at_least=True), Target(2.6, at_least=True)),
    ]
    text = section.markdown()
    assert "| ours | 1,234 |" in text
    assert "| CPU | 0.91 s | <= 0.8 s | **MISSED** |" in text
    assert "| speed | 3 | >= 2.6 | met |" in text
    assert "| late | 3 | >= 5 | **MISSED** | >= 2.6 | met |" in text
    assert [verdict.kept for verdict in section.verdicts] == [False, True, False]


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, "new")
    write(page, "newer\n")
    assert page.read_text() == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"only the end {END}")
    with pytest.raises(ValueError, match="lacks the markers"):
        write(page, "new")
    assert page.read_text() == f"only the end {END}"
