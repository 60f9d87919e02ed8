"""What is shown while a run goes on, and what is written when it is over."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from asynccopy.cli import progress as display
from asynccopy.cli.journal import guarded
from asynccopy.cli.progress import Meter, shown
from asynccopy.cli.result import ResultFile, Run
from asynccopy.errors import Interrupted, PermissionDenied, Unreachable, UsageError
from asynccopy.mirror.progress import Flight, Progress
from asynccopy.model import MIB


def half_way() -> Progress:
    progress = Progress()
    progress.listed_files, progress.listed_bytes = 100, 100 * MIB
    progress.skipped_files, progress.skipped_bytes = 20, 20 * MIB
    progress.copied_files, progress.copied_bytes = 30, 30 * MIB
    progress.moved_bytes = 40 * MIB
    progress.took_off("a", 20 * MIB)
    progress.in_flight["a"].moved = 10 * MIB
    return progress


def test_rates_and_what_is_left() -> None:
    meter, progress = Meter(1000.0), half_way()
    progress.listing_done = True
    view = meter.look(progress, 1010.0)
    assert (view.done_files, view.done_bytes) == (50, 60 * MIB)
    assert view.mean == 4 * MIB
    # 30 files took 10 s and 50 are left; 40 MiB took 10 s and 40 are left: the slower of the two
    assert view.left == pytest.approx(50 / 3)
    assert view.sentence() == ("50 of 100 files, 60.0 MiB of 100 MiB, 4.0 MiB/s now, 4.0 MiB/s mean, 17 s left")


def test_the_rate_now_forgets() -> None:
    meter, progress = Meter(0.0), Progress()
    for second in range(1, 61):
        progress.moved_bytes += MIB if second <= 30 else 4 * MIB
        view = meter.look(progress, float(second))
    assert view.rate == 4 * MIB
    assert view.mean == pytest.approx(2.5 * MIB)
    for second in range(61, 68):
        view = meter.look(progress, float(second))
    assert view.rate == 0


def test_while_the_listing_goes_on_nothing_is_promised() -> None:
    sentence = Meter(0.0).look(half_way(), 10.0).sentence()
    assert "50 of 100 files so far" in sentence
    assert "at least 17 s left" in sentence
    assert "left" not in Meter(0.0).look(Progress(), 0.0).sentence()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_terminal_shows_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    import sys

    terminal = sys.stderr
    progress = half_way()
    progress.in_flight = {f"[bold]{n}\x1b]0;owned\x07": Flight(10, 0.0, n) for n in range(9)}
    progress.failed("lost\n", 5, PermissionDenied("no\x1b"))
    with shown(progress, quiet=False):
        await asyncio.sleep(0.4)
    assert isinstance(terminal, Terminal)
    text = terminal.getvalue()
    assert " 40 %" in text
    assert "[bold]4\\x1b]0;owned\\x07" in text
    assert "[bold]5" not in text
    assert "failed lost\\n: no\\x1b" in text
    assert "\x1b]0" not in text


async def test_elsewhere_a_plain_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "_LINE_SECONDS", 0.05)
    with shown(half_way(), quiet=False):
        await asyncio.sleep(0.28)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 5
    assert all(line.startswith("50 of 100 files so far") for line in lines)
    await asyncio.sleep(0.12)
    assert capsys.readouterr().err == ""


async def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(display, "_LINE_SECONDS", 0.01)
    with shown(half_way(), quiet=True):
        await asyncio.sleep(0.05)
    assert capsys.readouterr() == ("", "")


STARTED = datetime(2026, 1, 31, 12, tzinfo=UTC)


def ended(progress: Progress, error: BaseException | None = None) -> Run:
    return Run(STARTED, STARTED + timedelta(seconds=2.5), progress, error)


def test_outcomes() -> None:
    assert ended(half_way()).outcome == "succeeded"
    assert ended(half_way(), Interrupted("stopped")).outcome == "interrupted"
    assert ended(half_way(), Unreachable("nobody")).outcome == "failed"
    some = half_way()
    some.failed("a", 5, PermissionDenied("no"))
    assert ended(some).outcome == "failed"


def test_the_document_names_every_failure_and_hides_secrets() -> None:
    progress = half_way()
    progress.failed("a/b", 5, PermissionDenied("no"))
    document = ended(progress, Unreachable("http://nn/?delegation=hunter2")).document()
    assert document["files"] == {"expected": 100, "copied": 30, "skipped": 20, "failed": 1, "deleted": 0}
    assert document["bytes"]["failed"] == 5
    assert (document["started"], document["finished"]) == ("2026-01-31T12:00:00.000Z", "2026-01-31T12:00:02.500Z")
    assert document["duration_seconds"] == 2.5
    own, failure = document["errors"]
    assert own == {
        "path": "",
        "class": "Unreachable",
        "message": "http://nn/?delegation=[redacted]",
        "hint": "check the address and that the server is up",
    }
    assert failure == {
        "path": "a/b",
        "class": "PermissionDenied",
        "message": "no",
        "hint": "grant the user access to the path",
    }


def test_the_summary_is_short_however_much_failed(capsys: pytest.CaptureFixture[str]) -> None:
    progress = half_way()
    for number in range(500):
        progress.failed(f"f{number}\x1b", 1, PermissionDenied("no"))
    ended(progress).summarize()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[1] == "  failed  f0\\x1b: PermissionDenied: no"


def test_a_result_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    file = ResultFile(path)
    assert path.read_text() == "old"
    with pytest.raises(TypeError):
        file.write({"bad": object()})
    assert path.read_text() == "old"
    file.write({"good": 1})
    assert json.loads(path.read_text()) == {"good": 1}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_file_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        ResultFile(tmp_path / "none" / "result.json")


@pytest.mark.parametrize(
    ("cell", "becomes"), [("=1+1", "'=1+1"), ("+a", "'+a"), ("-", "'-"), ("@b", "'@b"), ("a=b", "a=b"), ("", "")]
)
def test_no_cell_is_a_formula(cell: str, becomes: str) -> None:
    assert guarded(cell) == becomes


async def test_a_warning_comes_with_the_line_while_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "_LINE_SECONDS", 0.02)
    with shown(half_way(), lambda: "the store throttles\x1b, allowed now: 190 requests/s", quiet=False):
        await asyncio.sleep(0.1)
    assert "warning: the store throttles\\x1b, allowed now: 190 requests/s\n" in capsys.readouterr().err
    with shown(half_way(), quiet=False):
        await asyncio.sleep(0.1)
    assert "warning" not in capsys.readouterr().err
