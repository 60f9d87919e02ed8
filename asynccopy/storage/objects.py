"""What is said of an object when it is written: ObjectOptions and the file it is made of, as headers. Pure.

Sources: PutObject and CreateMultipartUpload of the API references of S3 and OSS.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from asynccopy.config.objects import FILE_NAMES, ObjectOptions, header_value
from asynccopy.model import FileStatus
from asynccopy.storage.dialect import Dialect
from asynccopy.storage.http import Headers

_ARCHIVES: Final = frozenset(
    {"GLACIER", "DEEP_ARCHIVE", "ARCHIVE", "COLD", "Archive", "ColdArchive", "DeepColdArchive"}
)
"""Storage classes whose objects must be restored before they can be read: of S3, of those who speak like it (COS, OBS,
OSS's S3 face), of OSS."""


class ObjectHeaders:
    """The headers of one store's objects.

    ``kept``: class and encryption, which each object has for itself: said also of a copy. ``condition``: to be said by
    the request that makes an object visible. ``anew``: metadata and tags of a copy, where they
    are not to be those of its original. ``metadata``: what the names of user metadata begin with.
    """

    def __init__(self, options: ObjectOptions, dialect: Dialect) -> None:
        header = dialect.header
        encryption = f"{header}server-side-encryption"
        named = (
            (f"{header}storage-class", options.storage_class),
            (encryption, options.encryption),
            (f"{encryption}-{dialect.key_id}", options.kms_key),
        )
        self.kept: Headers = [(name, value) for name, value in named if value is not None]
        self.condition: Headers = [dialect.absent] if options.forbid_overwrite else []
        self.encryption = options.encryption
        self.archived = options.storage_class in _ARCHIVES
        self.metadata = f"{header}meta-"
        pairs = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in options.tags]
        self.tags: Headers = [(f"{header}tagging", "&".join(pairs))] if pairs else []
        given = [(f"{self.metadata}{name.lower()}", header_value(value)) for name, value in options.metadata]
        self._given: Headers = [*given, *self.tags]
        self.attributes = options.file_metadata
        replaced = (f"{header}metadata-directive", "REPLACE"), (f"{header}tagging-directive", dialect.replace)
        self.anew: Headers = [
            *([replaced[0], *given] if given else []),
            *([replaced[1], *self.tags] if self.tags else []),
        ]
        self._names = [f"{self.metadata}{name}" for name in FILE_NAMES]

    def described(self, status: FileStatus | None) -> Headers:
        """Tags and metadata, which a copy in the store takes over from its original."""
        if status is None or status.attributes is None or not self.attributes:
            return self._given
        attributes = status.attributes
        values = (
            header_value(attributes.owner),
            header_value(attributes.group),
            f"{attributes.permission:o}",
            str(status.modification_time),
        )
        told = list(zip(self._names, values, strict=True))
        if status.is_directory:
            del told[-1]  # its time is none of a directory's contents, and no marker is made anew for another one
        return [*told, *self._given]
