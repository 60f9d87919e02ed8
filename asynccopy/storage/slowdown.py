"""How much a store that throttles is asked: requests per second, and requests at once. Pure.

A store does not say how much it allows; it only refuses what is too much. What it took while it refused says it: there
a limit begins, and from there it is felt for by additive increase and multiplicative decrease. Several that ask one
store, each with limits of its own, come to equal shares: who has more loses more and wins less.
Moments and durations are seconds of a clock that only goes forward.
"""

from __future__ import annotations

from math import inf, isfinite, sqrt
from typing import Final

WINDOW: Final = 1.0
"""After so long it is decided anew: stores count by the second."""
FIRST: Final = 2.0
"""The first time: what a store takes in one burst at the beginning of its second says nothing of the next."""
CUT: Final = 0.95
"""Of what the store took while it refused more."""
MILD: Final = 0.9
"""From this share of what was asked on, the share tells more than the amount: we may have been slow ourselves."""
STEP: Final = 0.2
"""Times the root of a limit is added to it after a window: a few units, fewer of a large limit than of a small one."""
BEYOND: Final = 1.02
"""Above so much of what was refused last the store allows more than it did, and the steps double."""
LEAST: Final = 1.0
QUIET: Final = 10.0
"""After so long in which nobody had to wait there is no limit any more."""
LONGEST: Final = 60.0
"""Pause that is heeded, however long a one a store asks for."""
BREATH: Final = 0.1
"""Pause after a refusal that asks for none, while no limit is found yet or too much goes on at once."""
MISSED: Final = 0.25
"""Seconds that were slept through and are made up for: stores count by the second."""


class Limit:
    """One quantity. ``felt``: in this window somebody had to wait for it; ``refused``: so often the store refused."""

    __slots__ = ("_edge", "_lowered", "_persists", "_step", "allowed", "felt", "refused")

    def __init__(self) -> None:
        self.allowed = inf
        self.felt = False
        self.refused = 0
        self._edge = 0.0
        self._step = 0.0
        self._lowered = False
        self._persists = False

    def window(self, taken: float, share: float) -> bool:
        """A window is over. ``taken``: how much the store took in it, ``share`` of what it was asked for.

        True: the limit was lowered. The window after that is passed over: in the store's own second the old limit may
        have used up all there was.
        """
        felt, refused, just_lowered = self.felt, self.refused, self._lowered
        self.felt, self.refused, self._lowered = False, 0, False
        if just_lowered:
            self._persists = bool(refused)
            return False
        if refused:
            mild = share >= MILD and not self._persists and isfinite(self.allowed)
            edge = self.allowed * share if mild else min(self.allowed, taken)
            self._lowered = True
            self._edge = edge if isfinite(self.allowed) else 0.0  # of the first time it is not known how true it is
            self.allowed = max(LEAST, CUT * edge)
            self._step = 0.0
            return True
        self._persists = False
        if felt:
            gentle = STEP * sqrt(self.allowed)
            further = min(2 * self._step, self.allowed / 2) if self.allowed > BEYOND * self._edge else 0.0
            self._step = max(gentle, further)
            self.allowed += self._step
        return False


class Slowdown:
    """From the first refusal on. ``over``: the store has allowed all that was wanted for a while.

    ``cuts`` counts how often a limit was lowered: a refusal of what was sent before the last time says nothing new.
    """

    def __init__(self, now: float) -> None:
        self.rate = Limit()
        self.places = Limit()
        self.cuts = 0
        self.over = False
        self._pause = now
        self._next = now
        self._begun, self._end = now, now + FIRST
        self._accepted = 0
        self._peak = 0
        self._busy = now

    def wait(self, now: float, asking: int) -> float:
        """Seconds until one more may be sent; inf: not before one of those ``asking`` has its answer."""
        if self._pause > now:
            return self._pause - now
        if self._next > now:
            self.rate.felt = True
            return self._next - now
        if asking >= self.places.allowed:
            self.places.felt = True
            return inf
        return 0.0

    def sent(self, now: float) -> None:
        self._next = max(self._next, now - MISSED) + 1 / self.rate.allowed

    def accepted(self, now: float) -> None:
        self._accepted += 1
        self._look(now)

    def refused(self, now: float, asking: int, delay: float | None, *, crowded: bool) -> None:
        """``asking``: requests under way, this one included; ``delay``: the pause that the store asked for.

        ``crowded``: it has too much to do at once, else it was asked too often.
        """
        found = self.places if crowded else self.rate
        found.refused += 1
        self._peak = max(self._peak, asking)
        if delay is None:
            delay = BREATH if crowded or found.allowed == inf else 0.0
        self._pause = max(self._pause, now + min(delay, LONGEST))
        self._look(now)

    def _look(self, now: float) -> None:
        if now < self._end:
            return
        if self.rate.refused or self.places.refused or self.rate.felt or self.places.felt:
            self._busy = now
        took, share = self._accepted / (now - self._begun), self._share(self.rate)
        lowered = self.rate.window(took, share)
        # However many were refused at once, who is refused comes back at once: that half were too many is enough.
        share = max(0.5, self._share(self.places))
        lowered |= self.places.window(share * self._peak, share)
        self.cuts += lowered
        self.over = now - self._busy >= QUIET
        self._begun, self._end = now, now + WINDOW
        self._accepted = self._peak = 0

    def _share(self, limit: Limit) -> float:
        return self._accepted / ((self._accepted + limit.refused) or 1)
