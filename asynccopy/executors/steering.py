"""How many ranges to have in flight: found by trying, because it depends on both sides and the way between them.

Few are enough for big files on one machine, where more only cost memory and switches; a store behind 50 ms of round
trip wants hundreds for small files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from asynccopy.storage.budget import Budget

START: Final = 16
LEVELS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
WINDOW: Final = 1.0
"""Seconds for which a level is tried."""
FILE: Final = 256 * 1024
"""What a file counts beside its bytes: about as many bytes could have been moved in the time of its requests."""

BETTER: Final = 1.08
"""So much more must a higher level bring: less is noise, and fewer ranges are gentler to both sides."""
AS_GOOD: Final = 0.97
"""So much may a lower level lose."""
PATIENCE: Final = 64
"""Windows between two tries, at most; it doubles with every try that was in vain."""
PENANCE: Final = 30
"""Windows for which a level that brought trouble is not tried again."""


class Steering:
    """Climbs while climbing pays, then tries a neighbouring level from time to time. Pure.

    ``most``: the highest limit allowed.
    """

    def __init__(self, most: int) -> None:
        self._levels = [*(level for level in LEVELS if level < most), most]
        self._home = self._at = max(i for i, level in enumerate(self._levels) if level <= max(START, self._levels[0]))
        self._rate = 0.0  # at home
        self._climbing = True
        self._direction = 1
        self._patience = 2
        self._stayed = 0
        self._ceiling = len(self._levels) - 1
        self._penance = 0

    @property
    def limit(self) -> int:
        return self._levels[self._at]

    def judge(self, rate: float, *, trouble: bool) -> int:
        """The limit for the next window, after one at ``limit`` that brought ``rate`` (any unit per second).

        ``trouble``: a side asked us to slow down, or stalled.
        """
        if self._penance:
            self._penance -= 1
            if not self._penance:
                self._ceiling = len(self._levels) - 1
        if trouble:
            self._flee()
        elif self._at == self._home:
            self._rest(rate)
        elif rate >= self._rate * (BETTER if self._at > self._home else AS_GOOD):
            self._settle(rate)
        else:
            self._return()
        return self.limit

    def _flee(self) -> None:
        self._ceiling = max(0, self._at - 1)
        self._penance = PENANCE
        self._home = self._at = max(0, self._at - 2)
        self._rate, self._climbing, self._stayed = 0.0, False, 0

    def _rest(self, rate: float) -> None:
        """A window at home is over: go on, or try a neighbour."""
        self._rate = (self._rate + rate) / 2 if self._rate else rate
        self._stayed += 1
        if self._climbing or self._stayed >= self._patience:
            if not 0 <= self._home + self._direction <= self._ceiling:
                self._direction = -self._direction
            self._try()

    def _settle(self, rate: float) -> None:
        """The level that was tried is the new home; what paid once may pay again."""
        self._home, self._rate = self._at, rate
        self._patience, self._stayed = 2, 0
        self._try()

    def _return(self) -> None:
        if not self._climbing:
            self._patience = min(PATIENCE, self._patience * 2)
        self._climbing = False
        self._at = self._home
        self._direction = -self._direction
        self._stayed = 0

    def _try(self) -> None:
        """Upwards a doubling, whose gain stands out from the noise; downwards half of that, to lose little."""
        self._at = min(max(self._home + (2 if self._direction > 0 else -1), 0), self._ceiling)


class Gauge(Protocol):
    """How much has been moved so far, and how often a side asked for less."""

    amount: int
    troubles: int


async def steer(budgets: Sequence[Budget], gauge: Gauge, allowed: Callable[[], int] | None = None) -> None:
    """Set the limit of the budgets for ever, starting low; their present limit is the highest there may be.

    The first one tells how many places are really taken. ``allowed`` may lower the limit at any time.
    """
    loop = asyncio.get_running_loop()
    budget = budgets[0]
    steering = Steering(budget.limit)
    _limit(budgets, steering.limit)
    while True:
        if allowed is not None and (cap := allowed()) < steering.limit:
            _limit(budgets, cap)
            await asyncio.sleep(WINDOW / 4)  # nothing is learnt about limits from under a lower one
            continue
        _limit(budgets, steering.limit)
        while budget.taken > budget.limit:  # noqa: ASYNC110 - what was begun under a higher limit is let finish first
            await asyncio.sleep(WINDOW / 4)
        begun, amount, troubles, used = loop.time(), gauge.amount, gauge.troubles, 0
        for _ in range(4):
            await asyncio.sleep(WINDOW / 4)
            used += budget.taken
        trouble = gauge.troubles > troubles
        if used < 0.75 * 4 * budget.limit and not trouble:
            continue  # there was not enough to do: nothing was learnt about this limit
        rate = (gauge.amount - amount) / (loop.time() - begun)
        _limit(budgets, steering.judge(rate, trouble=trouble))


async def follow(budgets: Sequence[Budget], allowed: Callable[[], int]) -> None:
    """Keep the limit of the budgets at what is allowed, for ever; their present limit is the highest there may be."""
    most = budgets[0].limit
    while True:
        _limit(budgets, min(most, allowed()))
        await asyncio.sleep(WINDOW / 4)


def _limit(budgets: Sequence[Budget], limit: int) -> None:
    for budget in budgets:
        budget.limit = limit
