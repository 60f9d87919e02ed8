"""What a store that throttles is asked, against a store that counts by the second, in seconds that nobody waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf

import pytest

from asynccopy.storage.slowdown import BREATH, FIRST, LONGEST, QUIET, WINDOW, Slowdown

LATENCY = 0.004


class Asker:
    """So many that always have another request, as one process that copies small files."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.slowdown: Slowdown | None = None
        self.asking = 0
        self.taken: Counter[int] = Counter()
        """By the second"""
        self.refused: Counter[int] = Counter()

    def may(self, now: float) -> float:
        """Seconds until it sends again."""
        if self.asking >= self.workers:
            return inf
        return 0.0 if self.slowdown is None else self.slowdown.wait(now, self.asking)


class Store:
    """Takes ``allowed(now)`` requests a second of the clock, or ``places`` at once. ``tells``: how long to wait."""

    def __init__(self, allowed: Callable[[float], float], *, places: float = inf, tells: bool = False) -> None:
        self.allowed = allowed
        self.places = places
        self.tells = tells
        self.second = -1
        self.count = 0
        self.busy = 0

    def admits(self, now: float) -> tuple[bool, bool]:
        """(taken, crowded)"""
        if int(now) != self.second:
            self.second, self.count = int(now), 0
        if self.busy >= self.places:
            return False, True
        if self.count >= self.allowed(now):
            return False, False
        self.count += 1
        self.busy += 1
        return True, False


def run(store: Store, askers: list[Asker], seconds: float, latency: float = LATENCY) -> None:
    """One event after the other: requests out, answers in."""
    answers: list[tuple[float, int, int, bool, bool, float]] = []
    now, serial = 0.25, 0
    while now < seconds:
        for number, asker in enumerate(askers):
            while asker.may(now) <= 0:
                asker.asking += 1
                cuts = 0
                if asker.slowdown is not None:
                    asker.slowdown.sent(now)
                    cuts = asker.slowdown.cuts
                taken, crowded = store.admits(now)
                serial += 1
                due = now + (latency if taken else LATENCY / 2)
                heappush(answers, (due, serial, number * 1_000_000 + cuts, taken, crowded, int(now) + 1 - now))
        nearest = min((asker.may(now) for asker in askers), default=inf)
        upcoming = answers[0][0] if answers else inf
        now = min(upcoming, now + max(nearest, 0.0001))
        while answers and answers[0][0] <= now:
            when, _, mark, taken, crowded, left = heappop(answers)
            asker = askers[mark // 1_000_000]
            if taken:
                store.busy -= 1
                asker.taken[int(when)] += 1
                if asker.slowdown is not None:
                    asker.slowdown.accepted(now)
            else:
                asker.refused[int(when)] += 1
                asker.slowdown = asker.slowdown or Slowdown(now)
                if mark % 1_000_000 >= asker.slowdown.cuts:
                    asker.slowdown.refused(now, asker.asking, left if store.tells else None, crowded=crowded)
            asker.asking -= 1
            if asker.slowdown is not None and asker.slowdown.over:
                asker.slowdown = None


def rate(askers: list[Asker], begin: int, end: int) -> float:
    return sum(asker.taken[second] for asker in askers for second in range(begin, end)) / (end - begin)


def rejected(askers: list[Asker], begin: int, end: int) -> float:
    refused = sum(asker.refused[second] for asker in askers for second in range(begin, end))
    return refused / (refused + rate(askers, begin, end) * (end - begin))


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("allowed", [20, 200, 2000])
def test_it_settles_near_what_is_allowed_and_is_rarely_refused(allowed: int, tells: bool) -> None:
    askers = [Asker(64)]
    run(Store(lambda _: allowed, tells=tells), askers, 40)
    assert rate(askers, 10, 40) >= 0.85 * allowed
    assert rejected(askers, 10, 40) < 0.05


@pytest.mark.parametrize("tells", [True, False])
def test_it_follows_a_store_that_changes_its_mind(tells: bool) -> None:
    askers = [Asker(64)]
    run(Store(lambda now: 200 if now < 30 else 50 if now < 60 else 400, tells=tells), askers, 100)
    assert rate(askers, 10, 30) >= 0.85 * 200
    assert rate(askers, 35, 60) >= 0.85 * 50
    assert rejected(askers, 40, 60) < 0.05
    assert rate(askers, 80, 100) >= 0.85 * 400
    assert rejected(askers, 80, 100) < 0.05


def test_two_with_limits_of_their_own_share_one_store() -> None:
    askers = [Asker(64), Asker(8)]
    askers[1].slowdown = Slowdown(0.0)
    askers[1].slowdown.rate.allowed = 10.0  # as a process that begins in the shadow of another
    run(Store(lambda _: 200), askers, 120)
    assert rate(askers, 10, 120) >= 0.85 * 200
    assert rejected(askers, 10, 120) < 0.05
    shares = [rate([asker], 80, 120) for asker in askers]
    assert max(shares) < 2 * min(shares), shares


def test_what_is_too_much_at_once_is_fewer_at_once_and_not_slower() -> None:
    asker = Asker(64)
    run(Store(lambda _: inf, places=10), [asker], 60, latency=0.1)
    assert asker.slowdown is not None
    assert asker.slowdown.rate.allowed == inf
    assert 5 <= asker.slowdown.places.allowed <= 15
    assert rate([asker], 10, 60) >= 0.8 * 10 / 0.1
    assert rejected([asker], 10, 60) < 0.05


def test_a_store_that_takes_nothing_is_asked_once_a_second_and_recovered_from() -> None:
    asker = Asker(64)
    run(Store(lambda now: 0 if now < 60 else 300), [asker], 90)
    assert 20 <= sum(asker.refused[second] for second in range(20, 60)) <= 80
    assert rate([asker], 80, 90) >= 0.85 * 300


def test_a_limit_that_nobody_feels_is_none_any_more() -> None:
    asker = Asker(4)
    run(Store(lambda now: 50 if now < 10 else inf), [asker], 30 + QUIET)
    assert asker.slowdown is None
    assert rate([asker], 38, 40) > 900  # all that four can ask for


def test_refusals_of_what_was_sent_under_an_older_limit_are_known_by_its_number() -> None:
    slowdown = Slowdown(0.0)
    slowdown.refused(0.0, 5, None, crowded=False)
    assert slowdown.cuts == 0  # not before the first window is over
    slowdown.accepted(FIRST)
    assert slowdown.cuts == 1
    slowdown.accepted(FIRST + WINDOW)
    assert slowdown.cuts == 1


def test_pauses_are_heeded_up_to_a_minute() -> None:
    slowdown = Slowdown(0.0)
    assert slowdown.wait(0.0, 1) == 0
    slowdown.refused(0.0, 1, None, crowded=False)
    assert slowdown.wait(0.0, 1) == BREATH
    slowdown.refused(0.0, 1, 0.75, crowded=False)
    assert slowdown.wait(0.0, 1) == 0.75
    slowdown.refused(0.0, 1, 86400, crowded=False)
    assert slowdown.wait(0.0, 1) == LONGEST
