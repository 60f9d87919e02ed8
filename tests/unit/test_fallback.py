"""Bodies that do not tell their length: exactly the bytes asked for, or an error that says how many were good."""

from __future__ import annotations

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
import uvloop

from asynccopy.errors import ConnectionLost, ServerTrouble, ShortRead, Stalled, WrongServer
from asynccopy.storage.http import BUFFER, HttpDoor, Response
from asynccopy.storage.interface import Reader
from tests.scripted import CHUNKED, Script, Server, linger, ok, saying, serving

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the:DeprecationWarning")

BODY = os.urandom(700_001)
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
OLD = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    return request.param()


@pytest.fixture
async def door() -> AsyncIterator[HttpDoor]:
    async with aclosing(HttpDoor(stall=0.5)) as door:
        yield door
        assert not door.pool.busy, "a connection is still in use"
        assert door.pool.places.taken == 0, "a place was lost"


def in_chunks(body: bytes, size: int, last: bytes = b"0\r\n\r\n") -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return CHUNKED + b"".join(b"%x;note=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + last


async def opened(door: HttpDoor, server: Server, length: int) -> Reader:
    reader = await door.download(server.origin, "GET", "/f", (), length)
    assert not isinstance(reader, Response), reader
    return reader


async def drink(door: HttpDoor, server: Server, length: int, step: int = BUFFER) -> bytes:
    reader = await opened(door, server, length)
    got, buffer = b"", memoryview(bytearray(step))
    try:
        while count := await reader.readinto(buffer):
            got += buffer[:count]
    finally:
        reader.close()
        reader.close()
    return got


# --- taken --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1000, 16 * 1024, BUFFER, 1 << 20])
@pytest.mark.parametrize("chunk", [977, 8192, 300_000, 1 << 20])
async def test_chunks_of_any_size_into_buffers_of_any_size(door: HttpDoor, chunk: int, step: int) -> None:
    answer = in_chunks(BODY, chunk)
    async with serving(saying(answer, answer)) as server:
        assert await drink(door, server, len(BODY), step) == BODY
        assert await drink(door, server, len(BODY), step) == BODY
        assert server.connections == 1, "a body that ended properly leaves its connection for the next"


@pytest.mark.parametrize("head", [CLOSING, OLD], ids=["closing", "HTTP/1.0"])
@pytest.mark.parametrize("step", [1000, BUFFER, 1 << 20])
async def test_up_to_the_end_of_the_connection(door: HttpDoor, head: bytes, step: int) -> None:
    async with serving(saying(head + BODY, close=True)) as server:
        assert await drink(door, server, len(BODY), step) == BODY


@pytest.mark.parametrize(
    "answer",
    [
        in_chunks(b"12345", 2, b"0\r\nX-Trailer: 1\r\n\r\n"),
        CHUNKED.replace(b"chunked\r\n", b"Chunked\r\nContent-Encoding: identity\r\n") + b"05\r\n12345\r\n0\r\n\r\n",
        OLD.replace(b"OK\r\n", b"OK\r\nContent-Encoding: none\r\n") + b"12345",
        OLD.replace(b"OK\r\n", b"OK\r\nContent-Length: 5\r\n") + b"12345",
        CLOSING.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: identity\r\n\r\n") + b"12345",
        b"HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
        CHUNKED.replace(b"OK\r\n", b"OK\r\nContent-Length: 9\r\n") + b"5\r\n12345\r\n0\r\n\r\n",
    ],
    ids=["trailers", "identity", "none", "HTTP/1.0 with length", "identity coding", "206", "both lengths"],
)
async def test_legal_forms(door: HttpDoor, answer: bytes) -> None:
    async with serving(saying(answer, close=True)) as server:
        assert await drink(door, server, 5) == b"12345"


async def test_two_lengths_spoil_the_connection(door: HttpDoor) -> None:
    answer = CHUNKED.replace(b"OK\r\n", b"OK\r\nContent-Length: 5\r\n") + b"5\r\n12345\r\n0\r\n\r\n"
    async with serving(saying(answer, answer)) as server:
        assert await drink(door, server, 5) == b"12345"
        assert await drink(door, server, 5) == b"12345"
        assert server.connections == 2


async def test_a_kept_connection_that_went_stale_is_repeated_once(door: HttpDoor) -> None:
    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(in_chunks(BODY, 50_000))
            await server.head(reader)  # the second request on this connection gets no answer

        return run

    async with serving(script) as server:
        assert await drink(door, server, len(BODY)) == BODY
        assert await drink(door, server, len(BODY)) == BODY
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_many_downloads_from_one_server_leave_one_connection(door: HttpDoor) -> None:
    async with serving(saying(*[ok(b"12345")] * 20)) as server:
        for _ in range(20):
            assert await drink(door, server, 5) == b"12345"
        assert server.connections == 1
        assert [len(kept) for kept in door.pool.idle.values()] == [1]


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [in_chunks(BODY, 9000), CLOSING + BODY, OLD + BODY], ids=["chunked", "closing", "HTTP/1.0"]
)
@pytest.mark.parametrize("missing", [1, 100_000, len(BODY)])
async def test_more_than_was_asked_for(door: HttpDoor, answer: bytes, missing: int) -> None:
    length = len(BODY) - missing
    if length == 0:
        length = 1
    async with serving(saying(answer, close=True)) as server:
        with pytest.raises(ServerTrouble, match="longer"):
            await drink(door, server, length)


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (in_chunks(BODY, 9000), len(BODY)),
        (CLOSING + BODY, len(BODY)),
        (OLD + BODY, len(BODY)),
        (CLOSING, 0),
        (CHUNKED + b"0\r\n\r\n", 0),
        (CHUNKED + b"186A0\r\n" + BODY[:70_000], 70_000),
        (CHUNKED + b"3\r\n" + BODY[:3] + b"\r\n", 3),
        (CHUNKED + b"3\r\n" + BODY[:3], 0),
        (CHUNKED, 0),
    ],
    ids=["whole", "closing", "HTTP/1.0", "empty", "no chunk", "in a chunk", "after a chunk", "no CRLF", "head"],
)
async def test_fewer_than_were_asked_for(door: HttpDoor, answer: bytes, good: int) -> None:
    async with serving(saying(answer, close=True)) as server:
        reader = await opened(door, server, len(BODY) + 5)
        buffer = bytearray(len(BODY) + 5)
        with pytest.raises(ShortRead) as broken:
            await reader.readinto(memoryview(buffer))
        reader.close()
        assert broken.value.received == good
        assert buffer[:good] == BODY[:good]


async def test_a_body_that_ended_without_its_last_chunk_is_not_whole(door: HttpDoor) -> None:
    async with serving(saying(in_chunks(BODY, 9000, b""), close=True)) as server:
        with pytest.raises(ShortRead):
            await drink(door, server, len(BODY))


@pytest.mark.parametrize("form", [in_chunks(BODY, 9000, b""), CLOSING + BODY], ids=["chunked", "closing"])
async def test_a_reset_is_no_end(door: HttpDoor, form: bytes) -> None:
    """Though every byte has come: without a length only an orderly end tells that there are no more."""

    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(form)
            await writer.drain()
            await asyncio.sleep(0.1)
            linger(writer)
            writer.transport.abort()

        return run

    async with serving(script) as server:
        with pytest.raises(ConnectionLost):
            await drink(door, server, len(BODY))


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-5\r\n",
        CHUNKED + b"+5\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"0x5\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"1_0\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffffff\r\n",
        CHUNKED + b"4\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"5\r\n12345\r\n0\r\n" + b"X: y\r\n" * 1000,
        CHUNKED + b"5;" + b"x" * 20_000,
        CHUNKED.replace(b"chunked", b"gzip, chunked") + b"5\r\n12345\r\n0\r\n\r\n",
        CHUNKED.replace(b"chunked", b"chunked, chunked") + b"5\r\n12345\r\n0\r\n\r\n",
        CHUNKED.replace(b"OK\r\n", b"OK\r\nContent-Encoding: gzip\r\n") + b"5\r\n12345\r\n0\r\n\r\n",
        CLOSING.replace(b"OK\r\n", b"OK\r\nContent-Encoding: br\r\n") + b"12345",
    ],
)
async def test_nothing_is_guessed_or_unpacked(door: HttpDoor, answer: bytes) -> None:
    async with serving(saying(answer, close=True)) as server:
        with pytest.raises(WrongServer):
            await drink(door, server, 5)


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"deflate"])
async def test_a_message_in_an_unknown_coding_is_refused(door: HttpDoor, coding: bytes) -> None:
    async with serving(saying(CHUNKED.replace(b"chunked", coding) + b"5\r\n12345\r\n0\r\n\r\n", close=True)) as server:
        with pytest.raises(WrongServer, match="Transfer-Encoding"):
            await door.request(server.origin, "GET", "/")


async def test_an_answer_of_another_kind_is_a_message(door: HttpDoor) -> None:
    said = b'{"Location": "http://dn:9864/x"}'
    message = ok(said, "Content-Type: Application/JSON;charset=utf-8")
    body = ok(said, "Content-Type: application/octet-stream")
    async with serving(saying(message, message, body)) as server:
        for _ in range(2):
            found = await door.download(server.origin, "GET", "/", (), len(said), kind="application/octet-stream")
            assert isinstance(found, Response)
            assert found.body == said
        reader = await door.download(server.origin, "GET", "/", (), len(said), kind="application/octet-stream")
        assert not isinstance(reader, Response)
        reader.close()
        assert server.connections == 1


# --- stalls and cancelling ----------------------------------------------------------------------------------------


def dripping(head: bytes, form: Callable[[bytes], bytes], count: int, pause: float) -> Callable[[Server], Script]:
    def script(server: Server) -> Script:
        async def run(reader: StreamReader, writer: StreamWriter) -> None:
            await server.head(reader)
            writer.write(head)
            for at in range(0, 20_000, count):
                writer.write(form(BODY[at : at + count]))
                await writer.drain()
                await asyncio.sleep(pause)
            writer.write(form(b""))

        return run

    return script


def as_chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


FORMS = pytest.mark.parametrize(("head", "form"), [(CHUNKED, as_chunk), (OLD, bytes)], ids=["chunked", "HTTP/1.0"])


@FORMS
async def test_a_drip_is_a_stall(door: HttpDoor, head: bytes, form: Callable[[bytes], bytes]) -> None:
    async with serving(dripping(head, form, 5, 0.05)) as server:
        with pytest.raises(Stalled, match="bytes/s"):
            await drink(door, server, 20_000)


@FORMS
async def test_slow_is_no_stall(door: HttpDoor, head: bytes, form: Callable[[bytes], bytes]) -> None:
    async with serving(dripping(head, form, 1000, 0.08)) as server:
        assert await drink(door, server, 20_000) == BODY[:20_000]


@FORMS
async def test_an_end_that_never_comes_is_a_stall(door: HttpDoor, head: bytes, form: Callable[[bytes], bytes]) -> None:
    async with serving(saying(head + form(BODY[:20_000]))) as server:
        with pytest.raises(Stalled):
            await drink(door, server, 20_000)


@FORMS
async def test_cancelled_at_every_await(door: HttpDoor, head: bytes, form: Callable[[bytes], bytes]) -> None:
    """The fixture sees that no connection and no place stays taken."""
    async with serving(dripping(head, form, 1000, 0.0)) as server:
        steps = 0
        while True:
            task = asyncio.create_task(drink(door, server, 20_000, 3000))
            for _ in range(steps):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            await asyncio.wait([task])
            assert not door.pool.busy
            assert door.pool.places.taken == 0
            if done:
                break
            steps += 1 + steps // 8
        assert task.result() == BODY[:20_000]
        assert steps > 10
