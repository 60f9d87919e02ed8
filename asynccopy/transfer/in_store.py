"""Copying one file inside the store that holds both sides: the bytes stay there, and its checksums prove them equal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from asynccopy.errors import (
    AlreadyThere,
    AsyncCopyError,
    Interrupted,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    UploadGone,
    WrongServer,
    root_cause,
)
from asynccopy.logs import log as events
from asynccopy.model import Evidence, FileStatus, ObjectMeta, OpenUpload, Part, PartReceipt
from asynccopy.retry import RetryPolicy
from asynccopy.storage.budget import Budget
from asynccopy.storage.copies import copied_parts
from asynccopy.storage.interface import Destination, Original, Source, StoreCopies
from asynccopy.storage.retrying import Noticed, Trouble
from asynccopy.transfer.uploads import PartLog, Uploads
from asynccopy.transfer.verify import Prover

REFUSALS: Final = (Refused, PermissionDenied, NotThere, WrongServer)
"""What stores answer that do not copy, not between these buckets, or not for us (an OSS of another region: 403)."""
COPIED: Final = 0
"""The part size of an upload whose parts are copied: nothing that is read can go on with it."""


class InStore:
    """Asks the store of both sides to copy, as long as it does. ``moved``, ``stop``, ``budget``: as of a Copier."""

    def __init__(
        self,
        source: Source,
        destination: Destination,
        prover: Prover,
        *,
        budget: Budget,
        policy: RetryPolicy,
        noticed: Noticed,
        moved: Callable[[str, int], None],
        stop: asyncio.Event,
    ) -> None:
        self._originals, self._copies = source.originals, destination.copies
        self._destination = destination
        self._prover = prover
        self._uploads = Uploads(destination, policy, noticed)
        self._budget = budget
        self._policy = policy
        self._noticed = noticed
        self._moved = moved
        self._stop = stop
        self._does = False  # has copied a file
        self._refused = False

    async def copy(self, status: FileStatus, key: str, log: PartLog) -> Evidence | None:
        """Have one file copied and prove it. None where it must be read: it is empty, the store does not copy, nothing
        would prove the copy, or an earlier run has sent parts of it.

        Raises NotFound, SourceChanged, ChecksumMismatch (the copy was removed), UploadGone, Interrupted, and what the
        sides raise.
        """
        originals, copies = self._originals, self._copies
        if originals is None or copies is None or originals.store != copies.store:
            return None
        if not status.length or (self._refused and not self._does):
            return None
        upload = await log.upload()
        if upload is not None and upload.parts and upload.version == status.version:
            return None
        original = await originals.original(status.path, status.version)
        if not self._prover.comparable(original.meta):
            return None
        await self._uploads.forget(key, upload, log)
        try:
            meta = await self._copied(copies, original, key, status, log)
            evidence = await self._prover.prove_copy(original.meta, meta)
            if evidence is not None:
                self._does = True
                return evidence
            await self._destination.delete(key)  # it may be wrong, and reading the file may fail
            self._tell(f"{key}: the store tells nothing of the copy that could be compared")
        except AlreadyThere:
            pass  # reading the file will tell whether it is these very bytes
        except REFUSALS as error:
            self._tell(str(error))
        except NotFound as error:
            await originals.original(status.path, status.version)  # raises where it is gone, or another by now
            self._tell(str(error))
        await self._uploads.forget(key, await log.upload(), log)
        return None

    def _tell(self, reason: str) -> None:
        """Once: where no copy ever succeeds, none is asked for again; where some do, it is the matter of a file."""
        if not self._refused:
            events.warning("the store does not copy: files are read and written instead", reason=reason)
        self._refused = True

    async def _copied(
        self, copies: StoreCopies, original: Original, key: str, status: FileStatus, log: PartLog
    ) -> ObjectMeta:
        if status.length > copies.most:
            return await self._in_parts(copies, original, key, status, log)
        await self._budget.take()
        try:
            meta = await copies.whole(original, key)
        finally:
            self._budget.give()
        self._moved(status.path, status.length)
        return meta

    async def _in_parts(
        self, copies: StoreCopies, original: Original, key: str, status: FileStatus, log: PartLog
    ) -> ObjectMeta:
        """By an upload. Its parts are not logged: after a crash they are asked for again, for they cost us no byte."""
        parts = list(copied_parts(status.length, self._destination.limits))
        upload = await self._uploads.begin(key, OpenUpload("", COPIED, status.version), log, copies.begin)
        receipts: list[PartReceipt] = []

        async def copy(part: Part) -> None:
            receipts.append(await copies.part(original, key, upload.upload_id, part))
            self._moved(status.path, part.range.length)

        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    await self._budget.take()
                    if self._stop.is_set():
                        self._budget.give()
                        break
                    task = group.create_task(copy(part), name=f"copied part {part.number} of {status.path}")
                    task.add_done_callback(lambda _: self._budget.give())
            if len(receipts) < len(parts):
                raise Interrupted(f"{status.path}: stopped after {len(receipts)} parts of {len(parts)}")
            receipts.sort(key=lambda receipt: receipt.number)
            return await self._publish(copies, original, key, upload.upload_id, receipts)
        except BaseException as error:
            self._moved(status.path, -sum(receipt.size for receipt in receipts))
            raise root_cause(error) if isinstance(error, BaseExceptionGroup) else error from None

    async def _publish(
        self, copies: StoreCopies, original: Original, key: str, upload_id: str, receipts: list[PartReceipt]
    ) -> ObjectMeta:
        """Complete the upload. Whether a lost reply meant success is looked up, not guessed."""
        trouble = Trouble(self._policy, self._noticed)
        while True:
            try:
                return await copies.complete(key, upload_id, receipts)
            except AsyncCopyError as error:
                if not error.retryable and not isinstance(error, UploadGone):
                    raise
                found = await self._destination.head(key)
                if found is not None and await self._prover.same(original.meta, found):
                    # It may be an older object of the same bytes, and the upload still be there.
                    await self._destination.abort_upload(key, upload_id)
                    return found
                if isinstance(error, UploadGone):
                    raise
                await trouble.wait(error)
