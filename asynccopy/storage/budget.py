"""Places for what may be in flight at once."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """A semaphore whose limit may change while places are taken, first come, first served.

    A lowered limit takes nothing away from those who have a place: it holds for the next ones. ``taken`` is how many
    have one now.
    """

    __slots__ = ("_limit", "_waiting", "taken")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._hand_out()

    async def take(self) -> None:
        """Wait for a place; whoever takes one gives it back."""
        if self.taken < self._limit and not self._waiting:
            self.taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()  # handed out to us in the very moment
            raise

    def give(self) -> None:
        self.taken -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self.taken < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)
