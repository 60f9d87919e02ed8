"""The beginning and the end of uploads, so that none is ever begun that the log does not know of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from time import time_ns
from typing import Final, Protocol

from msgspec.structs import replace

from asynccopy.errors import AsyncCopyError
from asynccopy.model import FoundUpload, OpenUpload, PartReceipt
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Destination
from asynccopy.storage.retrying import Noticed, Trouble

BEGINNING: Final = 300.0
"""Seconds after its intent within which an upload is begun, or the intent is noted anew."""
SLACK: Final = 10.0
"""Seconds that times may be off: stores tell them in whole seconds, and their servers are not one."""
_INTENT: Final = re.compile(r"(intent|copying):([0-9]+)")


class PartLog(Protocol):
    """Where one file's finished parts are remembered. A method returns only when its effect would survive a crash."""

    async def upload(self) -> OpenUpload | None:
        """The upload that was begun for this file, for whichever version, with its finished parts in any order."""
        ...

    async def begin_upload(self, upload: OpenUpload) -> None:
        """Note an upload, or by its ``upload_id`` the intent to begin one (see ``intent``)."""
        ...

    async def part_done(self, receipt: PartReceipt) -> None: ...

    async def drop_upload(self) -> None:
        """Forget the upload and its parts."""
        ...


def intent(*, copying: bool = False) -> str:
    """What stands for the id of an upload that is about to be begun: the store may or may not have made one.

    It tells the time, and whether parts of it may be there before its id is known (of a copy inside the store).
    """
    return f"{'copying' if copying else 'intent'}:{time_ns() // 1_000_000}"


def is_known(upload_id: str) -> bool:
    """Whether it is the id that the store gave, and no mere intent."""
    return bool(upload_id) and _INTENT.fullmatch(upload_id) is None


def is_ours(found: FoundUpload, intended: str) -> bool:
    """Whether an upload of the right key is the one that was about to be begun, and not somebody else's. Pure.

    Ours was begun then, and no part of it has come, for without its id we cannot have sent one. Others are left alone:
    an upload too many is removed by the store's own rule, one too few costs its owner what was sent.
    """
    noted = _INTENT.fullmatch(intended)
    if noted is None or not found.begun:
        return False
    since = int(noted[2])
    then = since - SLACK * 1000 <= found.begun <= since + (BEGINNING + SLACK) * 1000
    return then and (found.empty or noted[1] == "copying")


class Uploads:
    """Begins and forgets the uploads of a Destination."""

    def __init__(self, destination: Destination, policy: RetryPolicy, noticed: Noticed) -> None:
        self._destination = destination
        self._policy = policy
        self._noticed = noticed

    async def begin(
        self, key: str, wanted: OpenUpload, log: PartLog, create: Callable[[str], Awaitable[str]]
    ) -> OpenUpload:
        """Create an upload, whose id is in the log before it is used."""
        trouble = Trouble(self._policy, self._noticed)
        while True:
            intended = replace(wanted, upload_id=intent())
            await log.begin_upload(intended)
            try:
                async with asyncio.timeout(BEGINNING):  # a store that throttles lets it wait for longer
                    upload = replace(wanted, upload_id=await create(key))
            except TimeoutError:
                await self.forget(key, intended, log)
            except AsyncCopyError as error:
                await trouble.wait(error)
                await self.forget(key, intended, log)  # the reply may be lost, and the upload be there
            else:
                await log.begin_upload(upload)
                return upload

    async def forget(self, key: str, upload: OpenUpload | None, log: PartLog) -> None:
        """Abort an upload that nobody will finish. Where only the intent is known, the store is asked for it."""
        if upload is None:
            return
        await abort(self._destination, key, upload.upload_id)
        await log.drop_upload()


async def abort(destination: Destination, key: str, upload_id: str) -> None:
    """Abort an upload; where only the intent is known, what the store has begun by it (see ``is_ours``)."""
    if is_known(upload_id):
        await destination.abort_upload(key, upload_id)
        return
    for found in await destination.uploads_of(key):
        if is_ours(found, upload_id):
            await destination.abort_upload(key, found.upload_id)
