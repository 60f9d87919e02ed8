"""When to try again."""

from __future__ import annotations

import pytest

from asynccopy import errors
from asynccopy.errors import AsyncCopyError, ConnectionLost, NotFound, Throttled, Unreachable
from asynccopy.retry import RetryPolicy

POLICY = RetryPolicy(first=0.1, most=5, patience=60)


def test_delays_grow_and_stay_within_bounds() -> None:
    for attempt in range(1, 40):
        ceiling = min(5.0, 0.1 * 2 ** (attempt - 1))
        for _ in range(20):
            delay = POLICY.delay(ConnectionLost("x"), attempt, 0)
            assert delay is not None
            assert ceiling / 2 <= delay <= ceiling


def test_delays_are_spread() -> None:
    assert len({POLICY.delay(ConnectionLost("x"), 5, 0) for _ in range(20)}) > 10


def test_an_attempt_number_of_any_size_overflows_nothing() -> None:
    assert 2.5 <= (POLICY.delay(ConnectionLost("x"), 10**9, 0) or 0) <= 5


@pytest.mark.parametrize(("elapsed", "again"), [(0, True), (59.9, True), (60, False), (1e9, False)])
def test_patience(elapsed: float, again: bool) -> None:
    assert (POLICY.delay(ConnectionLost("x"), 3, elapsed) is not None) is again


def test_a_server_s_wish_is_the_least() -> None:
    assert POLICY.delay(Throttled("x", delay=17), 1, 0) == 17
    assert (POLICY.delay(Throttled("x", delay=0), 1, 0) or 0) >= 0.05
    assert (POLICY.delay(Throttled("x"), 1, 0) or 0) >= 0.05


def test_only_what_may_pass_is_tried_again() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, AsyncCopyError)]
    assert len(classes) > 20
    for kind in classes:
        assert (POLICY.delay(kind("x"), 1, 0) is not None) is kind.retryable, kind
    assert POLICY.delay(NotFound("x"), 1, 0) is None
    assert POLICY.delay(Unreachable("x"), 1, 0) is not None
