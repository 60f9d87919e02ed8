"""The operating system's errors in our words."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from asynccopy.errors import (
    AsyncCopyError,
    NameRefused,
    NotFound,
    PermissionDenied,
    Refused,
    ServerTrouble,
    UploadGone,
)

Meanings = Mapping[int, type[AsyncCopyError]]

_ALWAYS: Meanings = {
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.EMFILE: ServerTrouble,
    errno.ENFILE: ServerTrouble,
    errno.ENOMEM: ServerTrouble,
}
READING: Meanings = {
    **_ALWAYS,
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.ELOOP: NotFound,  # O_NOFOLLOW met a symbolic link: for us nothing is there
    errno.ENAMETOOLONG: NotFound,
}
WRITING: Meanings = {
    **_ALWAYS,
    errno.ENOENT: ServerTrouble,  # somebody removed a directory under our hands: a repeat makes it again
    errno.ENAMETOOLONG: NameRefused,
    errno.EILSEQ: NameRefused,
    errno.ENOTDIR: NameRefused,
    errno.EISDIR: NameRefused,
}
UPLOADING: Meanings = {**WRITING, errno.ENOENT: UploadGone}

_HINTS = {
    errno.ENOSPC: "free space on that disk and run the same command again",
    errno.EDQUOT: "raise the quota or free space, and run the same command again",
    errno.EXDEV: "another file system is mounted below the destination: name it as a destination of its own",
    errno.ENOTDIR: "a file stands where the name needs a directory: remove it, or choose another destination",
    errno.EISDIR: "a directory stands where the file is to go: remove it, or choose another destination",
}


@contextmanager
def told(name: str, meanings: Meanings) -> Iterator[None]:
    """Turn an ``OSError`` of the body into the class that ``meanings`` gives its number, else Refused."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        where = f" ({error.filename!r})" if error.filename else ""
        message = f"{name!r}: {error.strerror or error}{where}"
        raise meanings.get(number, Refused)(message, hint=_HINTS.get(number)) from error
