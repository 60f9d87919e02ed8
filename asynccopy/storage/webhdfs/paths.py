"""Keys below a destination's root, and which of them HDFS cannot hold. Pure.

The rules are HDFS's own (``DFSUtil.isValidName`` and the NameNode's limits), as seen on Hadoop 3.5.0.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from asynccopy.errors import NameRefused

STAGING: Final = ".asynccopy"
"""The directory at a destination's root where unfinished files lie; no key begins with it."""
MAX_COMPONENT: Final = 255
"""Bytes: ``dfs.namenode.fs-limits.max-component-length`` as it is by default."""
MAX_URL: Final = 3600
"""Bytes of a path as a URL has it. HDFS takes 8,000 characters, but a DataNode no request line beyond 4,096."""
MAX_LEVELS: Final = 990
"""HDFS takes 1,000 directories on top of each other; the staging directory needs a few of them."""


def key_path(key: str, root: str) -> str:
    """The path of an object below ``root`` (absolute, "" for ``/``); a key ending in ``/`` is a directory.

    Raises NameRefused.
    """
    path = key.removesuffix("/")
    components = path.split("/")
    try:
        longest = max(len(component.encode()) for component in components)
    except UnicodeEncodeError:
        raise NameRefused(f"{key!r}: not valid Unicode") from None
    if any(component in ("", ".", "..", ".snapshot") for component in components):
        raise NameRefused(f"{key!r}: is no path below the destination")
    if ":" in path or "\0" in path:
        raise NameRefused(f"{key!r}: HDFS takes no {':' if ':' in path else 'NUL'} in a name")
    if components[0] == STAGING or (not root and components[0] == ".reserved"):
        raise NameRefused(f"{key!r}: {components[0]} is kept for other uses")
    if longest > MAX_COMPONENT:
        raise NameRefused(f"{key!r}: a component has {longest} bytes, HDFS takes {MAX_COMPONENT}")
    size, levels = len(quote(path)), len(components) + root.count("/")
    if size > max_key(root) or levels > MAX_LEVELS:
        raise NameRefused(f"{key[:100]!r}...: {size} bytes in a URL, {levels} levels: too long for WebHDFS")
    return path


def max_key(root: str) -> int:
    """Bytes that a key below ``root`` may have, where none needs to be escaped."""
    return max(1, MAX_URL - len(quote(root)) - 1)
