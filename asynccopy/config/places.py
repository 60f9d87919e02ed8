"""What the sides of a mirror or a command stand for, and which of them would get in each other's way. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote

_NAMED: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?!//)(/.*|)\Z", re.DOTALL)
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)\Z", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]*)(:\d{1,5})?\Z", re.ASCII)
_PORTS: Final = {"webhdfs": ":9870", "swebhdfs": ":9871", "http": ":80", "https": ":443"}


def split_place(text: str) -> tuple[str | None, str]:
    """The endpoint's name and the path of ``dc1:/warehouse``; None and the text where it names no endpoint."""
    found = _NAMED.match(text)
    return (None, text) if found is None or found[1] == "file" else (found[1], found[2])


class Ground(NamedTuple):
    """Where a tree lies: the kind of store, its addresses (none: not known from the file), its path in the store."""

    kind: str
    hosts: frozenset[str]
    path: tuple[str, ...]

    def holds(self, other: Ground) -> bool:
        """Whether the other tree is this one or lies in it. Stores of one kind whose address is not known may be the
        same.
        """
        same = self.kind == other.kind and (not self.hosts or not other.hosts or bool(self.hosts & other.hosts))
        return same and other.path[: len(self.path)] == self.path


def ground(url: str, addresses: Sequence[str] = ()) -> Ground:
    """Where a URL or an absolute path is; ``addresses``: of its servers, where the URL does not name all of them.

    Raises ValueError where it cannot be a mirror's side.
    """
    found = _URL.match(url)
    if found is None:
        if not url.startswith("/"):
            raise ValueError("must be a URL, an endpoint's NAME:/path, or an absolute path")
        return Ground("file", frozenset(), _components(url))
    scheme, authority, path = found[1].lower(), found[2], found[3]
    if not _AUTHORITY.match(authority):
        raise ValueError(f"must look like {scheme}://host:port/path, without user or password")
    if scheme == "file":
        return Ground("file", frozenset(), _components(unquote(path)))
    hosts = frozenset(_host(each) for each in addresses)
    if scheme in ("s3", "oss"):
        prefix = path.strip("/")  # of which dots and double slashes are parts like any other
        return Ground(scheme, hosts, (authority, *(prefix.split("/") if prefix else ())))
    kind = "webhdfs" if scheme in ("swebhdfs", "hdfs") else scheme
    return Ground(kind, hosts or frozenset({_host(url)}), _components(path))


def conflicts(sides: Sequence[tuple[str, Ground, Ground]]) -> Iterator[tuple[str, str]]:
    """(mirror, what is wrong with its destination), of mirrors as (name, source, destination).

    Two must not write into each other, and none into what it or another one reads.
    """
    for number, (name, source, destination) in enumerate(sides):
        if source.holds(destination) or destination.holds(source):
            yield name, "overlaps its `source`"
        for other, _, theirs in sides[:number]:
            if destination == theirs:
                yield name, f"is that of [mirrors.{other}] too"
            elif destination.holds(theirs) or theirs.holds(destination):
                yield name, f"and that of [mirrors.{other}] lie in each other"
        for other, theirs, _ in sides:
            if other != name and theirs.holds(destination):
                yield name, f"lies in the `source` of [mirrors.{other}]"


def _components(path: str) -> tuple[str, ...]:
    """The names of a path, dots resolved."""
    found: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del found[-1:]
        elif name not in ("", "."):
            found.append(name)
    return tuple(found)


def _host(url: str) -> str:
    """Host and port of a URL, in one spelling."""
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0].lower()
    return authority if re.search(r":\d+\Z", authority) else authority + _PORTS.get(scheme.lower(), "")
