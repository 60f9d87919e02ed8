"""URLs, keys and paths: how one becomes another, and which are refused. Pure."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote_to_bytes

from asynccopy.errors import NameRefused, UsageError

STAGING = ".asynccopy"
"""The directory at a destination's root where unfinished files lie; no key begins with it."""
MAX_COMPONENT = 255
MAX_PATH = 4095


def path_of(url_or_path: str) -> str:
    """The absolute path that a ``file://`` URL (percent-encoded) or a plain path names. Raises UsageError.

    ``?`` and ``#`` have no meaning in a file URL, so they are taken as part of the name.
    """
    path = url_or_path
    if path[:7].lower() == "file://":
        host, slash, rest = path[7:].partition("/")
        if host not in ("", "localhost") or not slash:
            raise UsageError(f"{url_or_path!r} is not a file URL", hint="write file:///absolute/path")
        path = os.fsdecode(unquote_to_bytes("/" + rest))
    if not path or "\0" in path:
        raise UsageError(f"{url_or_path!r} names no path")
    # POSIX leaves the meaning of two leading slashes open, and abspath keeps them: they would be a second identity.
    return "/" + os.path.abspath(path).lstrip("/")


def url_of(path: str) -> str:
    """The normal form of an absolute path: ``file:///...``, percent-encoded."""
    return "file://" + quote(os.fsencode(path), safe="/")


def relative_path(name: str) -> str | None:
    """``name`` where every component is a plain one, None where it could lead elsewhere."""
    plain = all(component not in ("", ".", "..") for component in name.split("/")) and "\0" not in name
    return name if plain or not name else None


def key_path(key: str) -> str:
    """The path of an object below the root; a key ending in ``/`` is a directory. Raises NameRefused."""
    path = relative_path(key.removesuffix("/"))
    if not path:
        raise NameRefused(f"{key!r} is not a path below the destination")
    if path.split("/", 1)[0] == STAGING:
        raise NameRefused(f"{key!r}: {STAGING} is where unfinished files are kept")
    try:
        longest = max(len(component.encode()) for component in path.split("/"))
    except UnicodeEncodeError as error:
        raise NameRefused(f"{key!r} is not UTF-8") from error
    if longest > MAX_COMPONENT:
        raise NameRefused(f"{key!r}: a component has {longest} bytes, {MAX_COMPONENT} is the most")
    return path
