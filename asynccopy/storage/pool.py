"""Connections: made, kept and found again, and watched for stalls."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import Final

from msgspec import Struct

from asynccopy.errors import ConnectionLost, Stalled, Straggler, Unreachable
from asynccopy.storage.budget import Budget
from asynccopy.storage.connection import SCRATCH, Connection
from asynccopy.storage.pace import FLOOR
from asynccopy.storage.tls import context, handshake_refusal

CONNECT: Final = 10.0
EXPIRED: Final = 0.0
IDLE: Final = 8.0
"""Seconds after which an unused connection is not trusted any more: servers close them, and tell too late."""
RESOLVED: Final = 30.0


class Origin(Struct, frozen=True):
    """Where a server is: ``scheme`` is http or https."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        return _netloc(self)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


@lru_cache(maxsize=4096)
def _netloc(origin: Origin) -> str:
    """Remembered: it goes into every request."""
    default = 443 if origin.scheme == "https" else 80
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.port == default else f"{host}:{origin.port}"


class Pool:
    """Connections to any number of origins, at most ``connections`` in use at once. See ``HttpDoor`` for the rest."""

    def __init__(self, *, connections: int, stall: float, tls: ssl.SSLContext | None, reset: bool) -> None:
        self.places = Budget(connections)
        self._origins: dict[Origin, Budget] = {}
        self.idle: dict[Origin, list[tuple[float, Connection]]] = {}
        self.busy: set[Connection] = set()
        self._connecting: dict[asyncio.Task[object], float] = {}  # until when
        self.stall = stall
        self.observe: Callable[[float], None] | None = None
        self.each: int | None = None
        """How many connections may be to one origin."""
        self.admits: Callable[[Origin, str], None] | None = None
        """Told of every address before it is connected to for the first time; raises what speaks against it."""
        self._tls = tls
        self._reset = reset
        self._scratch = memoryview(bytearray(SCRATCH))
        self._addresses: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._watch: asyncio.TimerHandle | None = None

    async def take(self, origin: Origin, *, fresh: bool = False, sure: bool = False) -> Connection:
        """A connection for one exchange, watched from now on; whoever takes it calls ``end``.

        ``fresh``: not one that was used before; ``sure``: if it was, the kernel is asked whether the server has hung
        up, because what goes out on it cannot be repeated.
        """
        await self._take_place(origin)
        try:
            connection = (None if fresh else self.kept(origin, sure)) or await self.connect(origin)
        except BaseException:
            self._give_place(origin)
            raise
        connection.mark = 0.0
        connection.pace = None
        connection.observe = self.observe
        self.busy.add(connection)
        if self._watch is None:
            self._watch_on()
        return connection

    def end(self, origin: Origin, connection: Connection, *, keep: bool) -> None:
        """Its use is over: keep it for the next one, or end it. Does nothing the second time."""
        if connection not in self.busy:
            return
        self.busy.discard(connection)
        self._give_place(origin)
        if keep and connection.reusable:
            connection.listen()
            connection.used = True
            self.idle.setdefault(origin, []).append((monotonic(), connection))
        else:
            connection.abort()

    async def _take_place(self, origin: Origin) -> None:
        """The origin's first: who waits for a busy one takes no place from the others."""
        if self.each is None:
            await self.places.take()
            return
        own = self._origins.setdefault(origin, Budget(self.each))
        await own.take()
        try:
            await self.places.take()
        except BaseException:
            own.give()
            raise

    def _give_place(self, origin: Origin) -> None:
        self.places.give()
        if self.each is not None:
            self._origins[origin].give()

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for kept in self.idle.values():
            for _, connection in kept:
                connection.abort()
        self.idle.clear()
        for connection in list(self.busy):
            connection.fail(ConnectionLost(f"{connection.name}: the door was closed"))

    async def connect(self, origin: Origin) -> Connection:
        name = str(origin)
        tls = self._context() if origin.scheme == "https" else None
        failure: OSError | TimeoutError | None = None
        for address in await self._resolve(origin):
            try:
                connection = await self._open(address, origin, name, tls)
            except ssl.SSLError as error:
                raise handshake_refusal(name, error) from error
            except (OSError, TimeoutError) as error:
                failure = error
                continue
            if self._reset:
                connection.reset_on_close()
            return connection
        text = "no answer within 10 s" if isinstance(failure, TimeoutError) else _os_text(failure)
        raise Unreachable(f"{origin}: cannot connect: {text}") from failure

    async def _open(self, address: str, origin: Origin, name: str, tls: ssl.SSLContext | None) -> Connection:
        """As under asyncio.timeout(CONNECT), but by the one timer of all: DataNodes get a connection per range."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancelled = task.cancelling()
        self._connecting[task] = monotonic() + CONNECT
        if self._watch is None:
            self._watch_on()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(loop, name, self._scratch),
                address,
                origin.port,
                ssl=tls,
                server_hostname=origin.host if tls else None,
            )
        except asyncio.CancelledError:
            if self._connecting[task] == EXPIRED and task.uncancel() <= cancelled:
                raise TimeoutError from None
            raise
        finally:
            del self._connecting[task]
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = context()
        return self._tls

    async def _resolve(self, origin: Origin) -> list[str]:
        """Addresses of the host, remembered for 30 s: a look-up costs a thread hop, and DataNodes get a connection per
        range.
        """
        loop = asyncio.get_running_loop()
        key = (origin.host, origin.port)
        known = self._addresses.get(key)
        if known is not None and known[0] > monotonic():
            return known[1]
        # RFC 6761: every name below localhost is this machine, which glibc alone does not know.
        host = "localhost" if origin.host.endswith(".localhost") else origin.host
        try:
            found = await loop.getaddrinfo(host, origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a name like a..b is no IDNA
            raise Unreachable(f"{origin}: cannot resolve the host name: {_os_text(error)}") from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        if self.admits is not None:
            for address in addresses:
                self.admits(origin, address)
        self._addresses[key] = (monotonic() + RESOLVED, addresses)
        return addresses

    def kept(self, origin: Origin, sure: bool) -> Connection | None:
        kept = self.idle.get(origin)
        oldest = monotonic() - IDLE
        while kept:
            since, connection = kept.pop()
            if since >= oldest and connection.reusable and not (sure and connection.hung_up):
                return connection
            connection.abort()
        return None

    def _watch_on(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(min(1.0, self.stall / 4), self._look)

    def _look(self) -> None:
        """End every connection that somebody waits on in vain. One timer for all of them."""
        self._watch = None
        now = monotonic()
        for task, deadline in self._connecting.items():
            if now > deadline > EXPIRED:
                self._connecting[task] = EXPIRED
                task.cancel()
        for connection in list(self.busy):
            if connection.deadline is not None:
                if connection.waiting and now > connection.deadline:
                    connection.fail(Stalled(f"{connection.name}: no answer in time"))
            elif not connection.waiting:
                connection.mark = 0.0
            elif connection.mark == 0.0:
                connection.mark, connection.mark_moved = now, connection.passed
            elif now - connection.mark >= self.stall:
                floor = FLOOR if connection.pace is None else connection.pace.floor
                if connection.passed - connection.mark_moved < floor * self.stall:
                    text = f"{connection.name}: less than {floor:.0f} bytes/s for {self.stall:.0f} s"
                    lags = floor > FLOOR
                    connection.fail(Straggler(f"{text}, far below what others give") if lags else Stalled(text))
                connection.mark, connection.mark_moved = now, connection.passed
        if self.busy or self._connecting:
            self._watch_on()


class Lease:
    """A connection lent to the Reader of one answer's body, with ``left`` bytes of it to come. It goes back once."""

    __slots__ = ("_ended", "_keep", "_origin", "_pool", "connection", "left")

    def __init__(self, pool: Pool, origin: Origin, connection: Connection, left: int, keep: bool) -> None:
        self._pool = pool
        self._origin = origin
        self.connection = connection
        self.left = left
        self._keep = keep
        self._ended = False

    def took(self, count: int) -> None:
        """So many bytes have come; after the last one the connection serves others."""
        self.left -= count
        if self.left == 0:
            self._end(self._keep)

    def close(self) -> None:
        self.left = 0
        self._end(keep=False)

    def _end(self, keep: bool) -> None:
        """Once only: the connection may be another's by now."""
        if not self._ended:
            self._ended = True
            self._pool.end(self._origin, self.connection, keep=keep)


def _os_text(error: BaseException | None) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
