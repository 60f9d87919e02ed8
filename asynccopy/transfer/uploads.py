"""The beginning and the end of uploads, so that none is ever begun that the log does not know of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec.structs import replace

from asynccopy.errors import AsyncCopyError
from asynccopy.model import OpenUpload, PartReceipt
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Destination
from asynccopy.storage.retrying import Noticed, Trouble


class PartLog(Protocol):
    """Where one file's finished parts are remembered. A method returns only when its effect would survive a crash."""

    async def upload(self) -> OpenUpload | None:
        """The upload that was begun for this file, for whichever version, with its finished parts in any order."""
        ...

    async def begin_upload(self, upload: OpenUpload) -> None:
        """Note an upload. ``upload_id`` "" notes the intent: the store may or may not have created one."""
        ...

    async def part_done(self, receipt: PartReceipt) -> None: ...

    async def drop_upload(self) -> None:
        """Forget the upload and its parts."""
        ...


class Uploads:
    """Begins and forgets the uploads of a Destination."""

    def __init__(self, destination: Destination, policy: RetryPolicy, noticed: Noticed) -> None:
        self._destination = destination
        self._policy = policy
        self._noticed = noticed

    async def begin(
        self, key: str, intent: OpenUpload, log: PartLog, create: Callable[[str], Awaitable[str]]
    ) -> OpenUpload:
        """Create an upload, whose id is in the log before it is used."""
        trouble = Trouble(self._policy, self._noticed)
        while True:
            await log.begin_upload(intent)
            try:
                upload = replace(intent, upload_id=await create(key))
            except AsyncCopyError as error:
                await trouble.wait(error)
                await self.forget(key, intent, log)  # the reply may be lost, and the upload be there
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
    """Abort an upload; where only the intent is known (``upload_id`` ""), all of this very key that the store has."""
    if upload_id:
        await destination.abort_upload(key, upload_id)
        return
    for found, found_id in await destination.list_uploads(key):
        if found == key:
            await destination.abort_upload(key, found_id)
