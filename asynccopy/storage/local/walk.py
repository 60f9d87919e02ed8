"""The objects below a directory, in an order that can be taken up again. Blocks: call it in a thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from asynccopy.storage.local.paths import STAGING, relative_path


def walk(root: str, prefix: str, after: str) -> Iterator[tuple[str, os.stat_result]]:
    """(key, status) of every regular file below ``root`` whose key begins with ``prefix``, following the key ``after``.

    Directory by directory, names sorted. A directory with nothing in it is the key that ends in ``/``. Symbolic links
    are not followed. Of the tree only the names in the directories on the way to the present file are held.
    """
    base = prefix.rpartition("/")[0]
    if base and (base.split("/", 1)[0] == STAGING or relative_path(base) is None or _linked(root, base)):
        return
    last = after.split("/")
    # One frame per directory: its key (with the slash, "" for the root) and its names still to come, last one first.
    frames = [(base + "/" if base else "", _names(root, base))]
    if base and not frames[0][1] and not after:
        yield from _marker(root, base + "/")
    while frames:
        directory, names = frames[-1]
        if not names:
            frames.pop()
            continue
        key = directory + names.pop()
        depth = key.count("/")
        on_the_way = after.startswith(directory) and depth < len(last)
        if not key.startswith(prefix) or (on_the_way and key.rpartition("/")[2] < last[depth]):
            continue
        try:
            status = os.lstat(os.path.join(root, key))
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode) and key != after:
            yield key, status
        elif stat.S_ISDIR(status.st_mode):
            below = _names(root, key)
            if below:
                frames.append((key + "/", below))
            elif key + "/" != after:
                yield key + "/", status


def _linked(root: str, directory: str) -> bool:
    """A symbolic link below the root leads to the directory, or out of the root."""
    return os.path.realpath(os.path.join(root, directory)) != os.path.join(os.path.realpath(root), directory)


def _names(root: str, directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(os.path.join(root, directory)), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return names if directory else [name for name in names if name != STAGING]


def _marker(root: str, key: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        status = os.lstat(os.path.join(root, key.removesuffix("/")))
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(status.st_mode):
        yield key, status
