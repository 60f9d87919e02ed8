"""The files below a directory, in the NameNode's order, from any of them on."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from asynccopy.errors import NotFound
from asynccopy.model import FileStatus
from asynccopy.storage.interface import Source
from asynccopy.storage.webhdfs.paths import STAGING

_SIGNED: Final = bytes(byte ^ 0x80 for byte in range(256))


async def walk(source: Source, prefix: str, after: str) -> AsyncGenerator[FileStatus, None]:
    """Files whose path begins with ``prefix``, and directories in which nothing is; ``after`` is the last one seen.

    Memory holds a page of every directory on the way down. The staging directory is passed over.
    """
    top, slash, _ = prefix.rpartition("/")
    below = after.removeprefix(top + slash).rstrip("/").split("/") if after else [""]
    above = [top] if top else []
    levels = [_Level("/".join(above + below[:depth]), name) for depth, name in enumerate(below)]
    while levels:
        level = levels[-1]
        entry = await level.next(source)
        if entry is None:
            levels.pop()
            if level.empty and level.path and f"{level.path}/".startswith(prefix):
                with suppress(NotFound):
                    yield await source.status(level.path)
        elif entry.path == STAGING or (len(levels) == 1 and not entry.path.startswith(prefix)):
            continue
        elif entry.is_directory:
            levels.append(_Level(entry.path, ""))
        else:
            yield entry


class _Level:
    """A directory that is being listed, from behind the name ``after``. One that is gone has nothing more."""

    def __init__(self, path: str, after: str) -> None:
        self.path = path
        self.empty = not after
        self._after: str | None = after
        self._order = _order(after)
        self._entries: deque[FileStatus] = deque()

    async def next(self, source: Source) -> FileStatus | None:
        while not self._entries and self._after is not None:
            try:
                page = await source.list(self.path, self._after)
            except NotFound:
                self.empty = False
                return None
            self._entries.extend(entry for entry in page.entries if _order(entry.path) > self._order)
            self._after = page.after
        if not self._entries:
            return None
        self.empty = False
        return self._entries.popleft()


def _order(path: str) -> bytes:
    """Sorts names as the NameNode does, by signed bytes: a server that lists whole directories knows no ``after``."""
    return path.rpartition("/")[2].encode(errors="surrogatepass").translate(_SIGNED)
