"""A bucket as what other buckets of its store are copied into: ``StoreCopies``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asynccopy.model import ObjectMeta, Part, PartReceipt
from asynccopy.storage.copies import Copies
from asynccopy.storage.documents import Completion
from asynccopy.storage.http import Headers
from asynccopy.storage.interface import Original


class Target(Protocol):
    """The bucket that is copied into."""

    publishing: Headers
    """What goes with the completion of an upload."""

    @property
    def most_copied(self) -> int: ...

    def check_key(self, key: str) -> None: ...

    async def copying(self, *, parts: bool) -> Headers: ...

    async def check_absent(self, to: str) -> None: ...

    async def copied(self, to: str, size: int, said: Completion | None = None) -> ObjectMeta: ...


class InStore:
    """See ``StoreCopies``."""

    def __init__(self, target: Target, copies: Copies, store: str) -> None:
        self.store = store
        self.most = target.most_copied
        self._target = target
        self._copies = copies

    async def whole(self, original: Original, to: str) -> ObjectMeta:
        self._target.check_key(to)
        await self._target.check_absent(to)
        headers = await self._target.copying(parts=False)
        said = await self._copies.whole(original, to, headers)
        return await self._target.copied(to, original.meta.size, said)

    async def begin(self, to: str) -> str:
        self._target.check_key(to)
        return await self._copies.begin(to, await self._target.copying(parts=True))

    async def part(self, original: Original, to: str, upload_id: str, part: Part) -> PartReceipt:
        return await self._copies.part(original, to, upload_id, part)

    async def complete(self, to: str, upload_id: str, parts: Sequence[PartReceipt]) -> ObjectMeta:
        said = await self._copies.complete(to, upload_id, parts, self._target.publishing)
        return await self._target.copied(to, sum(part.size for part in parts), said)
