"""The one HTTP door: connections kept and found again, stalls noticed, foreign exceptions mapped.

Redirects are never followed here: an answer of 3xx is an answer. No status is an error here either: what a status
means is the business of the backend that asked.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Final, Self

from msgspec import Struct

from asynccopy.errors import ConnectionLost, ShortRead, Stalled, Unreachable, WrongServer
from asynccopy.storage.connection import Connection
from asynccopy.storage.interface import Reader

BUFFER: Final = 256 * 1024
"""Two of these carry an upload of any size. 64 KiB costs a fifth more CPU, 1 MiB leaves the second-level cache."""
MESSAGE: Final = 64 << 20
"""The largest answer that is usually read as one message; a page of a listing has about 1 MB."""
CONNECT: Final = 10.0
IDLE: Final = 8.0
"""Seconds after which an unused connection is not trusted any more: servers close them, and tell too late."""
RESOLVED: Final = 30.0
FLOOR: Final = 1024
"""Bytes per second below which a transfer counts as stalled."""

Headers = Sequence[tuple[str, str]]


class Origin(Struct, frozen=True):
    """Where a server is: ``scheme`` is http or https."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        default = 443 if self.scheme == "https" else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


class Response(Struct, frozen=True):
    """A whole answer. Header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpDoor:
    """A pool of connections to any number of origins. Not for use by two loops.

    ``stall``: seconds without progress (1 KiB/s) after which a transfer is given up. ``reset``: connections end by a
    reset, see ``Connection.reset_on_close``. Every method raises Unreachable, ConnectionLost, ShortRead, Stalled,
    WrongServer; cancelling any of them ends the connection in use.
    """

    def __init__(
        self, *, connections: int = 1024, stall: float = 30.0, tls: ssl.SSLContext | None = None, reset: bool = False
    ) -> None:
        self._slots = asyncio.Semaphore(connections)
        self._stall = stall
        self._tls = tls
        self._reset = reset
        self._idle: dict[Origin, list[tuple[float, Connection]]] = {}
        self._busy: set[Connection] = set()
        self._addresses: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._buffers: list[bytearray] = []
        self._watch: asyncio.TimerHandle | None = None

    # --- requests ------------------------------------------------------------------------------------------------

    async def request(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes | memoryview = b"",
        *,
        patience: float | None = None,
        limit: int | None = None,
    ) -> Response:
        """Send a small message and return the whole answer, of at most ``limit`` bytes (64 MiB).

        ``patience``: seconds the server may think before it answers (as long as a stall may last).
        """
        head = _head(origin, method, target, headers, len(body) if body or method in ("PUT", "POST") else None)
        for fresh in (False, True):
            async with _Borrowed(self, origin, fresh) as lease:
                connection = lease.connection
                try:
                    connection.write(head)
                    if body:
                        connection.write(body)
                        await _sent(connection)  # the time to answer begins when the request is complete
                    response, keep = await self._answer(connection, method, patience, limit or MESSAGE)
                except (ConnectionLost, ShortRead):
                    if lease.reused and not connection.answered:
                        # a kept connection that the server had closed meanwhile: all our messages may be repeated
                        continue
                    raise
                lease.keep = keep
                return response
        raise AssertionError("a fresh connection either answers or raises")

    async def upload(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Headers,
        size: int,
        body: Reader,
        *,
        patience: float | None = None,
    ) -> Response:
        """Stream ``size`` bytes pulled from ``body`` through two buffers; what ``body`` raises comes out unchanged."""
        async with _Borrowed(self, origin, False) as lease:
            connection = lease.connection
            connection.write(_head(origin, method, target, headers, size))
            buffers = [self._buffers.pop() if self._buffers else bytearray(BUFFER) for _ in range(2)]
            views = [memoryview(buffer) for buffer in buffers]
            left, turn = size, 0
            while left:
                view = views[turn][: min(left, BUFFER)]
                count = await body.readinto(view)
                if count == 0:
                    raise ShortRead(f"the body ended {left} bytes before its promised size of {size}")
                await _sent(connection)  # the other buffer is free again
                if connection.answered:
                    break  # refused before all was sent: the answer says why
                connection.write(view[:count])
                left -= count
                turn ^= 1
            if not left:
                await _sent(connection)
            response, keep = await self._answer(connection, method, patience, MESSAGE)
            lease.keep = keep and not left
            if lease.keep:  # on any other way out the transport may still hold them
                self._buffers.extend(buffers)
            return response

    async def download(
        self, origin: Origin, method: str, target: str, headers: Headers, length: int
    ) -> Reader | Response:
        """Ask for a body of exactly ``length`` bytes: a Reader over it, else the Response (body of an error, b""
        otherwise).
        """
        lease = _Borrowed(self, origin, True)
        connection = (await lease.__aenter__()).connection
        try:
            connection.write(_head(origin, method, target, headers, None))
            status, fields, keep = await self._await_head(connection, None)
            if status in (200, 206):
                if "transfer-encoding" not in fields and fields.get("content-length") == str(length):
                    return _Body(lease, length, keep)
                response = Response(status, fields, b"")
            else:
                response = Response(status, fields, await _message(connection, fields, MESSAGE))
        except BaseException:
            lease.release()
            raise
        lease.release()
        return response

    async def aclose(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for kept in self._idle.values():
            for _, connection in kept:
                connection.abort()
        self._idle.clear()
        for connection in list(self._busy):
            connection.fail(ConnectionLost(f"{connection.name}: the door was closed"))

    # --- answers -------------------------------------------------------------------------------------------------

    async def _await_head(self, connection: Connection, patience: float | None) -> tuple[int, dict[str, str], bool]:
        connection.deadline = asyncio.get_running_loop().time() + (self._stall if patience is None else patience)
        try:
            return await connection.read_head()
        finally:
            connection.deadline = None

    async def _answer(
        self, connection: Connection, method: str, patience: float | None, limit: int
    ) -> tuple[Response, bool]:
        status, headers, keep = await self._await_head(connection, patience)
        if method == "HEAD" or status in (204, 304):
            return Response(status, headers, b""), keep
        body = await _message(connection, headers, limit)
        bounded = "content-length" in headers or "transfer-encoding" in headers
        return Response(status, headers, body), keep and bounded

    # --- connections ---------------------------------------------------------------------------------------------

    async def _connect(self, origin: Origin) -> Connection:
        loop = asyncio.get_running_loop()
        tls = self._context() if origin.scheme == "https" else None
        failure: OSError | TimeoutError | None = None
        for address in await self._resolve(origin):
            try:
                async with asyncio.timeout(CONNECT):
                    _, connection = await loop.create_connection(
                        lambda: Connection(loop, str(origin)),
                        address,
                        origin.port,
                        ssl=tls,
                        server_hostname=origin.host if tls else None,
                    )
            except ssl.SSLError as error:
                raise WrongServer(f"{origin}: TLS refused: {error.reason or error}") from error
            except (OSError, TimeoutError) as error:
                failure = error
                continue
            if self._reset:
                connection.reset_on_close()
            return connection
        text = "no answer within 10 s" if isinstance(failure, TimeoutError) else _os_text(failure)
        raise Unreachable(f"{origin}: cannot connect: {text}") from failure

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._tls

    async def _resolve(self, origin: Origin) -> list[str]:
        """Addresses of the host, remembered for 30 s: a look-up costs a thread hop, and DataNodes get a connection per
        range.
        """
        loop = asyncio.get_running_loop()
        key = (origin.host, origin.port)
        known = self._addresses.get(key)
        if known is not None and known[0] > loop.time():
            return known[1]
        try:
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a name like a..b is no IDNA
            raise Unreachable(f"{origin}: cannot resolve the host name: {_os_text(error)}") from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        self._addresses[key] = (loop.time() + RESOLVED, addresses)
        return addresses

    def _kept(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin)
        oldest = asyncio.get_running_loop().time() - IDLE
        while kept:
            since, connection = kept.pop()
            if since >= oldest and connection.reusable:
                return connection
            connection.abort()
        return None

    def _start_watch(self) -> None:
        if self._watch is None:
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(min(1.0, self._stall / 4), self._look)

    def _look(self) -> None:
        """End every connection that somebody waits on in vain. One timer for all of them."""
        self._watch = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._busy):
            if connection.deadline is not None:
                if connection.waiting and now > connection.deadline:
                    connection.fail(Stalled(f"{connection.name}: no answer in time"))
            elif not connection.waiting:
                connection.mark = 0.0
            elif connection.mark == 0.0:
                connection.mark, connection.mark_moved = now, connection.passed
            elif now - connection.mark >= self._stall:
                if connection.passed - connection.mark_moved < FLOOR * self._stall:
                    connection.fail(Stalled(f"{connection.name}: less than {FLOOR} bytes/s for {self._stall:.0f} s"))
                connection.mark, connection.mark_moved = now, connection.passed
        if self._busy:
            self._start_watch()


class _Borrowed:
    """A connection taken out of the pool. It goes back only when ``keep`` was set: anything else ends it."""

    __slots__ = ("_door", "_fresh", "_origin", "connection", "keep", "reused")

    def __init__(self, door: HttpDoor, origin: Origin, fresh: bool) -> None:
        self._door = door
        self._origin = origin
        self._fresh = fresh
        self.keep = False

    async def __aenter__(self) -> Self:
        door = self._door
        await door._slots.acquire()
        try:
            kept = None if self._fresh else door._kept(self._origin)
            self.reused = kept is not None
            self.connection = kept or await door._connect(self._origin)
        except BaseException:
            door._slots.release()
            raise
        self.connection.mark = 0.0
        door._busy.add(self.connection)
        door._start_watch()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        door = self._door
        if self.connection not in door._busy:
            return
        door._busy.discard(self.connection)
        door._slots.release()
        if self.keep and self.connection.reusable:
            self.connection.listen()
            now = asyncio.get_running_loop().time()
            door._idle.setdefault(self._origin, []).append((now, self.connection))
        else:
            self.connection.abort()


class _Body:
    """The Reader over an answer of known length."""

    __slots__ = ("_keep", "_lease", "_left")

    def __init__(self, lease: _Borrowed, length: int, keep: bool) -> None:
        self._lease = lease
        self._left = length
        self._keep = keep

    async def readinto(self, buffer: memoryview) -> int:
        if self._left == 0:
            return 0
        if len(buffer) > self._left:
            buffer = buffer[: self._left]
        await self._lease.connection.read_exactly(buffer)
        self._left -= len(buffer)
        if self._left == 0:
            self._lease.keep = self._keep
            self._lease.release()
        return len(buffer)

    def close(self) -> None:
        self._left = 0
        self._lease.release()


def _head(origin: Origin, method: str, target: str, headers: Headers, length: int | None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {origin.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise AssertionError("a line break inside a request line or header")
    return (text + "\r\n\r\n").encode("latin-1")


async def _sent(connection: Connection) -> None:
    """Wait until all that was written is in the kernel. A connection lost after an answer came still has the answer."""
    try:
        await connection.drained()
    except ConnectionLost:
        if not connection.answered:
            raise


async def _message(connection: Connection, headers: dict[str, str], limit: int) -> bytes:
    """The whole body of an answer: Content-Length, chunked, or up to the end of the connection."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunked(connection, limit)
    if (text := headers.get("content-length")) is not None:
        if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > limit:
            raise WrongServer(f"{connection.name}: unusable Content-Length in the answer")
        body = bytearray(int(text))
        await connection.read_exactly(memoryview(body))
        return bytes(body)
    pieces: list[bytes] = []
    total = 0
    while piece := await connection.read_some():
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            raise WrongServer(f"{connection.name}: the answer is longer than {limit} bytes")
    return b"".join(pieces)


async def _chunked(connection: Connection, limit: int) -> bytes:
    body = bytearray()
    while True:
        line = await connection.read_until(b"\r\n")
        try:
            size = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            raise WrongServer(f"{connection.name}: malformed chunk in the answer") from None
        if size < 0 or len(body) + size > limit:
            raise WrongServer(f"{connection.name}: the answer is longer than {limit} bytes")
        if size == 0:
            while await connection.read_until(b"\r\n") != b"\r\n":
                pass  # trailers
            return bytes(body)
        chunk = bytearray(size + 2)
        await connection.read_exactly(memoryview(chunk))
        body += chunk[:size]


def _os_text(error: BaseException | None) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
