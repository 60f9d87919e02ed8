"""Copies run on this very loop: fixed workers that pull orders, so that nothing is created per file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from asynccopy.errors import AsyncCopyError
from asynccopy.model import FileStatus
from asynccopy.transfer.copy import Copied, Copier, PartLog


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


class InlineExecutor:
    """``workers`` files at a time."""

    def __init__(self, copier: Copier, workers: int) -> None:
        self._copier = copier
        self._workers = workers

    async def run(self, claim: Claim, settle: Settle) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(claim, settle), name=f"copy worker {number}")

    async def _work(self, claim: Claim, settle: Settle) -> None:
        while (order := await claim()) is not None:
            try:
                result: Copied | AsyncCopyError = await self._copier.copy(order.status, order.log)
            except AsyncCopyError as error:
                result = error
            await settle(order, result)
