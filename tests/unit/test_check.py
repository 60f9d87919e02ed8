"""Comparing two sides in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastcrc.crc32 import iscsi

from asynccopy.errors import PermissionDenied, Unreachable
from asynccopy.journal import Journal
from asynccopy.mirror.check import Check
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.memory import MemoryDestination, MemorySource
from tests.faults.wrapped import QUICK, Step, Wrapped

TREE = {"a": b"1", "b/c": b"22", "b/d": b"333" * 1000, "e": b""}


class Sides:
    def __init__(self, scratch: Journal, checksum: Any) -> None:
        self.scratch = scratch
        self.source = MemorySource(TREE, page_size=2)
        self.destination = MemoryDestination(prefix="p/", page_size=2, checksum=checksum)
        self.opened = 0

    async def fill(self) -> None:
        for path, body in TREE.items():
            await self.put(path, body)

    async def put(self, path: str, body: bytes) -> None:
        await self.destination.put(f"p/{path}", body, iscsi(body))

    async def check(self, step: Step | None = None, **options: Any) -> set[tuple[str, str]]:
        async def counting(name: str, when: str, args: tuple[Any, ...]) -> None:
            self.opened += (name, when) == ("open", "before")
            if step is not None:
                await step(name, when, args)

        check = Check(
            cast("Source", Wrapped(self.source, counting)),
            cast("Destination", Wrapped(self.destination, counting)),
            scratch=self.scratch,
            **{
                "ledger": None,
                "selection": Selection(),
                "concurrency": 3,
                "progress": Progress(),
                "stop": asyncio.Event(),
                "policy": QUICK,
                **options,
            },
        )
        return {(difference.path, difference.kind) async for difference in check.run()}


@pytest.fixture
async def scratch(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "scratch", source="s", destination="d")
    yield journal
    await journal.close()


@pytest.fixture(params=["CRC32C", "MD5", None])
async def sides(scratch: Journal, request: pytest.FixtureRequest) -> Sides:
    sides = Sides(scratch, request.param)
    await sides.fill()
    return sides


async def test_equal_sides(sides: Sides) -> None:
    assert await sides.check() == set()
    assert sides.opened >= 3


async def test_every_kind_of_difference(sides: Sides) -> None:
    await sides.destination.delete("p/a")
    await sides.put("b/c", b"xx")
    await sides.put("b/d", b"333")
    await sides.put("z/new", b"?")
    await sides.destination.put("elsewhere", b"", 0)
    assert await sides.check() == {("a", "missing"), ("b/c", "different"), ("b/d", "different"), ("z/new", "extra")}


async def test_what_is_not_selected_is_not_compared(sides: Sides) -> None:
    await sides.destination.delete("p/a")
    await sides.put("z/new", b"?")
    assert await sides.check(selection=Selection(include=("b/",))) == set()


async def test_what_cannot_be_read_is_unproven_and_the_rest_compared(sides: Sides) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "open" and args[0] == "b/c":
            raise PermissionDenied("no")

    await sides.destination.delete("p/a")
    assert await sides.check(step) == {("b/c", "unproven"), ("a", "missing")}


async def test_a_directory_that_cannot_be_listed_is_unproven_and_nothing_is_called_extra(sides: Sides) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "list" and args[0] == "b":
            raise PermissionDenied("no")

    await sides.put("z/new", b"?")
    assert await sides.check(step) == {("b/", "unproven")}


async def test_a_file_removed_meanwhile_is_no_difference(sides: Sides) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if (name, when) == ("open", "before") and args[0] == "b/c":
            sides.source.remove("b/c")

    assert await sides.check(step) == set()


async def test_a_side_that_is_gone_ends_it(sides: Sides) -> None:
    async def step(name: str, when: str, args: tuple[Any, ...]) -> None:
        if name == "head":
            raise Unreachable("gone")

    with pytest.raises((Unreachable, BaseExceptionGroup)) as raised:
        await sides.check(step, policy=RetryPolicy(first=0.001, most=0.001, patience=0.01))
    assert isinstance(raised.value, Unreachable), "a group comes out, which no caller of the command line expects"


async def test_what_the_ledger_proves_is_not_read_again(scratch: Journal, tmp_path: Path) -> None:
    sides = Sides(scratch, "CRC32C")
    ledger = await Journal.open(tmp_path / "ledger", source="s", destination="d")
    try:
        mirror = Mirror(
            sides.source, sides.destination, ledger, selection=Selection(), options=CopyOptions(), stop=asyncio.Event(),
            progress=Progress(), policy=QUICK,
        )  # fmt: skip
        await mirror.copy()
        assert await sides.check(ledger=ledger) == set()
        assert sides.opened == 0
        await sides.put("b/c", b"xx")
        sides.source.put("b/d", b"444" * 1000)
        assert {path for path, _ in await sides.check(ledger=ledger)} == {"b/c", "b/d"}
    finally:
        await ledger.close()
