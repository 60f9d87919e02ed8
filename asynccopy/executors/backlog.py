"""What is still to be handed out: files that came back from a worker that died, then what the orderer has."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from asynccopy.executors.inline import Claim, Order

SUSPECT: Final = 2
"""Lost workers after which a file gets one for itself: if it is what kills them, the others shall not suffer."""


class Flight:
    """An order that was claimed and is not settled.

    ``moved``: bytes that were told of it since it was handed out. ``logged``: parts that this run has sent and logged,
    ``earlier`` of them by workers that are dead. ``deaths``: workers that died in a row while they had it and got no
    part of it done.
    """

    __slots__ = ("deaths", "earlier", "logged", "moved", "order")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.moved = 0
        self.logged = 0
        self.earlier = 0
        self.deaths = 0

    @property
    def suspect(self) -> bool:
        return self.deaths >= SUSPECT


class Backlog:
    """Hands out flights to any number of takers. All of one run's."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._returned: deque[Flight] = deque()
        self._suspects: deque[Flight] = deque()
        self._open = 0  # claimed and not settled
        self._settlements = 0
        self._dry_at = -1  # settlements when the orderer had nothing
        self._news = asyncio.Event()

    async def take(self, *, alone: bool) -> Flight | None:
        """The next flight; None when everything that was ever claimed is settled, and there is no more.

        Until then it waits, because a settlement may make the orderer claim a file again, and a worker that dies gives
        back what it has. A suspect goes only to a taker that has no other flight, ``alone``; who has some gets None
        when there is nothing but suspects. May be cancelled: then nothing was taken.
        """
        while True:
            if self._returned:
                return self._returned.popleft()
            if alone and self._suspects:
                return self._suspects.popleft()
            if self._dry_at != self._settlements:
                asked_at = self._settlements
                order = await self._claim()
                if order is not None:
                    self._open += 1
                    return Flight(order)
                self._dry_at = asked_at
            elif not self._open or (self._suspects and not alone):
                return None
            else:
                await self._news.wait()

    def give_back(self, flight: Flight) -> None:
        """Let another worker have it."""
        (self._suspects if flight.suspect else self._returned).append(flight)
        self._announce()

    def withdraw(self) -> list[Flight]:
        """What was given back and has not been taken again; it is the caller's to settle."""
        flights = [*self._returned, *self._suspects]
        self._returned.clear()
        self._suspects.clear()
        return flights

    def settled(self) -> None:
        """One flight is over."""
        self._open -= 1
        self._settlements += 1
        self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
