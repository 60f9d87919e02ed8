"""Requests to one store: as they come, until it throttles; then in turn, as many as it allows.

A throttled request is no failure: nothing was done, and the same request will be taken later. So it is sent again here,
where every refusal is seen, and nobody's patience or attempts are spent on it. See ``slowdown`` for the decisions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf, isfinite
from time import monotonic
from typing import Final, ParamSpec, TypeVar

from asynccopy.errors import Throttled, Unavailable
from asynccopy.storage.pool import Origin
from asynccopy.storage.slowdown import Slowdown

P = ParamSpec("P")
T = TypeVar("T")

LATELY: Final = 30.0
"""Seconds for which a refusal is worth telling people, and tells what a 503 without a word means."""


class Pacing:
    """Of one side, or of all that share it: those that write to a store, or those that read it.

    Not both together: a part holds its place while its bytes are read, maybe from the same store.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.refused = 0
        """Requests that were throttled so far"""
        self._taken = 0
        self._slowdown: Slowdown | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last = (-inf, "")

    @property
    def warning(self) -> str:
        """That the store throttles, and what it allows now, in one line; "" where it has not lately."""
        slowdown = self._slowdown
        if slowdown is None or not self._lately:
            return ""
        limits = ((slowdown.rate.allowed, "requests/s"), (slowdown.places.allowed, "requests at once"))
        found = [f"{allowed:,.0f} {unit}" for allowed, unit in limits if isfinite(allowed)]
        return f"{self._last[1]}; the store throttles, allowed now: {' and '.join(found) or 'being found out'}"

    @property
    def _lately(self) -> bool:
        return monotonic() - self._last[0] <= LATELY

    async def again(self, send: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Send when it is its turn, and again for as long as the store throttles it.

        A 503 that does not say why counts as throttling while the store throttles in words, and only then: alone it
        may mean that the store is down, and that is not waited for without end.
        """
        while True:
            try:
                return await self.once(send, *args, **kwargs)
            except Throttled:
                continue  # it is counted, and waits for its next turn
            except Unavailable:
                if not self._lately:
                    raise

    async def once(self, send: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Send when it is its turn: for what cannot be sent a second time. Raises also Throttled."""
        if self._slowdown is None:
            self._taken += 1
        else:
            await self._turn(self._slowdown)
        cuts, taken = self._cuts, True
        try:
            return await send(*args, **kwargs)
        except Throttled as error:
            taken = False
            self._last = (monotonic(), error.message)
            self._refused(error.delay, cuts, crowded=error.crowded)
            raise
        except Unavailable:
            if self._lately:
                taken = False
                self._refused(None, cuts, crowded=False)
            raise
        finally:
            self._taken -= 1
            if self._slowdown is not None:
                self._ended(self._slowdown, taken)

    @property
    def _cuts(self) -> int:
        return 0 if self._slowdown is None else self._slowdown.cuts

    async def _turn(self, slowdown: Slowdown) -> None:
        if not self._waiting and slowdown.wait(now := monotonic(), self._taken) <= 0:
            self._taken += 1
            slowdown.sent(now)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._taken -= 1  # handed out to us in the very moment
                self._hand_out()
            raise

    def _refused(self, delay: float | None, cuts: int, *, crowded: bool) -> None:
        now = monotonic()
        self.refused += 1
        if self._slowdown is None:
            self._slowdown = Slowdown(now)
        if cuts >= self._slowdown.cuts:
            self._slowdown.refused(now, self._taken, delay, crowded=crowded)

    def _ended(self, slowdown: Slowdown, taken: bool) -> None:
        if taken:
            slowdown.accepted(monotonic())
        if slowdown.over:
            self._slowdown = None
        if self._waiting:
            self._hand_out()

    def _hand_out(self) -> None:
        """Let go whoever may, and come back for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, slowdown = monotonic(), self._slowdown
        while self._waiting:
            if self._waiting[0].done():  # cancelled
                self._waiting.popleft()
                continue
            if slowdown is not None:
                if (wait := slowdown.wait(now, self._taken)) > 0:
                    if isfinite(wait):
                        self._timer = asyncio.get_running_loop().call_later(wait, self._hand_out)
                    return
                slowdown.sent(now)
            self._taken += 1
            self._waiting.popleft().set_result(None)
