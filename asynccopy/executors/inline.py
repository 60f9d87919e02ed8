"""Copies run on this very loop: fixed workers that pull orders, so that nothing is created per file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Protocol

from msgspec import Struct

from asynccopy.errors import AsyncCopyError
from asynccopy.model import FileStatus
from asynccopy.storage.budget import Budget
from asynccopy.transfer.copy import Copied, Copier
from asynccopy.transfer.uploads import PartLog


class Order(Struct, frozen=True):
    """One file to copy. ``number`` is the orderer's own, e.g. a journal row."""

    number: int
    status: FileStatus
    log: PartLog


Claim = Callable[[], Awaitable[Order | None]]
Settle = Callable[[Order, Copied | AsyncCopyError], Awaitable[None]]


class Executor(Protocol):
    """Runs copies until ``claim`` has no more; every order that was claimed is settled, unless the run is cancelled."""

    async def run(self, claim: Claim, settle: Settle) -> None:
        """``claim`` waits for the next order, None when there is none now: it is asked again after every ``settle``.

        It may be cancelled while it waits; then it has claimed nothing. What ``settle`` raises ends the run and comes
        out, alone or in a group.
        """
        ...


class Onlooker(Protocol):
    def ended(self) -> None:
        """A file was copied, or failed."""
        ...


class InlineExecutor:
    """As many files at a time as the budget ``files`` has places, which ``steering`` may change."""

    def __init__(
        self,
        copier: Copier,
        files: Budget,
        onlooker: Onlooker,
        steering: Callable[[], Coroutine[None, None, None]] | None,
    ) -> None:
        self._copier = copier
        self._files = files
        self._onlooker = onlooker
        self._steering = steering

    async def run(self, claim: Claim, settle: Settle) -> None:
        workers = self._files.limit
        async with asyncio.TaskGroup() as group:
            steering = None if self._steering is None else group.create_task(self._steering(), name="steering")
            async with asyncio.TaskGroup() as working:

                def hire(number: int) -> None:
                    """Each worker is followed by the next when it has something to do: most passes need only one."""
                    if number < workers:
                        following = self._work(claim, settle, partial(hire, number + 1))
                        working.create_task(following, name=f"copy worker {number}")

                hire(0)
            if steering is not None:
                steering.cancel()

    async def _work(self, claim: Claim, settle: Settle, hire: Callable[[], None]) -> None:
        first = True
        while True:
            await self._files.take()
            try:
                order = await claim()
                if order is None:
                    return
                if first:
                    hire()
                    first = False
                result = await self._copy(order)
            finally:
                self._files.give()
            await settle(order, result)

    async def _copy(self, order: Order) -> Copied | AsyncCopyError:
        try:
            return await self._copier.copy(order.status, order.log)
        except AsyncCopyError as error:
            return error
        finally:
            self._onlooker.ended()
