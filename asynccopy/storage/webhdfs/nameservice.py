"""The NameNodes of one nameservice, of which one is active; or the gateways that stand for them, which all are."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import monotonic
from typing import Final, TypeVar

from msgspec import Struct

from asynccopy.errors import AsyncCopyError, ConnectionLost, NoActiveNameNode, ShortRead, Stalled, Unreachable
from asynccopy.logs import log
from asynccopy.storage.http import Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs.messages import PREFIX, passive

HUNG: Final = 5.0
"""Seconds without an answer after which another server is asked, where there is one."""
SLOW: Final = 15.0
"""Seconds that it gets when no other one is active: it may only be slow."""
RESTING: Final = 30.0
"""Seconds for which a gateway that failed gets no requests while there is another one."""
HANGS: Final = 180.0
"""Seconds for which one that said nothing counts as hung, unless it answers: a DataNode waits two minutes for it."""

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
        origin = Origin("https" if secure else "http", match["host"].strip("[]").lower(), port)
        found.append(Server(origin, f"/{path.strip('/')}{PREFIX}" if path.strip("/") else PREFIX))
    return found


def active(server: Server, response: Response) -> Response:
    """The answer, unless a NameNode says by it that it is not the one to ask. Raises NoActiveNameNode."""
    if state := passive(response):
        raise NoActiveNameNode(f"{server.origin} {state}")
    return response


Send = Callable[[Server, float | None], Awaitable[T]]
"""Asks one server, which may think for so many seconds before it answers (None: as long as a stall may last).

Raises NoActiveNameNode for an answer by which a NameNode says that it is not the one to ask.
"""


class Nameservice:
    """One object serves all sides that are on this cluster, so that a failover is found out once.

    NameNodes: the one that answered last is asked. Gateways: each in turn. Which of the two they are shows the first
    redirect: see ``WebHdfsClient``.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = tuple(servers)
        self.origins = frozenset(server.origin for server in servers)
        self.active = self.servers[0]
        """The one that answered last."""
        self.gateways = False
        self.streams = False
        """Whether they send the bytes of a file themselves, so that nobody need be asked where they are."""
        self.unknown: set[str] = set()
        """Operations that they turned out not to know."""
        self.trouble = ""
        """Why nobody answers, "" while somebody does."""
        self._hung: dict[Origin, float] = {}
        self._resting: dict[Origin, float] = {}

    async def ask(self, send: Send[T], *, once: bool = False, patient: bool = False) -> T:
        """What the active one answers, or the first other one that turns out to be it.

        ``once``: it changes something, so that it is sent to another server only where the first has refused it or
        never got it; what may have been heard raises, and the caller looks. ``patient``: the answer takes its time.
        Raises NoActiveNameNode when none of them is active, Unreachable when none of several answers at all.
        """
        hasty = len(self.servers) > 1 and not (once or patient or self.gateways)
        failed: dict[Server, AsyncCopyError] = {}
        for server, patience in self._turns(hasty, failed):
            try:
                answer = await send(server, patience)
            except (Unreachable, ConnectionLost, ShortRead, Stalled) as error:
                failed[server] = error
                self.failed(server.origin)
                if isinstance(error, Stalled):
                    self._hung[server.origin] = monotonic() + HANGS
                if len(self.servers) == 1 or (once and not isinstance(error, Unreachable)):
                    self.trouble = error.message
                    raise
            else:
                if self.trouble or server is not self.active:
                    self._found(server, failed)
                if self._hung:
                    self._hung.pop(server.origin, None)
                return answer
        raise self._none(failed)

    def _turns(self, hasty: bool, failed: dict[Server, AsyncCopyError]) -> Iterable[tuple[Server, float | None]]:
        """Whom to ask, and how long to wait. Made as it goes: the second round is of those that said nothing."""
        first = self.turn()
        at = self.servers.index(first)
        for server in (*self.servers[at:], *self.servers[:at]):
            yield server, HUNG if hasty else None
        if hasty:
            for server in [server for server, error in failed.items() if isinstance(error, Stalled)]:
                yield server, SLOW

    def turn(self) -> Server:
        """Whom to ask next."""
        if not self.gateways or len(self.servers) == 1:
            return self.active
        at, now = self.servers.index(self.active) + 1, monotonic()
        following = [*self.servers[at:], *self.servers[:at]]
        rested = [server for server in following if self._resting.get(server.origin, 0.0) <= now]
        self.active = (rested or following)[0]
        return self.active

    def failed(self, origin: Origin) -> None:
        """One that did not answer, or not to the end, if it is one of them."""
        if origin in self.origins:
            self._resting[origin] = monotonic() + RESTING

    @property
    def hung(self) -> str:
        """Those that said nothing lately, "" where there are none."""
        now = monotonic()
        return ", ".join(origin.netloc for origin, until in self._hung.items() if until > now)

    def _found(self, server: Server, failed: dict[Server, AsyncCopyError]) -> None:
        former, self.active, self.trouble = self.active, server, ""
        if former is server:
            log.info("answers again", server=server.origin.netloc)
        elif not self.gateways:
            log.info("active NameNode", server=server.origin.netloc, former=_reasons(failed))

    def _none(self, failed: dict[Server, AsyncCopyError]) -> Unreachable:
        reasons = _reasons(failed)
        if not self.trouble:
            log.warning("no active NameNode", reason=reasons)
        self.trouble = reasons
        if any(isinstance(error, NoActiveNameNode) for error in failed.values()):
            return NoActiveNameNode(f"waiting for an active NameNode: {reasons}")
        return Unreachable(f"no NameNode answers: {reasons}")


def _reasons(failed: dict[Server, AsyncCopyError]) -> str:
    return ", ".join(error.message.removeprefix(f"{server.origin.scheme}://") for server, error in failed.items())
