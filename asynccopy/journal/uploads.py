"""A multipart upload as the journal remembers it, with its finished parts. Read by both threads."""

from __future__ import annotations

import sqlite3

import msgspec

from asynccopy.model import BlockDigest, FileVersion, OpenUpload, PartReceipt

_UPLOAD = "SELECT upload_id, part_size, length, modification_time, file_id FROM uploads WHERE file = ?"
_PARTS = "SELECT number, offset, size, etag, crc32c, blocks FROM parts WHERE file = ? ORDER BY number"
_decode_blocks = msgspec.msgpack.Decoder(tuple[BlockDigest, ...]).decode


def upload_of(connection: sqlite3.Connection, file_id: int) -> OpenUpload | None:
    """The upload that has begun for a file, by the file's id."""
    found = connection.execute(_UPLOAD, (file_id,)).fetchone()
    if found is None:
        return None
    upload_id, part_size, *version = found
    parts = tuple(
        PartReceipt(number, offset, size, etag, crc32c, _decode_blocks(blocks))
        for number, offset, size, etag, crc32c, blocks in connection.execute(_PARTS, (file_id,))
    )
    return OpenUpload(upload_id, part_size, FileVersion(*version), parts)
