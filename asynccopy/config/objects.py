"""What objects are to be like when they are written, as far as a URL does not say it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import quote

from msgspec import Struct

Store = Literal["s3", "oss"]

OSS_CLASSES: Final = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
FILE_NAMES: Final = ("hdfs-owner", "hdfs-group", "hdfs-permission", "hdfs-mtime")
"""The user metadata that tell of an object's file, without the store's own prefix."""

_CLASS: Final = re.compile(r"[A-Z0-9_]{1,64}", re.ASCII)  # other vendors' stores have classes of their own
_ENCRYPTIONS: Final[Mapping[Store, tuple[str, str]]] = {"s3": ("AES256", "aws:kms"), "oss": ("AES256", "KMS")}
"""The second one takes the id of a key."""
_METADATA: Final[Mapping[Store, int]] = {"s3": 2 << 10, "oss": 8 << 10}
"""Bytes of all names and values together: the API references of both."""
_FILE_METADATA: Final = 256
"""Bytes left free for those of the file."""
_TAGS: Final = 10
_TAG: Final = re.compile(r"[\w\s+\-=.:/@]*")
_META_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*", re.ASCII)
_ODD_SPACE: Final = re.compile(r"(?:\A|(?<= )) | \Z")


class ObjectOptions(Struct, frozen=True):
    """What is asked for every object that is written, in plain values, as another process can take them.

    ``storage_class``, ``encryption``, ``kms_key``: in the store's own words, None leaves it to the bucket.
    ``forbid_overwrite``: what is there already is never replaced. ``tags``, ``metadata``: names and values.
    ``file_metadata``: tell of the file that an object is made of, where its source knows it.
    """

    storage_class: str | None = None
    encryption: str | None = None
    kms_key: str | None = None
    forbid_overwrite: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    file_metadata: bool = True

    def check(self, store: Store) -> None:
        """Raises ValueError, the key in backquotes, for what this kind of store does not take."""
        self._check_class(store)
        known = _ENCRYPTIONS[store]
        if self.encryption not in (None, *known):
            raise ValueError(f"`encryption`: {self.encryption!r} must be one of {', '.join(known)}")
        if self.kms_key is not None and self.encryption != known[1]:
            raise ValueError(f'`kms_key` needs `encryption` = "{known[1]}"')
        if self.kms_key is not None and not (self.kms_key.isascii() and self.kms_key.isprintable() and self.kms_key):
            raise ValueError("`kms_key` must be the id of a key, in plain ASCII")
        self._check_tags()
        self._check_metadata(store)

    def _check_class(self, store: Store) -> None:
        given = self.storage_class
        if given is None:
            return
        if store == "oss" and given not in OSS_CLASSES:
            raise ValueError(f"`storage_class`: {given!r} must be one of {', '.join(OSS_CLASSES)}")
        if store == "s3" and not _CLASS.fullmatch(given):
            raise ValueError(f"`storage_class`: {given!r} must be in capitals, such as STANDARD_IA")

    def _check_tags(self) -> None:
        if len(self.tags) > _TAGS:
            raise ValueError(f"`tags`: an object has {_TAGS} at most")
        for name, value in self.tags:
            if not 1 <= len(name) <= 128 or len(value) > 256:
                raise ValueError(f"`tags`: {name!r}: a name has 1 to 128 characters, a value at most 256")
            if not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
                raise ValueError(f"`tags`: {name!r}: only letters, digits, spaces and + - = . _ : / @ are allowed")

    def _check_metadata(self, store: Store) -> None:
        names = [name.lower() for name, _ in self.metadata]
        for name, _ in self.metadata:
            if not _META_NAME.fullmatch(name):
                raise ValueError(f"`metadata`: {name!r} must be letters, digits and -")
            if names.count(name.lower()) > 1:
                raise ValueError(f"`metadata`: {name!r} is there twice: stores know no capitals in names")
            if self.file_metadata and name.lower() in FILE_NAMES:
                raise ValueError(f"`metadata`: {name!r} is what `file_metadata` writes")
        room = _METADATA[store] - (_FILE_METADATA if self.file_metadata else 0)
        size = sum(len(name) + len(header_value(value)) for name, value in self.metadata)
        if size > room:
            raise ValueError(f"`metadata`: {size} bytes of names and values, there is room for {room}")


@lru_cache(maxsize=4096)
def header_value(text: str) -> str:
    """A text as user metadata carry it: percent-encoded where it is not plain ASCII, or a space that HTTP may drop.

    Remembered: owners and groups are few, and go with every object.
    """
    return _ODD_SPACE.sub("%20", quote(text, safe=" /:=+,;@"))
