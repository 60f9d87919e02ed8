"""A range on its way from a DataNode."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from asynccopy.errors import AsyncCopyError, Transient
from asynccopy.storage.interface import Reader
from asynccopy.storage.pace import Pace
from asynccopy.storage.pool import Origin

Suspect = Callable[[Origin, Transient], AsyncCopyError]
"""Told of a DataNode and what it failed by; gives back what is to be raised."""


class DataNodeReader:
    """A range coming from a DataNode; a failure puts it under suspicion. How long it took goes to ``pace``."""

    __slots__ = ("_datanode", "_left", "_length", "_pace", "_reader", "_since", "_suspect")

    def __init__(self, suspect: Suspect, datanode: Origin, reader: Reader, length: int, pace: Pace) -> None:
        self._suspect = suspect
        self._datanode = datanode
        self._reader = reader
        self._length = self._left = length
        self._pace: Pace | None = pace
        self._since = monotonic()

    async def readinto(self, buffer: memoryview) -> int:
        try:
            count = await self._reader.readinto(buffer)
        except Transient as error:
            self._left -= error.received
            raise self._suspect(self._datanode, error) from None
        self._left -= count
        if not self._left:
            self._ended()
        return count

    def close(self) -> None:
        self._ended()
        self._reader.close()

    def _ended(self) -> None:
        """Once: what whoever reads does between the last byte and the end is no concern of the DataNode's."""
        if self._pace is not None:
            self._pace.took(self._length - self._left, monotonic() - self._since)
            self._pace = None
