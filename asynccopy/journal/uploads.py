"""Multipart uploads as the journal remembers them, with their finished parts. Statements, read by both threads."""

from __future__ import annotations

import sqlite3

import msgspec

from asynccopy.model import BlockDigest, FileVersion, OpenUpload, PartReceipt

_UPLOAD = "SELECT upload_id, part_size, length, modification_time, file_id FROM uploads WHERE file = ?"
_PARTS = "SELECT number, offset, size, etag, crc32c, blocks FROM parts WHERE file = ? ORDER BY number"
_BEGIN = """
INSERT INTO uploads (file, upload_id, part_size, length, modification_time, file_id)
SELECT id, ?, ?, ?, ?, ? FROM files WHERE id = ?
"""
DROP_UPLOAD = "DELETE FROM uploads WHERE file = ?"  # its parts go with it
PART_DONE = """
INSERT OR REPLACE INTO parts (file, number, offset, size, etag, crc32c, blocks) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
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


def begin_upload(connection: sqlite3.Connection, file_id: int, upload: OpenUpload) -> bool:
    """See ``Journal.begin_upload``; False where there is no such file."""
    version = upload.version
    values = (upload.upload_id, upload.part_size, version.length, version.modification_time, version.file_id)
    connection.execute(DROP_UPLOAD, (file_id,))
    return connection.execute(_BEGIN, (*values, file_id)).rowcount > 0
