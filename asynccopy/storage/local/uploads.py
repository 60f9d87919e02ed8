"""Multipart uploads as directories: ``.asynccopy/<upload id>/`` holds the key and one file per part.

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress

from asynccopy.errors import Refused, UploadGone
from asynccopy.model import FoundUpload, PartReceipt
from asynccopy.storage.local.staged import StagedFile, make_directories, sync_directory

_ID = re.compile(r"[0-9a-f]{32}")
_CONDEMNED = ".gone"


def etag(status: os.stat_result) -> str:
    """Tells one written file from another, without reading it."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


class Uploads:
    """The unfinished uploads of one destination. ``directory`` is its staging directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def create(self, key: str) -> str:
        upload_id = uuid.uuid4().hex
        upload = os.path.join(self.directory, upload_id)
        make_directories(upload)
        named = StagedFile(upload)
        try:
            named.open()
            named.append(key.encode())
            named.publish(os.path.join(upload, "key"))
        finally:
            named.discard()
        return upload_id

    def find(self, key: str, upload_id: str) -> str:
        """The upload's directory. Raises UploadGone where there is none, or it is another key's."""
        if _ID.fullmatch(upload_id) and self._key(upload_id) == key:
            return os.path.join(self.directory, upload_id)
        raise UploadGone(f"{key!r}: there is no upload {upload_id!r}")

    def of(self, key: str) -> list[FoundUpload]:
        """The uploads of one key."""
        found: list[FoundUpload] = []
        for upload_id in (upload_id for named, upload_id in self.list() if named == key):
            upload = os.path.join(self.directory, upload_id)
            with suppress(FileNotFoundError):  # gone meanwhile
                begun = os.stat(os.path.join(upload, "key")).st_mtime_ns // 1_000_000
                found.append(FoundUpload(upload_id, begun, os.listdir(upload) == ["key"]))
        return found

    def list(self) -> list[tuple[str, str]]:
        """(key, upload id) of every upload."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        found = ((self._key(name), name) for name in sorted(names) if _ID.fullmatch(name))
        return [(key, name) for key, name in found if key is not None]

    def _key(self, upload_id: str) -> str | None:
        try:
            with open(os.path.join(self.directory, upload_id, "key"), "rb") as named:
                return named.read().decode()
        except FileNotFoundError:
            return None

    def forget(self, upload_id: str) -> None:
        """Remove an upload; one that is not there is not an error.

        The rename ends it at once, also for a part being written just now; what a crash leaves of the removal goes with
        the next one.
        """
        if not _ID.fullmatch(upload_id):
            return
        upload = os.path.join(self.directory, upload_id)
        try:
            os.rename(upload, upload + _CONDEMNED)
        except FileNotFoundError:
            return
        sync_directory(self.directory)
        for name in os.listdir(self.directory):
            if name.endswith(_CONDEMNED):
                shutil.rmtree(os.path.join(self.directory, name), ignore_errors=True)


def part_path(upload: str, number: int) -> str:
    return os.path.join(upload, f"{number:05d}")


def proven_parts(key: str, upload: str, parts: Sequence[PartReceipt]) -> list[str]:
    """The part files, in order, each the very one that its receipt speaks of.

    Raises Refused where a part is missing, is another one, or the receipts do not follow on each other from byte 0.
    """
    paths: list[str] = []
    offset = 0
    for number, part in enumerate(parts, start=1):
        path = part_path(upload, part.number)
        if part.number != number or part.offset != offset:
            raise Refused(f"{key!r}: part {part.number} at {part.offset} does not follow on {offset} bytes")
        try:
            status = os.lstat(path)
        except FileNotFoundError as error:
            raise Refused(f"{key!r}: part {part.number} was never written") from error
        if etag(status) != part.etag or status.st_size != part.size:
            raise Refused(f"{key!r}: part {part.number} is not the one that was reported")
        paths.append(path)
        offset += part.size
    if not paths:
        raise Refused(f"{key!r}: an upload needs at least one part")
    return paths
