"""The NameNodes of one nameservice, of which one is active; or the gateways that stand for them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from asynccopy.storage.pool import Origin

PREFIX: Final = "/webhdfs/v1"

_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")

T = TypeVar("T")


class Server(Struct, frozen=True):
    """Where one of them answers. ``prefix`` precedes every HDFS path: Knox has ``/gateway/TOPOLOGY/webhdfs/v1``."""

    origin: Origin
    prefix: str = PREFIX


def servers(urls: Sequence[str]) -> list[Server]:
    """From ``http://host:port``, ``webhdfs://host:port`` and their TLS forms, with the path of a gateway's topology."""
    found = []
    for url in urls:
        scheme, _, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        match = _AUTHORITY.fullmatch(authority)
        assert match is not None, "checked where it was written"
        secure = scheme in ("https", "swebhdfs")
        port = int(match["port"] or (9871 if secure else 9870))
        origin = Origin("https" if secure else "http", match["host"].strip("[]"), port)
        found.append(Server(origin, f"/{path.strip('/')}{PREFIX}" if path.strip("/") else PREFIX))
    return found


class Nameservice:
    """The servers in the order in which they are tried. One object serves all sides that are on this cluster."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = tuple(servers)
        self.active = self.servers[0]
        """The one that answered last."""

    async def ask(self, send: Callable[[Server], Awaitable[T]]) -> T:
        """What the active one answers."""
        return await send(self.active)
