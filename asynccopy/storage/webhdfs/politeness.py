"""How much a NameNode is asked at once: less while it is slow. Pure.

One NameNode serves the whole cluster. Its latency says how busy it is, whoever makes it so.
"""

from __future__ import annotations

from math import inf
from typing import Final

LEAST: Final = 2
"""The limit never falls below: a copy goes on even at a busy NameNode."""
WINDOW: Final = 16
"""Answers after which it is decided anew."""
SLOWER: Final = 4.0
"""Times the best median seen at which a NameNode counts as busy."""
QUICK: Final = 0.1
"""Seconds below which no answer counts as slow: our own loop, fully busy, keeps them waiting as long."""
SLOW: Final = 1.0
"""Seconds above which every answer does, in case the NameNode was busy from the first one on."""
CUT: Final = 0.7


class Politeness:
    """Additive increase, multiplicative decrease of ``limit``, which begins at its ceiling ``most``."""

    def __init__(self, most: int) -> None:
        self.limit = most
        self.most = most
        self._best = inf
        self._recent: list[float] = []
        self._passed_over = 0

    def answered(self, seconds: float, asking: int) -> int:
        """One answer took so long, while so many requests were under way. Returns the limit from now on."""
        if self._passed_over:
            self._passed_over -= 1
            return self.limit
        self._recent.append(seconds)
        if len(self._recent) < WINDOW:
            return self.limit
        middle = sorted(self._recent)[WINDOW // 2]
        self._best = min(self._best, middle)
        if middle > min(max(SLOWER * self._best, QUICK), SLOW):
            return self._lower(asking)
        self._recent.clear()
        self.limit = min(self.limit + 1, self.most)
        return self.limit

    def refused(self, asking: int) -> int:
        """It said that it is overloaded, or nothing at all for too long. Returns the limit from now on."""
        return self.limit if self._passed_over else self._lower(asking)

    def widen(self, most: int) -> int:
        """Let the ceiling be at least so high. Returns the limit from now on: as before where it has been lowered."""
        if most > self.most:
            self.limit = most if self.limit == self.most else self.limit
            self.most = most
        return self.limit

    def _lower(self, asking: int) -> int:
        """Below what was really under way: a limit that nobody feels changes nothing."""
        self._recent.clear()
        self._passed_over = asking  # what was asked under the old limit says nothing of the new one
        self.limit = max(min(LEAST, self.most), int(min(self.limit, asking) * CUT))
        return self.limit


def overloaded(status: int, body: bytes) -> bool:
    """Whether an answer is the NameNode's (or a proxy's) cry for less."""
    return status in (429, 503) or any(sign in body for sign in (b"RetriableException", b"too busy"))
