"""The one HTTP door: a message out and its answer in, or a body streamed either way.

Redirects are never followed here: an answer of 3xx is an answer. No status is an error here either: what a status
means is the business of the backend that asked.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from asynccopy.errors import ConnectionLost, ShortRead, WrongServer
from asynccopy.storage.connection import Connection
from asynccopy.storage.fallback import chunk_end, chunk_size, chunked, undeclared
from asynccopy.storage.interface import Reader
from asynccopy.storage.pace import Pace
from asynccopy.storage.pool import Lease, Origin, Pool

BUFFER: Final = 256 * 1024
"""Two of these carry an upload of any size. 64 KiB costs a fifth more CPU, 1 MiB leaves the second-level cache."""
MESSAGE: Final = 64 << 20
"""The largest answer that is usually read as one message; a page of a listing has about 1 MB."""

REFUSED: Final = 400
"""From here on a connection is not used again: some servers close it after an error without saying so (s3proxy)."""

Headers = Sequence[tuple[str, str]]


class Response(Struct, frozen=True):
    """A whole answer. Header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpDoor:
    """Requests to any number of origins. Not for use by two loops.

    ``stall``: seconds without progress (1 KiB/s) after which a transfer is given up. ``reset``: connections end by a
    reset, see ``Connection.reset_on_close``. Every method raises Unreachable, ConnectionLost, ShortRead, Stalled,
    WrongServer; cancelling any of them ends the connection in use.
    """

    def __init__(
        self, *, connections: int = 1024, stall: float = 30.0, tls: ssl.SSLContext | None = None, reset: bool = False
    ) -> None:
        self.pool = Pool(connections=connections, stall=stall, tls=tls, reset=reset)
        self._buffers: list[bytearray] = []

    @property
    def observe(self) -> Callable[[float], None] | None:
        """Told of every request how many seconds passed from its end to the end of its answer's head."""
        return self.pool.observe

    @observe.setter
    def observe(self, observe: Callable[[float], None] | None) -> None:
        self.pool.observe = observe

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
        pool = self.pool
        for fresh in (False, True):
            connection = await pool.take(origin, fresh=fresh, sure=method == "POST")
            keep = False
            try:
                connection.write(head, body)
                if body:
                    await _sent(connection)  # the time to answer begins when the request is complete
                response, keep = await self._answer(connection, method, patience, limit or MESSAGE)
                return response
            except (ConnectionLost, ShortRead):
                if not connection.used or connection.answered or method == "POST":
                    raise
                # else a kept connection that the server had closed meanwhile: what may be repeated, is
            finally:
                pool.end(origin, connection, keep=keep)
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
        connection = await self.pool.take(origin, sure=True)
        keep = False
        try:
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
            keep = keep and not left
            if keep:  # on any other way out the transport may still hold them
                self._buffers.extend(buffers)
            return response
        finally:
            self.pool.end(origin, connection, keep=keep)

    async def download(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Headers,
        length: int,
        *,
        kind: str | None = None,
        patience: float | None = None,
        pace: Pace | None = None,
    ) -> Reader | Response:
        """Ask for a body of exactly ``length`` bytes: a Reader over it, else the Response (b"" instead of a body of
        another length).

        What announces its length is taken as it is; what does not is counted (``fallback``), and raises ServerTrouble
        when there is more. ``kind``: the content type of the body; an answer of another one is a Response, all of it.
        ``patience``: as of ``request``.
        ``pace``: what is usual there; a body that lags far behind it is given up as Straggler.
        """
        head = _head(origin, method, target, headers, None)
        pool = self.pool
        for fresh in (False, True):
            connection = await pool.take(origin, fresh=fresh)
            connection.pace = pace
            lent = keep = False
            try:
                connection.write(head)
                status, fields, may_keep = await connection.read_head(pool.stall if patience is None else patience)
                if status not in (200, 206) or (kind is not None and media_type(fields) != kind):
                    response, keep = await self._rest(connection, status, fields, may_keep, MESSAGE)
                    return response
                reader = self._reader(origin, connection, fields, length, may_keep)
                lent = reader is not None
                return Response(status, fields, b"") if reader is None else reader
            except (ConnectionLost, ShortRead):
                if not connection.used or connection.answered:
                    raise
                # else a kept connection that the server had closed meanwhile
            finally:
                if not lent:
                    pool.end(origin, connection, keep=keep)
        raise AssertionError("a fresh connection either answers or raises")

    async def aclose(self) -> None:
        self.pool.close()

    # --- answers -------------------------------------------------------------------------------------------------

    async def _answer(
        self, connection: Connection, method: str, patience: float | None, limit: int
    ) -> tuple[Response, bool]:
        """The answer, and whether another request may follow it on this connection."""
        status, headers, keep = await connection.read_head(self.pool.stall if patience is None else patience)
        if method == "HEAD":
            return Response(status, headers, b""), keep
        return await self._rest(connection, status, headers, keep, limit)

    async def _rest(
        self, connection: Connection, status: int, headers: dict[str, str], keep: bool, limit: int
    ) -> tuple[Response, bool]:
        """What follows the head of an answer that is a message."""
        if status in (204, 304):
            return Response(status, headers, b""), keep
        body = await _message(connection, headers, limit)
        bounded = ("content-length" in headers) != ("transfer-encoding" in headers)
        return Response(status, headers, body), keep and bounded and status < REFUSED

    def _reader(
        self, origin: Origin, connection: Connection, headers: dict[str, str], length: int, keep: bool
    ) -> Reader | None:
        """The body that follows; None when it is announced to have another length."""
        if "transfer-encoding" in headers or "content-length" not in headers:
            return undeclared(self.pool, origin, connection, headers, length, keep)
        if headers["content-length"] != str(length):
            return None
        return _Body(self.pool, origin, connection, length, keep)


def media_type(headers: Mapping[str, str]) -> str:
    """The content type without its parameters, lower-case; "" where there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


class NoBytes:
    """The Reader over an empty range, which no server can be asked for."""

    async def readinto(self, buffer: memoryview) -> int:
        return 0

    def close(self) -> None:
        return


class _Body(Lease):
    """The Reader over an answer of known length."""

    __slots__ = ()

    async def readinto(self, buffer: memoryview) -> int:
        if self.left == 0:
            return 0
        if len(buffer) > self.left:
            buffer = buffer[: self.left]
        await self.connection.read_exactly(buffer)
        self.took(len(buffer))
        return len(buffer)


def _head(origin: Origin, method: str, target: str, headers: Headers, length: int | None) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
    size = "" if length is None else f"Content-Length: {length}\r\n"
    text = f"{method} {target} HTTP/1.1\r\nHost: {origin.netloc}\r\n{fields}{size}\r\n"
    lines = len(headers) + (3 if length is None else 4)
    if text.count("\n") != lines or text.count("\r") != lines:
        raise AssertionError("a line break inside a request line or header")
    return text.encode("latin-1")


async def _sent(connection: Connection) -> None:
    """Wait until all that was written is in the kernel. A connection lost after an answer came still has the answer."""
    try:
        await connection.drained()
    except ConnectionLost:
        if not connection.answered:
            raise


async def _message(connection: Connection, headers: dict[str, str], limit: int) -> bytes:
    """The whole body of an answer: Content-Length, chunked, or up to the end of the connection."""
    if "transfer-encoding" in headers and chunked(headers, connection.name):
        return await _chunked(connection, limit)
    if (text := headers.get("content-length")) is not None:
        if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > limit:
            raise WrongServer(f"{connection.name}: unusable Content-Length in the answer")
        length = int(text)
        if (held := connection.take_held(length)) is not None:
            return held
        body = bytearray(length)
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
    while size := await chunk_size(connection):
        if len(body) + size > limit:
            raise WrongServer(f"{connection.name}: the answer is longer than {limit} bytes")
        chunk = bytearray(size)
        await connection.read_exactly(memoryview(chunk))
        body += chunk
        await chunk_end(connection)
    return bytes(body)
