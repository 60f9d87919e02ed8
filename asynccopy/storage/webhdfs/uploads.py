"""A multipart upload as a directory: ``.asynccopy/<upload id>/`` holds one file per part. Pure.

The key is the path of an empty directory in it, below ``key/``, so one MKDIRS begins an upload, and the parts' own
paths are short and plain, as CONCAT wants its sources. CONCAT joins the parts onto the first one, which keeps its file
id and grows: from its length alone follows how far a completion came that was cut off.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from time import time_ns
from typing import Final
from urllib.parse import quote

from asynccopy.errors import Refused, UploadGone
from asynccopy.model import FileStatus, PartReceipt
from asynccopy.storage.webhdfs.paths import STAGING

QUERY: Final = 32 * 1024
"""Bytes for the sources of one CONCAT: the NameNode takes a request line and headers of 64 KiB."""
BATCH: Final = 500
"""The most sources of one CONCAT, during which the NameNode does nothing else."""

_ID: Final = re.compile(r"[0-9a-f]{32}")
_PART: Final = re.compile(r"part-([0-9]{5,})")


def new_id() -> str:
    """It tells when it was made by our own clock, which need not be the NameNode's."""
    return f"{time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def begun(upload_id: str) -> int:
    """When it was made, in ms since the epoch."""
    return int(upload_id[:12], 16)


def is_id(name: str) -> bool:
    return _ID.fullmatch(name) is not None


def directory(key: str, upload_id: str) -> str:
    """Where the parts of an upload lie. Raises UploadGone for what is no upload id."""
    if not is_id(upload_id):
        raise UploadGone(f"{key!r}: there is no upload {upload_id!r}")
    return f"{STAGING}/{upload_id}"


def key_directory(upload: str) -> str:
    """Where the key is to be found, as the way down."""
    return f"{upload}/key"


def part_path(upload: str, number: int) -> str:
    return f"{upload}/part-{number:05d}"


def part_number(path: str) -> int | None:
    """The number of a whole part, None for a file that is still being written, or was not written to its end."""
    match = _PART.fullmatch(path.rpartition("/")[2])
    return int(match[1]) if match else None


def etag(status: FileStatus) -> str:
    """Tells one written file from another, without reading it: HDFS uses no file id twice."""
    return f"{status.file_id}-{status.modification_time}-{status.length}"


def file_id(etag: str) -> str:
    return etag.partition("-")[0]


def to_join(key: str, parts: Sequence[PartReceipt], found: Mapping[int, FileStatus]) -> list[FileStatus]:
    """The first part's file, and those that are still to be joined onto it, each the one its receipt speaks of.

    Raises Refused where a part is missing, is another one, or the receipts do not follow on each other from byte 0.
    """
    ends = list(accumulate(part.size for part in parts))
    for number, (part, end) in enumerate(zip(parts, ends, strict=True), start=1):
        if part.number != number or part.offset != end - part.size:
            raise Refused(f"{key!r}: part {part.number} at {part.offset} does not follow on the parts before it")
    first = found.get(1)
    if first is None or not parts:
        raise Refused(f"{key!r}: part 1 was never written")
    if str(first.file_id) != file_id(parts[0].etag) or first.length not in ends:
        raise Refused(f"{key!r}: part 1 is not the one that was reported")
    files = [first]
    for part in parts[ends.index(first.length) + 1 :]:
        file = found.get(part.number)
        if file is None:
            raise Refused(f"{key!r}: part {part.number} was never written")
        if etag(file) != part.etag or file.length != part.size:
            raise Refused(f"{key!r}: part {part.number} is not the one that was reported")
        files.append(file)
    return files


def same_blocks(written: FileStatus, status: FileStatus, parts: Sequence[PartReceipt]) -> bool:
    """Whether a file of these parts (none: written at once) is cut into blocks as its source, so that HDFS's checksums
    of equal bytes are equal. An empty file needs none.
    """
    if not written.length:
        return False
    if len(parts) <= 1 and written.length <= min(written.block_size, status.block_size):
        return True
    if not 0 < written.block_size == status.block_size:
        return False
    return all(part.size % written.block_size == 0 for part in parts[:-1])


def batches(root: str, files: Sequence[FileStatus]) -> Iterator[Sequence[FileStatus]]:
    """The sources of each CONCAT; all their names are about as long."""
    longest = max((len(quote(f",{root}/{file.path}", safe="")) for file in files), default=1)
    step = max(1, min(BATCH, QUERY // longest))
    for at in range(0, len(files), step):
        yield files[at : at + step]
