"""One listening HTTP server, and how a reply goes out: whole, in pieces, or damaged as a fault wants it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

from asynccopy.simulators.faults import (
    Action,
    Call,
    Cut,
    Delay,
    ErrorInBody,
    FlipBit,
    LostReply,
    Reset,
    Slow,
    Stall,
    Status,
)

PIECE = 256 * 1024
"""How many bytes of a large body are made, read or sent at once."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Reply:
    """An answer before it is sent: a body in memory, or ``length`` bytes in pieces.

    ``length`` may be given beside an empty body to answer a HEAD.
    """

    __slots__ = ("body", "close", "headers", "length", "pieces", "status")

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        pieces: AsyncIterator[bytes] | None = None,
        length: int | None = None,
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        self.pieces = pieces
        self.length = len(body) if length is None else length
        self.close = close


class HttpServer:
    """A handler listening on a port of 127.0.0.1; ``async with`` starts and stops it."""

    def __init__(self, handler: Handler, port: int = 0, latency: float = 0.0) -> None:
        """``port`` 0 takes a free one. ``latency``: seconds every request waits first."""
        self.port = port
        self._handler = handler
        self._latency = latency
        self._web: web.Server | None = None
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        # Lines of 64 KiB: an HDFS path of 8,000 bytes is legal, and percent-encoding makes it three times as long.
        self._web = web.Server(
            self._late if self._latency else self._handler,
            access_log=None,
            max_line_size=65536,
            auto_decompress=False,
            read_bufsize=PIECE,
        )
        self._server = await asyncio.get_running_loop().create_server(self._web, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Listen no more and end every connection. May be called twice."""
        assert self._server is not None
        assert self._web is not None
        self._server.close()
        # Not 0, which aiohttp takes for "wait for ever": a stalled reply must not hold up the stop.
        await self._web.shutdown(timeout=0.05)

    async def _late(self, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(self._latency)
        return await self._handler(request)


def reset(request: web.BaseRequest) -> web.Response:
    """End the connection by a TCP reset. The response is for aiohttp, which finds nobody to send it to."""
    if request.transport is not None:
        # Zero linger time: close sends RST instead of FIN.
        peer = request.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def answer(request: web.BaseRequest, call: Call, work: Callable[[], Awaitable[Reply]]) -> web.StreamResponse:
    """Do the work and send what it replies, unless or except as ``call.action`` has it."""
    action = call.action
    if action is None:
        return await _send(request, await work())
    match action:
        case Reset():
            return reset(request)
        case Status(code, body, headers):
            return web.Response(status=code, body=body, headers=headers)
        case Delay(seconds):
            await asyncio.sleep(seconds)
    reply = await work()
    if isinstance(action, LostReply):
        return reset(request)
    return await _send_damaged(request, reply, action)


def _response(reply: Reply) -> web.StreamResponse:
    if reply.pieces is None and reply.length == len(reply.body):
        response: web.StreamResponse = web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        response.headers.setdefault("Content-Length", str(reply.length))  # aiohttp leaves out a 0 in answers to HEAD
    else:
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        response.content_length = reply.length
    if reply.close:
        response.force_close()
    return response


async def _send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response = _response(reply)
    if reply.pieces is not None:
        await response.prepare(request)
        async for piece in reply.pieces:
            await response.write(piece)
        await response.write_eof()
    return response


async def _send_damaged(request: web.BaseRequest, reply: Reply, action: Action) -> web.StreamResponse:
    """Send a reply in pieces, so that a fault can strike between any two bytes."""
    if request.method == "HEAD":
        if isinstance(action, Stall):
            await asyncio.sleep(action.seconds)
        return await _send(request, reply)
    pieces = _whole(reply.body) if reply.pieces is None else reply.pieces
    match action:
        case Stall(seconds, after):
            pieces = _pause(pieces, after, seconds)
        case Slow(rate):
            pieces = slowly(pieces, rate)
        case Cut(after):
            pieces = _first(pieces, after)
        case FlipBit(offset, bit) if not request.body_exists:
            pieces = flipped(pieces, offset, bit)
        case ErrorInBody(after, body):
            pieces = _overwritten(pieces, after, body[: max(0, reply.length - after)])
    if isinstance(action, Stall) and action.after == 0:
        await asyncio.sleep(action.seconds)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = reply.length
    if reply.close:
        response.force_close()
    await response.prepare(request)
    async for piece in pieces:
        await response.write(piece)
    if isinstance(action, Cut) and request.transport is not None:
        if action.reset:
            return reset(request)
        request.transport.close()
    else:
        await response.write_eof()
    return response


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _first(pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece[:limit]
        limit -= len(piece)
        if limit <= 0:
            return


async def _pause(pieces: AsyncIterator[bytes], after: int, seconds: float) -> AsyncIterator[bytes]:
    at = 0
    async for piece in pieces:
        if at < after <= at + len(piece):
            yield piece[: after - at]
            await asyncio.sleep(seconds)
            yield piece[after - at :]
        else:
            yield piece
        at += len(piece)


async def slowly(pieces: AsyncIterator[bytes], rate: int) -> AsyncIterator[bytes]:
    """The same bytes, at most ``rate`` a second, ten times a second."""
    step = max(1, rate // 10)
    async for piece in pieces:
        for start in range(0, len(piece), step):
            part = piece[start : start + step]
            await asyncio.sleep(len(part) / rate)
            yield part


async def flipped(pieces: AsyncIterator[bytes], offset: int, bit: int) -> AsyncIterator[bytes]:
    """The same bytes but for one bit."""
    async for piece in pieces:
        if 0 <= offset < len(piece):
            damaged = bytearray(piece)
            damaged[offset] ^= 1 << bit
            piece = bytes(damaged)
        offset -= len(piece)
        yield piece


async def _overwritten(pieces: AsyncIterator[bytes], offset: int, by: bytes) -> AsyncIterator[bytes]:
    at = 0
    async for piece in pieces:
        start, end = max(offset, at), min(offset + len(by), at + len(piece))
        if start < end:
            piece = piece[: start - at] + by[start - offset : end - offset] + piece[end - at :]
        at += len(piece)
        yield piece
