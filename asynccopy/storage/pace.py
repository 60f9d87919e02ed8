"""How fast ranges come from a cluster, so that one that lags far behind the others is found. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

FLOOR: Final = 1024.0
"""Bytes per second below which a transfer counts as stalled, whatever the others do."""
LAG: Final = 16
"""So many times slower than the others is a straggler: no rack, disk or neighbour makes such a difference."""
LAST: Final = 32
"""Ranges that are remembered. Few, so that when everything gets slow the measure soon follows."""
ENOUGH: Final = 8
"""Fewer ranges than this say nothing about what is usual."""
LARGE: Final = 1 << 20
"""A smaller range tells how long a server thinks, not how fast bytes come."""


class Pace:
    """Of the last ranges. ``floor``: bytes per second below which one is to be read elsewhere."""

    __slots__ = ("_rates", "floor")

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=LAST)
        self.floor = FLOOR

    def took(self, count: int, seconds: float) -> None:
        """A range of ``count`` bytes was read, or given up after so many, in ``seconds`` from its head to its end. The
        time that it waited for whoever took the bytes counts, which makes the floor lower, never higher.
        """
        if count < LARGE and seconds < 1.0:
            return
        self._rates.append(count / max(seconds, 1e-6))
        if len(self._rates) >= ENOUGH:
            self.floor = max(FLOOR, sorted(self._rates)[len(self._rates) // 2] / LAG)
