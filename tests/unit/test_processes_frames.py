"""Frames between processes: what crosses comes out as it went in, and garbage is told as such."""

from __future__ import annotations

import asyncio
import inspect
import random
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from asynccopy import errors
from asynccopy.errors import AsyncCopyError, PermissionDenied, Refused, Throttled
from asynccopy.executors.answers import answer
from asynccopy.executors.backlog import Flight
from asynccopy.executors.frames import (
    MAX_FRAME,
    Answer,
    AskUpload,
    Assignment,
    Assignments,
    Channel,
    FrameError,
    Outcome,
    Report,
    SetUp,
    Stop,
    ToParent,
    ToWorker,
    Trouble,
    to_parent,
    to_worker,
)
from asynccopy.executors.inline import Order
from asynccopy.executors.recipe import Recipe
from asynccopy.executors.worker import Remote, RemoteLog
from asynccopy.model import Attributes, BlockDigest, Evidence, FileStatus, FileVersion, OpenUpload, PartReceipt
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Capabilities
from asynccopy.storage.registry import Place, Settings
from asynccopy.transfer.copy import Copied
from tests.faults.wrapped import MemoryLog

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, AsyncCopyError) and kind is not AsyncCopyError
]
STATUS = FileStatus("d/\u00e9", 5, 17, 3, False, 1 << 20, Attributes("m\u00fcller", "users", 0o1750, 9, 3))


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Channel[ToParent], Channel[ToWorker]]]:
    parent, worker = socket.socketpair()
    channels = await Channel.over(parent, to_parent), await Channel.over(worker, to_worker)
    yield channels
    for channel in channels:
        channel.close()


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_comes_out_as_it_went_in(kind: type[AsyncCopyError]) -> None:
    error = kind("what \udc80 happened")
    error.hint = "do this"
    found = Trouble.of(error).error()
    assert type(found) is kind
    assert (found.message, found.hint) == ("what \\udc80 happened", "do this")
    assert (kind("x").hint, found.retryable, found.fatal) == (kind("x").hint, kind.retryable, kind.fatal)


def test_what_only_one_class_has() -> None:
    found = Trouble.of(Throttled("slow down", delay=2.5)).error()
    assert isinstance(found, Throttled)
    assert found.delay == 2.5


def test_a_backends_own_class_goes_as_the_nearest_known_one() -> None:
    class Odd(Refused):
        pass

    assert type(Trouble.of(Odd("x")).error()) is Refused


def test_a_class_that_there_is_not() -> None:
    with pytest.raises(FrameError):
        Trouble("SystemExit", "", "").error()


async def test_frames_go_both_ways(pair: tuple[Channel[ToParent], Channel[ToWorker]]) -> None:
    parent, worker = pair
    recipe = Recipe(False, Capabilities("MD5"), "size", None, 3, False, RetryPolicy())
    set_up = SetUp(Place("a", Settings(bandwidth=1.5)), Place("b", Settings(capabilities=Capabilities(None))), recipe)
    down: list[ToWorker] = [set_up, Assignments([Assignment(7, STATUS, True)]), Stop()]
    for frame in down:
        parent.send(frame)
    assert [await worker.receive() for _ in down] == down
    copied = Outcome(7, Copied(Evidence("checksum", "a", "b", "c"), 2))
    failed = Outcome(8, None, Trouble.of(PermissionDenied("no")))
    up: list[ToParent] = [Report([(7, 5)], [(Trouble.of(Throttled("t")), 0.5)], [copied, failed]), AskUpload(1, 7)]
    for frame in up:
        worker.send(frame)
    assert [await parent.receive() for _ in up] == up
    parent.close()
    assert await worker.receive() is None
    worker.send(Report())  # to nobody: not an error


@pytest.mark.parametrize(
    "raw",
    [
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\1\xc1",
        b"\0\0\0\3abc",
        (2).to_bytes(4, "big") + msgspec.msgpack.encode(["?"])[:2],
    ],
)
async def test_garbage_is_told(raw: bytes) -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours, to_parent)
    with theirs:
        theirs.sendall(raw)
        with pytest.raises(FrameError):
            await channel.receive()
    channel.close()


async def test_random_bytes_are_garbage_or_the_end() -> None:
    chance = random.Random(3)
    good = msgspec.msgpack.encode(Report([(1, 2)], [], [Outcome(3, None, Trouble("Refused", "m", "h"))]))
    for _ in range(300):
        body = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, to_parent)
        with theirs:
            theirs.sendall(len(body).to_bytes(4, "big") + body)
        try:
            while await channel.receive() is not None:
                pass
        except FrameError:
            pass
        channel.close()


async def test_a_frame_cut_by_a_death_is_an_end(pair: tuple[Channel[ToParent], Channel[ToWorker]]) -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours, to_parent)
    with theirs:
        theirs.sendall(b"\0\0\0\x20half")
    assert await channel.receive() is None
    channel.close()


async def test_an_upload_of_many_large_receipts_comes_in_several_frames() -> None:
    """Raw CRCs of cut blocks: 40 parts with 512 KiB each."""
    ours, theirs = socket.socketpair()
    parent, worker = await Channel.over(ours, to_parent), await Channel.over(theirs, to_worker)
    parts = tuple(
        PartReceipt(n, n * 10, 10, f"e{n}", n, (BlockDigest(0, False, bytes([n]) * 524_288),)) for n in range(1, 41)
    )
    log = MemoryLog()
    log.kept = OpenUpload("id", 10, FileVersion(400, 1, 2), parts)
    remote = Remote(worker)
    frames = 0

    async def serve() -> None:
        call = await parent.receive()
        assert isinstance(call, AskUpload)
        await answer(parent, Flight(Order(7, STATUS, log)), call)

    async def listen() -> None:
        nonlocal frames
        while isinstance(frame := await worker.receive(), Answer):
            frames += 1
            remote.answered(frame)
            if frame.last:
                return

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        group.create_task(listen())
        found = await RemoteLog(remote, Assignment(7, STATUS, True)).upload()
    assert found == log.kept
    assert frames > 10
    parent.close()
    worker.close()


async def test_a_file_without_an_upload_asks_nothing() -> None:
    ours, theirs = socket.socketpair()
    worker = await Channel.over(theirs, to_worker)
    assert await RemoteLog(Remote(worker), Assignment(7, STATUS, False)).upload() is None
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    ours.close()
    worker.close()
