"""The FileStatus of WebHDFS, in all answers that have one. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from asynccopy.model import Attributes, FileStatus

_OCTAL: Final = re.compile(r"[01]?[0-7]{1,3}", re.ASCII)


class Entry(Struct, rename="camel", gc=False):
    """As Hadoop names it. Of the attributes, a server may leave out any."""

    path_suffix: str
    type: str
    length: int
    modification_time: int
    block_size: int = 0
    file_id: int = 0
    owner: str = ""
    group: str = ""
    permission: str = ""
    access_time: int = 0
    replication: int = 0
    ec_bit: bool = False


def status_of(entry: Entry, path: str) -> FileStatus:
    attributes = None
    mode = _mode(entry.permission)
    if mode is not None:
        # Of an erasure-coded file HDFS says 1: on blocks that are not, that would be a single copy.
        copies = 0 if entry.ec_bit else entry.replication
        attributes = Attributes(entry.owner, entry.group, mode, entry.access_time, copies)
    return FileStatus(
        path,
        entry.length,
        entry.modification_time,
        entry.file_id,
        entry.type == "DIRECTORY",
        entry.block_size,
        attributes,
    )


@lru_cache(maxsize=4096)
def _mode(octal: str) -> int | None:
    """The mode bits, None where a server tells none. Remembered: a file has one of a few."""
    return int(octal, 8) if _OCTAL.fullmatch(octal) else None
