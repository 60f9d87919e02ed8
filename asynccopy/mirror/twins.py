"""Files that are only renamed: their objects, which are there under another name, are copied inside the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from asynccopy.journal import Journal, PendingFile
from asynccopy.journal.rows import GoneFile
from asynccopy.mirror.renames import carried_over
from asynccopy.model import GIB, OpenUpload
from asynccopy.storage.interface import Destination
from asynccopy.transfer.uploads import abort, intent, is_known

COPIED_AT_ONCE: Final = GIB
"""Bytes that every store copies in one request; a larger object may take a multipart upload."""


async def twins_of(rows: Sequence[PendingFile], journal: Journal) -> dict[int, GoneFile]:
    """What those of the rows that are only renamed, by their ids, were before."""
    if not rows or not (await journal.gone_count())[0]:
        return {}
    twins = await journal.gone_twins([row.status.version for row in rows])
    return {row.id: twins[row.status.version] for row in rows if row.status.version in twins}


async def rename(row: PendingFile, twin: GoneFile, journal: Journal, destination: Destination) -> bool:
    """Copy the object inside the store; False where that does not prove what reading the file would."""
    old, new = (destination.prefix + path for path in (twin.path, row.status.path))
    upload = await journal.upload(row.id)
    if old == new:  # it went, and came back
        meta = await destination.head(new)
        if meta is None or meta.etag != twin.evidence.etag:
            return False
    else:
        known = upload is not None and is_known(upload.upload_id)
        if not known and row.status.length > COPIED_AT_ONCE:  # a kill may leave the upload of the copy
            if upload is not None:
                await abort(destination, new, upload.upload_id)
            await journal.begin_upload(row.id, OpenUpload(intent(copying=True), 0, row.status.version))
        meta = await destination.copy(old, new, row.status.length, twin.evidence.etag)
    evidence = carried_over(twin.evidence, row.status.length, meta)
    if evidence is None:
        return False
    if upload is not None:  # begun when nobody knew yet where the file had come from
        await abort(destination, new, upload.upload_id)
        await journal.drop_upload(row.id)
    await journal.done(row.id, row.status.version, evidence)
    return True
