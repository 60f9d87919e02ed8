"""What proves an object that the store copied from another one. Pure."""

from __future__ import annotations

from typing import Final

from asynccopy.model import Evidence, ObjectMeta

PROVEN: Final = ("checksum", "read-back", "in-store")
"""The methods that compare bytes, or their checksums."""


def carried_over(evidence: Evidence, length: int, meta: ObjectMeta) -> Evidence | None:
    """The evidence of a renamed file's new object, None where it proves less than the old one's did.

    The file is the same (inode, length, time), so the source's checksum holds on. The object must have the checksum
    that the old one had, or its ETag, which stores keep for a copy where it is the MD5 of the bytes.
    """
    if meta.size != length or not evidence.method:
        return None
    if evidence.method in (*PROVEN, "stream"):
        proven = evidence.object == meta.checksum if meta.checksum else meta.etag == evidence.etag
        if not proven:
            return None
    return Evidence(evidence.method, evidence.source, evidence.object, meta.etag)
