"""The HTTP door against scripted servers, on both loops."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from asynccopy.errors import ConnectionLost, ShortRead, Stalled, Unreachable, WrongServer
from asynccopy.model import ByteRange
from asynccopy.storage.http import BUFFER, HttpDoor, Response
from asynccopy.storage.memory.reader import MemoryReader
from asynccopy.storage.pool import Origin, Pool
from tests.scripted import CHUNKED, Script, Server, linger, ok, saying, serving

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the:DeprecationWarning")


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return request.param()


@pytest.fixture
async def door() -> AsyncIterator[HttpDoor]:
    async with aclosing(HttpDoor(stall=0.5)) as door:
        yield door
        assert not door.pool.busy, "a connection is still in use"
        assert door.pool.places.taken == 0, "a place was lost"


async def get(door: HttpDoor, server: Server, **more: int) -> Response:
    return await door.request(server.origin, "GET", "/x?y", [("X-Test", "1")], **more)


# --- messages -----------------------------------------------------------------------------------------------------


async def test_a_connection_is_kept_and_used_again(door: HttpDoor) -> None:
    async with serving(saying(ok(b"one", "X-A: 1", "x-a: 2"), ok(b""), ok(b"three"))) as server:
        first = await get(door, server)
        assert (first.status, first.body, first.headers["x-a"]) == (200, b"one", "1, 2")
        assert (await get(door, server)).body == b""
        assert (await get(door, server)).body == b"three"
        assert server.connections == 1
        assert server.requests[0] == f"GET /x?y HTTP/1.1\r\nHost: {server.origin.netloc}\r\nX-Test: 1\r\n\r\n".encode()


@pytest.mark.parametrize("headers", [["Connection: close"], ["connection: Close"]])
async def test_a_connection_that_the_server_closes_is_not_used_again(door: HttpDoor, headers: list[str]) -> None:
    async with serving(saying(ok(b"x", *headers), ok(b"never"))) as server:
        await get(door, server)
        await get(door, server)
        assert server.connections == 2


async def test_a_kept_connection_that_the_server_closes_is_noticed_before_an_upload(door: HttpDoor) -> None:
    """An upload cannot be repeated by the door, so it must not begin on a connection that is known to be dead."""

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            if server.connections == 1:
                writer.write(ok(b"x" * 100_000))
                await writer.drain()
                await asyncio.sleep(0.05)
                return
            await reader.readexactly(5)
            writer.write(ok(b"taken"))
            await reader.read()

        return run

    async with serving(script) as server:
        assert len((await get(door, server)).body) == 100_000
        await asyncio.sleep(0.15)
        assert (await upload(door, server, 5)).body == b"taken"


async def test_http_1_0_is_not_kept(door: HttpDoor) -> None:
    async with serving(saying(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx")) as server:
        assert (await get(door, server)).body == b"x"
        await get(door, server)
        assert server.connections == 2


async def test_a_kept_connection_that_went_stale_is_repeated_once_on_a_fresh_one(door: HttpDoor) -> None:
    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(ok(b"first" if server.connections == 1 else b"again"))
            await server.head(reader)  # the second request on this connection gets no answer

        return run

    async with serving(script) as server:
        assert (await get(door, server)).body == b"first"
        assert (await get(door, server)).body == b"again"
        assert server.connections == 2
        assert len(server.requests) == 3


async def test_a_fresh_connection_that_ends_is_an_error_and_not_repeated(door: HttpDoor) -> None:
    async with serving(saying(b"", close=True)) as server:
        with pytest.raises((ShortRead, ConnectionLost)):
            await get(door, server)
        assert server.connections == 1


async def test_what_comes_unasked_spoils_a_kept_connection(door: HttpDoor) -> None:
    async with serving(saying(ok(b"x") + ok(b"smuggled"), ok(b"y"))) as server:
        assert (await get(door, server)).body == b"x"
        assert (await get(door, server)).body == b"x"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (CHUNKED + b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\nX-Trailer: 1\r\n\r\n", b"a"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"z"), b"z"),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nz", b"z"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
    ids=["chunked", "trailers", "1xx", "no reason", "204"],
)
async def test_forms_of_answers(door: HttpDoor, answer: bytes, body: bytes) -> None:
    async with serving(saying(answer, answer)) as server:
        assert (await get(door, server)).body == body
        assert (await get(door, server)).body == body
        assert server.connections == 1


async def test_answers_in_single_bytes(door: HttpDoor) -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            for at in range(len(whole)):
                writer.write(whole[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)
            await reader.read()

        return run

    async with serving(script) as server:
        assert (await get(door, server)).body == b"abc"


async def test_a_body_that_ends_with_the_connection(door: HttpDoor) -> None:
    body = os.urandom(300_000)
    async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\n" + body, close=True)) as server:
        assert (await get(door, server)).body == body


async def test_a_body_that_ends_with_a_reset_or_a_stall_is_not_taken_for_whole(door: HttpDoor) -> None:
    """Without a length only the orderly end of the connection is the end of the body."""

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(0.1)
            if server.connections == 1:
                linger(writer)
                writer.transport.abort()
            else:
                await asyncio.sleep(10)

        return run

    async with serving(script) as server:
        with pytest.raises(ConnectionLost):
            await get(door, server)
        with pytest.raises(Stalled):
            await get(door, server)


async def test_a_large_message(door: HttpDoor) -> None:
    body = os.urandom(3 << 20)
    async with serving(saying(ok(body), ok(b"next"))) as server:
        assert (await get(door, server)).body == body
        assert (await get(door, server)).body == b"next"
        assert server.connections == 1


async def test_head_has_no_body(door: HttpDoor) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with serving(saying(answer, ok(b"x"))) as server:
        found = await door.request(server.origin, "HEAD", "/")
        assert (found.headers["content-length"], found.body) == ("1000", b"")
        assert (await get(door, server)).body == b"x"
        assert server.connections == 1


@pytest.mark.parametrize("limit", [10])
@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x" * 11),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 11,
    ],
    ids=["length", "chunked", "closing"],
)
async def test_an_answer_beyond_the_limit(door: HttpDoor, answer: bytes, limit: int) -> None:
    async with serving(saying(answer, close=True)) as server:
        with pytest.raises(WrongServer):
            await get(door, server, limit=limit)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1",
        b"",
    ],
)
async def test_answers_that_end_early(door: HttpDoor, answer: bytes) -> None:
    async with serving(saying(answer, close=True)) as server:
        with pytest.raises((ShortRead, ConnectionLost)):
            await get(door, server)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x00\x7c\xff\xff\xff\xff\x00\x00",  # a NameNode's RPC port
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"\r\n\r\n",
        bytes(20_000),
    ],
)
async def test_garbage(door: HttpDoor, answer: bytes) -> None:
    async with serving(saying(answer, close=True)) as server:
        with pytest.raises(WrongServer):
            await get(door, server)


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\nb", "a\rb"])
async def test_no_line_break_gets_into_a_request(door: HttpDoor, text: str) -> None:
    async with serving(saying(ok(b""))) as server:
        with pytest.raises(AssertionError):
            await door.request(server.origin, "GET", f"/{text}")
        with pytest.raises(AssertionError):
            await door.request(server.origin, "GET", "/", [("X", text)])
        with pytest.raises(AssertionError):
            await door.request(server.origin, "GET", "/", [(text, "x")])
        assert server.requests == []


# --- downloads ----------------------------------------------------------------------------------------------------


async def test_closing_a_reader_late_does_not_touch_who_has_its_connection_now(door: HttpDoor) -> None:
    async with serving(saying(ok(b"body"), ok(b"message"))) as server:
        reader = await door.download(server.origin, "GET", "/f", (), 4)
        assert not isinstance(reader, Response)
        assert await reader.readinto(memoryview(bytearray(4))) == 4
        following = asyncio.create_task(get(door, server))
        await asyncio.sleep(0)
        reader.close()
        assert (await following).body == b"message"
        assert server.connections == 1, "the connection was not the same: nothing is shown"


async def drink(door: HttpDoor, server: Server, length: int, step: int = BUFFER) -> bytes:
    reader = await door.download(server.origin, "GET", "/f", (), length)
    assert not isinstance(reader, Response), reader
    got, buffer = b"", memoryview(bytearray(step))
    try:
        while count := await reader.readinto(buffer):
            got += buffer[:count]
    finally:
        reader.close()
        reader.close()
    return got


@pytest.mark.parametrize("step", [1000, 16 * 1024, BUFFER, 1 << 20])
async def test_downloads(door: HttpDoor, step: int) -> None:
    body = os.urandom(700_001)
    async with serving(saying(ok(body))) as server:
        assert await drink(door, server, len(body), step) == body


@pytest.mark.parametrize("length", [4, 6])
async def test_a_download_of_another_length_is_an_answer(door: HttpDoor, length: int) -> None:
    async with serving(saying(ok(b"12345"))) as server:
        found = await door.download(server.origin, "GET", "/", (), length)
        assert isinstance(found, Response)
        assert (found.status, found.headers["content-length"], found.body) == (200, "5", b"")


async def test_a_refused_download_is_an_answer_with_its_body(door: HttpDoor) -> None:
    async with serving(saying(b"HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nwhy")) as server:
        found = await door.download(server.origin, "GET", "/", (), 10)
        assert isinstance(found, Response)
        assert (found.status, found.body) == (404, b"why")


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("good", [0, 1, 5000, 16 * 1024, 100_000])
async def test_a_broken_download_tells_how_much_was_good(door: HttpDoor, good: int, *, reset: bool) -> None:
    body = os.urandom(good)

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + body)
            await writer.drain()
            await asyncio.sleep(0.05)
            if reset:
                linger(writer)
                writer.transport.abort()

        return run

    async with serving(script) as server:
        reader = await door.download(server.origin, "GET", "/", (), 200_000)
        assert not isinstance(reader, Response)
        buffer = bytearray(200_000)
        with pytest.raises((ShortRead, ConnectionLost)) as broken:
            await reader.readinto(memoryview(buffer))
        reader.close()
        received = broken.value.received
        assert received <= good
        assert received == good or reset  # a reset may overtake bytes
        assert buffer[:received] == body[:received]


async def test_cancelling_a_download_ends_its_connection(door: HttpDoor) -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as server:
        task = asyncio.create_task(drink(door, server, 10))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# --- stalls -------------------------------------------------------------------------------------------------------


async def test_no_answer_is_a_stall(door: HttpDoor) -> None:
    async with serving(saying(b"")) as server:
        with pytest.raises(Stalled, match="no answer"):
            await get(door, server)


async def test_patience_for_one_answer(door: HttpDoor) -> None:
    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            await asyncio.sleep(1.2)
            writer.write(ok(b"late"))

        return run

    async with serving(script) as server:
        assert (await door.request(server.origin, "POST", "/", patience=5)).body == b"late"


def dripping(count: int, pause: float) -> Callable[[Server], Script]:
    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n")
            for _ in range(20_000 // count):
                writer.write(b"x" * count)
                await writer.drain()
                await asyncio.sleep(pause)

        return run

    return script


async def test_a_drip_is_a_stall(door: HttpDoor) -> None:
    async with serving(dripping(5, 0.05)) as server:  # 100 bytes/s
        with pytest.raises(Stalled, match="bytes/s"):
            await drink(door, server, 20_000)


async def test_slow_is_no_stall(door: HttpDoor) -> None:
    async with serving(dripping(1000, 0.08)) as server:
        assert len(await drink(door, server, 20_000)) == 20_000


async def test_a_slow_consumer_is_no_stall(door: HttpDoor) -> None:
    async with serving(saying(ok(b"x" * 30_000))) as server:
        reader = await door.download(server.origin, "GET", "/", (), 30_000)
        assert not isinstance(reader, Response)
        buffer = memoryview(bytearray(10_000))
        for _ in range(3):
            assert await reader.readinto(buffer) == 10_000
            await asyncio.sleep(0.7)
        reader.close()


def swallowing(rate: float | None, size: int) -> Callable[[Server], Script]:
    """Takes ``rate`` bytes/s of a request's body through a small window (None: nothing), then says ok."""

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            reader._limit = 2048  # type: ignore[attr-defined]
            await server.head(reader)
            left = size
            while left and rate is not None:
                left -= len(await reader.read(min(left, int(rate / 20))))
                await asyncio.sleep(0.05)
            if rate is None:
                await asyncio.sleep(30)
            writer.write(ok(b""))
            await writer.drain()
            await reader.read()

        return run

    return script


SMALL_WINDOW = 64 * 1024


@asynccontextmanager
async def narrow(script: Callable[[Server], Script], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server that takes bytes through a small window, from a door that buffers few in the kernel."""
    original = Pool.connect

    async def connect(self: Pool, origin: Origin):  # type: ignore[no-untyped-def]  # noqa: ANN202
        connection = await original(self, origin)
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        return connection

    monkeypatch.setattr(Pool, "connect", connect)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    server = Server()

    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        server.connections += 1
        try:
            await script(server)(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(connected, sock=listener, limit=4096)
    server.origin = Origin("http", "127.0.0.1", listener.getsockname()[1])
    try:
        yield server
    finally:
        listening.close()


async def test_an_upload_that_nobody_takes_is_a_stall(door: HttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with narrow(swallowing(None, 0), monkeypatch) as server:
        with pytest.raises(Stalled):
            await upload(door, server, 4 << 20)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_upload_taken_slowly_is_no_stall(
    door: HttpDoor, monkeypatch: pytest.MonkeyPatch, *, streamed: bool
) -> None:
    """As long as more than 1 KiB/s pass it goes on, and the server's time to answer begins after the body."""
    async with narrow(swallowing(150_000, BUFFER), monkeypatch) as server:
        if streamed:
            assert (await upload(door, server, BUFFER)).status == 200
        else:
            assert (await door.request(server.origin, "PUT", "/", (), bytes(BUFFER))).status == 200


# --- uploads ------------------------------------------------------------------------------------------------------


async def upload(door: HttpDoor, server: Server, size: int) -> Response:
    return await door.upload(server.origin, "PUT", "/k", (), size, MemoryReader(bytes(size), ByteRange(0, size)))


def taking(seen: list[bytes]) -> Callable[[Server], Script]:
    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            while True:
                head = await server.head(reader)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                seen.append(await reader.readexactly(length))
                writer.write(ok(b"done"))

        return run

    return script


@pytest.mark.parametrize("size", [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER + 7])
async def test_uploads(door: HttpDoor, size: int) -> None:
    seen: list[bytes] = []
    async with serving(taking(seen)) as server:
        body = os.urandom(size)
        for _ in range(3):  # the buffers of the first are used again by the next
            answer = await door.upload(server.origin, "PUT", "/k", (), size, MemoryReader(body, ByteRange(0, size)))
            assert answer.body == b"done"
        assert seen == [body] * 3
        assert server.connections == 1


async def test_an_unasked_continue_does_not_end_an_upload(door: HttpDoor) -> None:
    """HDFS's DataNode sends ``100 Continue`` unasked; an early final answer is another matter."""

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            got = await reader.readexactly(20 * BUFFER)
            writer.write(ok(str(len(got)).encode()))
            await reader.read()

        return run

    async with serving(script) as server:
        body = Slowly(20 * BUFFER, 0.005)
        answer = await door.upload(server.origin, "PUT", "/k", (), 20 * BUFFER, body)
        assert answer.body == str(20 * BUFFER).encode()


class Slowly:
    """A body that pauses before every buffer."""

    def __init__(self, size: int, pause: float) -> None:
        self._reader = MemoryReader(bytes(size), ByteRange(0, size))
        self._pause = pause

    async def readinto(self, buffer: memoryview) -> int:
        await asyncio.sleep(self._pause)
        return await self._reader.readinto(buffer)

    def close(self) -> None:
        self._reader.close()


async def test_a_refusal_in_the_middle_of_an_upload_is_the_answer(door: HttpDoor) -> None:
    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nwhy!")
            await writer.drain()
            while await reader.read(65536):
                pass

        return run

    async with serving(script) as server:
        size = 100 * BUFFER
        answer = await door.upload(server.origin, "PUT", "/k", (), size, Slowly(size, 0.002))
        assert (answer.status, answer.body) == (403, b"why!")
        await asyncio.sleep(0)
        assert not door.pool.idle.get(server.origin), "a connection with half a body in it was kept"


async def test_a_body_that_ends_early_or_fails_comes_out_unchanged(door: HttpDoor) -> None:
    class Broken:
        async def readinto(self, buffer: memoryview) -> int:
            raise KeyError("mine")

        def close(self) -> None: ...

    async with serving(taking([])) as server:
        with pytest.raises(ShortRead, match="promised"):
            await door.upload(server.origin, "PUT", "/", (), 10, MemoryReader(b"abc", ByteRange(0, 3)))
        with pytest.raises(KeyError, match="mine"):
            await door.upload(server.origin, "PUT", "/", (), 10, Broken())


def ended(how: list[str]) -> Callable[[Server], Script]:
    """Notes how each connection came to its end: by a reset, or politely."""

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            try:
                while await reader.read(65536):
                    pass
                how.append("end of stream")
            except ConnectionResetError:
                how.append("reset")

        return run

    return script


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stopped_by", ["cancel", "short body", "closing the door"])
async def test_an_unfinished_upload_ends_by_a_reset(stopped_by: str) -> None:
    how: list[str] = []
    door = HttpDoor(stall=5, reset=True)
    async with serving(ended(how)) as server:
        size = 10 * BUFFER
        if stopped_by == "short body":
            with pytest.raises(ShortRead):
                await door.upload(
                    server.origin, "PUT", "/", (), size, MemoryReader(bytes(BUFFER), ByteRange(0, BUFFER))
                )
        else:
            task = asyncio.create_task(door.upload(server.origin, "PUT", "/", (), size, Slowly(size, 0.05)))
            await until(lambda: server.requests)
            if stopped_by == "cancel":
                task.cancel()
            else:
                await door.aclose()
            with pytest.raises((asyncio.CancelledError, ConnectionLost)):
                await task
        await until(lambda: how)
        assert how == ["reset"]
    await door.aclose()


KILLED = textwrap.dedent(
    """
    import asyncio, sys
    from asynccopy.storage.http import HttpDoor
    from asynccopy.storage.pool import Origin

    class Endless:
        async def readinto(self, buffer):
            await asyncio.sleep(0.01)
            return len(buffer)
        def close(self): ...

    async def main():
        door = HttpDoor(reset=True)
        await door.upload(Origin("http", "127.0.0.1", int(sys.argv[1])), "PUT", "/", (), 1 << 40, Endless())

    if sys.argv[2] == "uvloop":
        import uvloop
        uvloop.run(main())
    else:
        asyncio.run(main())
    """
)


async def test_kill_9_in_the_middle_of_an_upload_is_a_reset(request: pytest.FixtureRequest) -> None:
    how: list[str] = []
    async with serving(ended(how)) as server:
        loop = "uvloop" if "uvloop" in request.node.name else "asyncio"
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(server.origin.port), loop])
        try:
            await until(lambda: server.requests)
            await asyncio.sleep(0.1)
        finally:
            process.send_signal(signal.SIGKILL)
        await until(lambda: how)
        process.wait()
        assert how == ["reset"]


# --- connecting ---------------------------------------------------------------------------------------------------


async def test_nobody_there(door: HttpDoor) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        origin = Origin("http", "127.0.0.1", free.getsockname()[1])
        with pytest.raises(Unreachable, match="refused"):
            await door.request(origin, "GET", "/")


@pytest.fixture
def deaf() -> Iterator[Origin]:
    """A port that answers no SYN: its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        time.sleep(0.1)
        yield Origin("http", "127.0.0.1", listening.getsockname()[1])


async def test_a_server_that_answers_no_connection_is_given_up(deaf: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynccopy.storage.pool.CONNECT", 0.2)
    async with aclosing(HttpDoor(stall=0.5)) as door:
        with pytest.raises(Unreachable, match="no answer"):
            await door.request(deaf, "GET", "/")
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert door.pool.places.taken == 0


@pytest.mark.parametrize("after", [0.0, 0.1, 0.2, 0.25, 0.3])
async def test_cancelled_while_connecting(deaf: Origin, after: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the very moment in which the time is over: never taken for a time-out once it was cancelled."""
    monkeypatch.setattr("asynccopy.storage.pool.CONNECT", 0.2)
    async with aclosing(HttpDoor(stall=0.1)) as door:
        task = asyncio.create_task(door.request(deaf, "GET", "/"))
        await asyncio.sleep(after)
        cancelled = task.cancel()
        [done], _ = await asyncio.wait((task,))
        assert done.cancelled() if cancelled else isinstance(done.exception(), Unreachable)
        assert door.pool.places.taken == 0


async def test_never_more_connections_than_places() -> None:
    most = 0
    now = 0

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            nonlocal most, now
            await server.head(reader)
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            writer.write(ok(b"", "Connection: close"))

        return run

    async with serving(script) as server, aclosing(HttpDoor(connections=3, stall=5)) as door:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(door.request(server.origin, "GET", "/"))
        assert most == 3
        assert door.pool.places.taken == 0


async def test_cancelled_waiters_lose_no_place() -> None:
    async with serving(saying(b"")) as server, aclosing(HttpDoor(connections=2, stall=5)) as door:
        tasks = [asyncio.create_task(door.request(server.origin, "GET", "/")) for _ in range(6)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
        assert door.pool.places.taken == 0
        assert not door.pool.busy


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate for the name ``localhost`` alone."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, chain


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    return context


async def test_tls_proves_the_name(certificate: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[1]))
    body = os.urandom(3 * BUFFER + 5)
    seen: list[bytes] = []
    async with (
        serving(taking(seen), ssl=server_context(certificate)) as server,
        aclosing(HttpDoor(stall=5, tls=trusting, reset=True)) as door,
    ):
        right = Origin("https", "localhost", server.origin.port)
        size = len(body)
        for _ in range(2):
            answer = await door.upload(right, "PUT", "/k", (), size, MemoryReader(body, ByteRange(0, size)))
            assert answer.body == b"done"
        assert seen == [body] * 2
        with pytest.raises(WrongServer, match="TLS"):
            await door.request(server.origin, "GET", "/")  # by its address, which the certificate does not name
        assert len(server.requests) == 2


async def test_tls_downloads_whole_and_broken(certificate: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[1]))
    body = os.urandom(500_001)
    async with aclosing(HttpDoor(stall=2, tls=trusting)) as door:
        async with serving(saying(ok(body)), ssl=server_context(certificate)) as server:
            server.origin = Origin("https", "localhost", server.origin.port)
            assert await drink(door, server, len(body)) == body
        cut = ok(body)[:-1000]
        async with serving(saying(cut, close=True), ssl=server_context(certificate)) as server:
            server.origin = Origin("https", "localhost", server.origin.port)
            with pytest.raises((ShortRead, ConnectionLost)):
                await drink(door, server, len(body))


async def test_a_certificate_that_nobody_vouches_for(door: HttpDoor, certificate: tuple[Path, Path]) -> None:
    async with serving(taking([]), ssl=server_context(certificate)) as server:
        with pytest.raises(WrongServer, match="TLS"):
            await door.request(Origin("https", "localhost", server.origin.port), "GET", "/")
        assert server.requests == []


async def test_plain_behind_https_and_tls_behind_http(door: HttpDoor, certificate: tuple[Path, Path]) -> None:
    def answering(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        return run

    async with serving(answering) as server:
        with pytest.raises(WrongServer, match="TLS"):
            await door.request(Origin("https", "127.0.0.1", server.origin.port), "GET", "/")
    async with serving(taking([]), ssl=server_context(certificate)) as server:
        with pytest.raises((WrongServer, ConnectionLost, ShortRead)):
            await door.request(Origin("http", "127.0.0.1", server.origin.port), "GET", "/")
