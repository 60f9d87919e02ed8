"""How much a NameNode is asked at once."""

from __future__ import annotations

import pytest

from asynccopy.storage.webhdfs.politeness import CUT, LEAST, QUICK, SLOW, WINDOW, Politeness, overloaded


def answers(politeness: Politeness, seconds: float, count: int = WINDOW, asking: int | None = None) -> int:
    """So many answers that took so long, while as many requests were under way as the limit allowed."""
    for _ in range(count):
        politeness.answered(seconds, politeness.limit if asking is None else asking)
    return politeness.limit


@pytest.mark.parametrize("seconds", [0.0002, 0.02, QUICK, 0.2, SLOW])
def test_a_steady_namenode_is_asked_as_much_as_may_be(seconds: float) -> None:
    assert answers(Politeness(64), seconds, 10_000) == 64


def test_what_our_own_loop_adds_is_no_sign() -> None:
    politeness = Politeness(64)
    answers(politeness, 0.0005)
    assert answers(politeness, QUICK, 1000) == 64


def test_it_falls_to_the_least_and_no_further_while_it_is_slow_and_rises_again_by_one() -> None:
    politeness = Politeness(64)
    answers(politeness, 0.01)
    assert answers(politeness, 0.5) == int(64 * CUT)
    assert answers(politeness, 0.5, 2000) == LEAST
    assert answers(politeness, 0.01, LEAST + WINDOW) == LEAST + 1
    assert answers(politeness, 0.01, 62 * WINDOW) == 64


def test_it_is_cut_below_what_is_really_asked() -> None:
    politeness = Politeness(1000)
    answers(politeness, 0.01)
    assert answers(politeness, 0.5, asking=10) == int(10 * CUT)


def test_what_was_asked_before_a_cut_does_not_cut_again() -> None:
    politeness = Politeness(100)
    answers(politeness, 0.01)
    cut = answers(politeness, 0.5)
    for _ in range(100):
        assert politeness.answered(0.5, cut) == cut
    assert answers(politeness, 0.5) < cut


def test_a_few_slow_answers_are_no_sign() -> None:
    """A page of a large directory takes longer than a redirect."""
    politeness = Politeness(64)
    for _ in range(100):
        answers(politeness, 0.01, 2 * WINDOW // 3)
        answers(politeness, 3.0, WINDOW - 2 * WINDOW // 3)
    assert politeness.limit == 64


def test_a_namenode_that_is_busy_from_the_first_answer_on() -> None:
    assert answers(Politeness(64), SLOW * 2, 2000) == LEAST


def test_a_far_namenode_is_not_a_busy_one() -> None:
    politeness = Politeness(64)
    assert answers(politeness, 0.2, 100) == 64
    assert answers(politeness, 0.7, 100) == 64
    assert answers(politeness, 0.9) < 64


def test_a_refusal_counts_at_once_and_once() -> None:
    politeness = Politeness(64)
    cut = politeness.refused(64)
    assert cut == int(64 * CUT)
    assert politeness.refused(64) == cut
    assert answers(politeness, 0.01, 64) == cut
    assert politeness.refused(cut) < cut


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_low_ceiling_is_kept_to(most: int) -> None:
    politeness = Politeness(most)
    for _ in range(50):
        assert 1 <= politeness.refused(most) <= most
        assert 1 <= answers(politeness, 9.0) <= most


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (503, b"", True),
        (429, b"<html>", True),
        (403, b'{"RemoteException":{"exception":"RetriableException","message":"Server too busy"}}', True),
        (403, b'{"RemoteException":{"exception":"IOException","message":"Server too busy"}}', True),
        (403, b'{"RemoteException":{"exception":"IOException","message":"disk"}}', False),
        (404, b'{"RemoteException":{"exception":"FileNotFoundException"}}', False),
        (500, b"", False),
        (200, b"", False),
    ],
)
def test_which_answers_ask_for_less(status: int, body: bytes, expected: bool) -> None:
    assert overloaded(status, body) is expected


def test_a_wider_ceiling_leaves_a_limit_that_was_lowered() -> None:
    politeness = Politeness(16)
    assert politeness.widen(64) == politeness.widen(32) == 64
    answers(politeness, 0.01)
    cut = answers(politeness, 0.5)
    assert cut < 64
    assert politeness.widen(128) == cut
    assert answers(politeness, 0.01, 1000 * WINDOW) == 128
