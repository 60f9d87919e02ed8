"""Which files may still be being written. Pure.

HDFS says so only of a file's blocks, which is a request per file. Two things spare nearly all of them: a writer that is
at work has created, or closed, its file a short while ago; and of a file that is open only whole blocks are listed,
except where its writer asks for more (hsync with UPDATE_LENGTH), when its checksum tells.
"""

from __future__ import annotations

from typing import Final

from asynccopy.model import FileStatus

AHEAD: Final = 300.0
"""Seconds by which a NameNode's clock may be ahead of ours. A time that lies further ahead was set by somebody."""


def young(status: FileStatus, now: float, settle: float) -> bool:
    """Whether a file was touched less than ``settle`` seconds before ``now`` (seconds since the epoch)."""
    modified = status.modification_time / 1000
    return now - settle < modified <= now + AHEAD


def may_be_open(status: FileStatus) -> bool:
    """Whether the blocks must be asked for. A source without blocks keeps no open files."""
    return status.block_size > 0 and status.length % status.block_size == 0
