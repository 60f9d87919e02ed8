"""When a run that goes on trying counts as standing still."""

from __future__ import annotations

import pytest

from asynccopy.errors import ConnectionLost, Throttled
from asynccopy.mirror.progress import Progress

TROUBLE = ConnectionLost("store:9000: connection lost")


def test_it_stands_still_until_anything_moves() -> None:
    progress = Progress()
    progress.took_off("a", 10)
    progress.retried(TROUBLE, 2.0)
    assert progress.hindrance == "store:9000: connection lost"
    progress.moved("a", 1)
    assert progress.hindrance == ""
    progress.retried(TROUBLE, 2.0)
    assert progress.hindrance


def test_a_hiccup_is_nothing_to_wait_for() -> None:
    progress = Progress()
    progress.retried(TROUBLE, 0.8)
    assert (progress.hindrance, progress.retries) == ("", 1)


@pytest.mark.parametrize("count", ["listed_files", "copied_files", "renamed_files", "failed_files"])
def test_a_file_that_is_found_or_settled_is_progress(count: str) -> None:
    progress = Progress()
    progress.retried(TROUBLE, 2.0)
    setattr(progress, count, 1)
    assert progress.hindrance == ""


def test_a_store_that_throttles_is_told_and_is_no_trouble_of_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("asynccopy.mirror.progress.monotonic", lambda: now)
    progress = Progress()
    assert progress.throttled == ""
    progress.retried(Throttled("s3://b: 503 SlowDown; allowed now: 190 requests/s"), 10.0)
    assert progress.throttled.endswith("190 requests/s")
    assert (progress.retries, progress.hindrance) == (0, "")
    now += 31
    assert progress.throttled == ""
