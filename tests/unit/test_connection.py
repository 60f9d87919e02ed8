"""One connection, fed by hand: any cutting of what comes gives the same reading."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccopy.errors import ConnectionLost, ShortRead, Stalled, WrongServer
from asynccopy.storage.connection import HEAD, SCRATCH, Connection


class Wire:
    """A transport that delivers bytes in given sizes whenever reading is on."""

    def __init__(self, connection: Connection, data: bytes, sizes: list[int], *, end: bool = True) -> None:
        self.connection, self.data, self.sizes, self.end = connection, data, sizes, end
        self.reading, self.closing, self.buffered = True, False, 0
        connection.connection_made(cast("asyncio.BaseTransport", self))
        asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        if self.closing:
            return
        if self.reading and self.data:
            size = min(self.sizes.pop(0) if self.sizes else HEAD, len(self.data))
            buffer = self.connection.get_buffer(-1)
            assert len(buffer) > 0, "asked to read into an empty buffer"
            size = min(size, len(buffer))
            buffer[:size] = self.data[:size]
            self.data = self.data[size:]
            self.connection.buffer_updated(size)
        elif self.reading and self.end and not self.data:
            self.closing = True
            self.connection.eof_received()
            self.connection.connection_lost(None)
            return
        if self.reading:
            asyncio.get_running_loop().call_soon(self.pump)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            asyncio.get_running_loop().call_soon(self.pump)

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def write(self, data: Any) -> None: ...

    def set_write_buffer_limits(self, high: int, low: int = 0) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def get_extra_info(self, name: str) -> None:
        return None


def wired(data: bytes, sizes: list[int], *, end: bool = True) -> Connection:
    connection = Connection(asyncio.get_running_loop(), "server", memoryview(bytearray(SCRATCH)))
    Wire(connection, data, sizes, end=end)
    return connection


cuts = st.lists(st.integers(1, 400), max_size=60)


@given(cuts, st.lists(st.integers(0, 9000), min_size=1, max_size=5), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
async def test_heads_and_bodies_in_any_pieces(sizes: list[int], bodies: list[int], interim: int) -> None:
    data = b""
    for length in bodies:
        data += b"HTTP/1.1 100 Continue\r\n\r\n" * interim
        data += b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(range(256)) * 40
        data = data[: len(data) - 256 * 40 + length]
    connection = wired(data, sizes)
    for length in bodies:
        status, headers, keep = await connection.read_head(10)
        assert (status, headers["content-length"], keep) == (200, str(length), True)
        body = bytearray(length)
        await connection.read_exactly(memoryview(body))
        assert body == (bytes(range(256)) * 40)[:length]
    assert await connection.read_some() == b""


@given(cuts, st.integers(0, 40_000), st.integers(1, 50_000))
@settings(max_examples=60, deadline=None)
async def test_a_short_body_says_what_is_good(sizes: list[int], length: int, wanted: int) -> None:
    data = (bytes(range(251)) * 200)[:length]
    connection = wired(data, sizes)
    buffer = bytearray(wanted)
    if wanted <= length:
        await connection.read_exactly(memoryview(buffer))
        assert buffer == data[:wanted]
        return
    with pytest.raises(ShortRead) as broken:
        await connection.read_exactly(memoryview(buffer))
    assert broken.value.received == length
    assert buffer[:length] == data


@given(cuts)
@settings(max_examples=30, deadline=None)
async def test_a_head_that_does_not_end(sizes: list[int]) -> None:
    with pytest.raises(WrongServer):
        await wired(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 3 * HEAD, sizes, end=False).read_head(10)


@given(cuts)
@settings(max_examples=30, deadline=None)
async def test_lines_across_the_end_of_the_spare_buffer(sizes: list[int]) -> None:
    lines = [b"%06d" % n + b"z" * (n * 7 % 5000) + b"\r\n" for n in range(20)]
    connection = wired(b"".join(lines), sizes)
    for line in lines:
        assert await connection.read_until(b"\r\n") == line


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("data", "answered"),
    [
        (b"", False),
        (b"HTTP/1.", False),
        (b"HTTP/1.1 1", False),
        (b"HTTP/1.1 100 Continue\r\n\r", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 4", True),
        (b"HTTP/1.1 403 Forbidden\r\n", True),
        (b"garbage", True),
    ],
)
async def test_what_counts_as_an_answer(data: bytes, *, answered: bool) -> None:
    connection = wired(data, [], end=False)
    await settle()
    assert connection.answered is answered


async def test_a_failure_reaches_who_waits_and_who_comes_later() -> None:
    connection = wired(b"", [], end=False)
    reading = asyncio.create_task(connection.read_some())
    await settle()
    connection.fail(Stalled("too slow"))
    with pytest.raises(Stalled):
        await reading
    with pytest.raises(Stalled):
        await connection.drained()
    with pytest.raises(Stalled):
        await connection.read_exactly(memoryview(bytearray(1)))


async def test_a_lost_connection_wakes_the_writer() -> None:
    connection = wired(b"", [], end=False)
    connection.pause_writing()
    writing = asyncio.create_task(connection.drained())
    await settle()
    assert not writing.done()
    connection.connection_lost(OSError("broken pipe"))
    with pytest.raises(ConnectionLost, match="broken pipe"):
        await writing


async def test_only_a_connection_at_rest_is_reusable() -> None:
    assert wired(b"", [], end=False).reusable
    spoiled = wired(b"x", [], end=False)
    ended = wired(b"", [])
    await settle()
    assert not spoiled.reusable
    assert not ended.reusable
