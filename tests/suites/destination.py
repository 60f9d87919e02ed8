"""What every ``Destination`` must do.

A backend's test inherits ``DestinationSuite`` and gives one fixture: a destination with nothing below its prefix, which
lists ``page_size`` objects a page::

    class TestMine(DestinationSuite):
        @pytest.fixture
        async def destination(self) -> AsyncIterator[Destination]:
            async with aclosing(MyDestination(..., page_size=self.page_size)) as destination:
                yield destination

The suite asks the destination for its limits and capabilities and holds it to those.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from time import time_ns

import fastcrc.crc32
import fastcrc.crc64
import pytest
from msgspec.structs import replace

from asynccopy.errors import ChecksumMismatch, FileError, NameRefused, NotFound, ShortRead, UploadGone
from asynccopy.model import MIB, ByteRange, ObjectMeta, PartReceipt
from asynccopy.storage.interface import Destination
from tests.suites import NASTY_NAMES, NFC, NFD

crc32c = fastcrc.crc32.iscsi
crc64 = fastcrc.crc64.xz


class Boom(Exception):
    """Nobody's but the test's."""


class Body:
    """A ``Reader`` of ``data``. At ``trouble_at`` bytes it raises ``trouble``, or without one waits for ever."""

    def __init__(self, data: bytes, *, trouble_at: int | None = None, trouble: Exception | None = None) -> None:
        self._data = data
        self._at = 0
        self._trouble_at = trouble_at
        self._trouble = trouble
        self.waiting = asyncio.Event()

    async def readinto(self, buffer: memoryview) -> int:
        end = len(self._data)
        if self._trouble_at is not None:
            end = min(end, self._trouble_at)
            if self._at >= end:
                await self._stop()
        count = min(len(buffer), end - self._at)
        buffer[:count] = self._data[self._at : self._at + count]
        self._at += count
        return count

    @property
    def crc32c(self) -> int:
        return crc32c(self._data[: self._at])

    async def _stop(self) -> None:
        if self._trouble is not None:
            raise self._trouble
        self.waiting.set()
        await asyncio.Event().wait()

    def close(self) -> None:
        self._at = len(self._data)


class DestinationSuite:
    page_size = 3
    """The most objects in one page of ``destination.list``."""

    @pytest.fixture
    async def destination(self) -> Destination:
        raise NotImplementedError("nothing below its prefix, page_size objects a page")

    # --- check

    async def test_check_leaves_nothing_behind(self, destination: Destination) -> None:
        first = await destination.check()
        assert await destination.check() == first
        assert await listed(destination) == []
        assert await destination.list_uploads(destination.prefix) == []

    async def test_the_prefix_is_one(self, destination: Destination) -> None:
        assert destination.prefix == "" or destination.prefix.endswith("/")

    # --- put, head, open, delete

    @pytest.mark.parametrize("size", [0, 1, 100_000, MIB + 1])
    async def test_put(self, destination: Destination, size: int) -> None:
        key, body = destination.prefix + "d/key", noise(size)
        said = await destination.put(key, body, crc32c(body))
        assert (said.key, said.size) == (key, size)
        head = await destination.head(key)
        assert head is not None
        assert (head.key, head.size, head.etag) == (key, size, said.etag)
        assert await content(destination, key) == body
        await self.assert_checksum(destination, head, body)

    async def test_put_a_memoryview(self, destination: Destination) -> None:
        key, buffer = destination.prefix + "key", bytearray(noise(10_000))
        await destination.put(key, memoryview(buffer)[100:5_000], crc32c(buffer[100:5_000]))
        expected = bytes(buffer[100:5_000])
        buffer[:] = bytes(len(buffer))  # buffers are reused: what was put must not change with them
        assert await content(destination, key) == expected

    async def test_put_replaces(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        await put(destination, key, b"old, and longer")
        await put(destination, key, b"new")
        assert await content(destination, key) == b"new"
        assert await listed(destination) == [key]

    async def test_put_with_a_wrong_crc(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        if (await destination.check()).checksum == "CRC32C":
            with pytest.raises(ChecksumMismatch):
                await destination.put(key, b"body", crc32c(b"body") ^ 1)
            assert await destination.head(key) is None
        else:
            # It cannot know; then it must not claim to.
            assert (await destination.put(key, b"body", crc32c(b"body") ^ 1)).crc32c is None

    async def test_a_key_that_ends_in_a_slash(self, destination: Destination) -> None:
        """An empty directory."""
        key = destination.prefix + "d/empty/"
        await put(destination, key, b"")
        head = await destination.head(key)
        assert head is not None
        assert (head.key, head.size) == (key, 0)
        assert await listed(destination) == [key]
        await destination.delete(key)
        assert await destination.head(key) is None

    @pytest.mark.parametrize("name", NASTY_NAMES, ids=ascii)
    async def test_nasty_keys_come_back(self, destination: Destination, name: str) -> None:
        key, body = f"{destination.prefix}{name}/{name}", name.encode()
        await put(destination, key, body)
        head = await destination.head(key)
        assert head is not None
        assert (head.key, head.size) == (key, len(body))
        assert await content(destination, key) == body
        assert await listed(destination) == [key]
        assert await listed(destination, f"{destination.prefix}{name}/") == [key]
        await destination.delete(key)
        assert await destination.head(key) is None

    async def test_an_upload_to_nasty_keys(self, destination: Destination) -> None:
        for name in NASTY_NAMES:
            key = f"{destination.prefix}d/{name}"
            upload = await destination.create_upload(key)
            assert list(await destination.list_uploads(key)) == [(key, upload)]
            part = await send(destination, key, upload, 1, 0, name.encode())
            assert (await destination.complete_upload(key, upload, [part], crc32c(name.encode()))).key == key
            assert await content(destination, key) == name.encode()

    async def test_normal_forms_are_told_apart(self, destination: Destination) -> None:
        composed, decomposed = destination.prefix + NFC, destination.prefix + NFD
        await put(destination, composed, b"composed")
        assert await destination.head(decomposed) is None
        await put(destination, decomposed, b"decomposed")
        assert sorted(await listed(destination)) == sorted([composed, decomposed])
        assert await content(destination, composed) == b"composed"

    async def test_case_is_told_apart(self, destination: Destination) -> None:
        await put(destination, destination.prefix + "key", b"small")
        await put(destination, destination.prefix + "KEY", b"large")
        assert await content(destination, destination.prefix + "key") == b"small"

    async def test_a_key_too_long_is_refused_by_name(self, destination: Destination) -> None:
        key = destination.prefix + "k" * (destination.limits.max_key + 1 - len(destination.prefix))
        with pytest.raises(NameRefused):
            await put(destination, key, b"")
        with pytest.raises(NameRefused):
            await destination.create_upload(key)

    async def test_head_of_nothing(self, destination: Destination) -> None:
        await put(destination, destination.prefix + "d/key", b"body")
        for name in ("missing", "d/missing", "d/ke", "d"):
            assert await destination.head(destination.prefix + name) is None

    async def test_open_ranges(self, destination: Destination) -> None:
        key, body = destination.prefix + "key", noise(300_000)
        await put(destination, key, body)
        for part in (ByteRange(0, 300_000), ByteRange(0, 1), ByteRange(299_999, 1), ByteRange(777, 222_222)):
            assert await content(destination, key, part) == body[part.offset : part.end], part

    async def test_open_of_nothing(self, destination: Destination) -> None:
        with pytest.raises(NotFound):
            await content(destination, destination.prefix + "missing", ByteRange(0, 1))

    async def test_close_a_read_in_the_middle(self, destination: Destination) -> None:
        key, body = destination.prefix + "key", noise(MIB)
        await put(destination, key, body)
        reader = await destination.open(key, ByteRange(0, MIB))
        await reader.readinto(memoryview(bytearray(1000)))
        reader.close()
        reader.close()
        assert await content(destination, key) == body

    async def test_delete(self, destination: Destination) -> None:
        key, other = destination.prefix + "d/key", destination.prefix + "d/key2"
        await put(destination, key, b"body")
        await put(destination, other, b"body")
        await destination.delete(key)
        assert await destination.head(key) is None
        assert await listed(destination) == [other]

    async def test_delete_of_nothing(self, destination: Destination) -> None:
        await destination.delete(destination.prefix + "missing")
        await destination.delete(destination.prefix + "d/missing")

    async def test_64_puts_at_once(self, destination: Destination) -> None:
        bodies = {f"{destination.prefix}{n % 4}/{n:02d}": noise(1000 + n) for n in range(64)}
        async with asyncio.TaskGroup() as group:
            for key, body in bodies.items():
                group.create_task(put(destination, key, body), name=f"put {key}")
        assert sorted(await listed(destination)) == sorted(bodies)
        for key, body in bodies.items():
            assert await content(destination, key) == body

    async def test_puts_to_one_key_leave_one_of_them_whole(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        bodies = [bytes([n]) * 50_000 for n in range(8)]
        async with asyncio.TaskGroup() as group:
            for number, body in enumerate(bodies):
                group.create_task(put(destination, key, body), name=f"put {number}")
        assert await content(destination, key) in bodies

    # --- copy

    @pytest.mark.parametrize("size", [0, 1, MIB + 1])
    async def test_copy(self, destination: Destination, size: int) -> None:
        key, to, body = destination.prefix + "d/key", destination.prefix + "e/copy", noise(size)
        original = await put(destination, key, body)
        said = await destination.copy(key, to, size, original.etag)
        head = await destination.head(to)
        assert head is not None
        assert (said.key, said.size, said.etag) == (to, size, head.etag)
        assert said.crc32c == head.crc32c
        await self.assert_checksum(destination, head, body)
        assert await content(destination, to) == body
        assert await content(destination, key) == body
        again = await destination.copy(to, destination.prefix + "third", size, said.etag)
        assert again.size == size
        assert len(await listed(destination)) == 3

    async def test_copy_replaces(self, destination: Destination) -> None:
        key, to = destination.prefix + "key", destination.prefix + "copy"
        await put(destination, to, b"old, and longer")
        original = await put(destination, key, b"new")
        await destination.copy(key, to, 3, original.etag)
        await destination.copy(key, to, 3, original.etag)
        assert await content(destination, to) == b"new"

    async def test_copy_of_another_object_writes_nothing(self, destination: Destination) -> None:
        key, to = destination.prefix + "key", destination.prefix + "copy"
        with pytest.raises(NotFound):
            await destination.copy(key, to, 4, "0" * 32)
        former = await put(destination, key, b"1234")
        latter = await put(destination, key, b"4321")
        for _ in range(2):
            with pytest.raises(NotFound):
                await destination.copy(key, to, 4, former.etag)
        assert await listed(destination) == [key]
        assert (await destination.copy(key, to, 4, latter.etag)).size == 4
        with pytest.raises(NotFound):
            await destination.copy(key, to, 4, former.etag)
        await destination.delete(key)
        with pytest.raises(NotFound):
            await destination.copy(key, to, 4, latter.etag)
        assert await content(destination, to) == b"4321"

    async def test_copy_of_what_came_in_parts(self, destination: Destination) -> None:
        key, to = destination.prefix + "key", destination.prefix + "copy"
        body, cuts = self.parts_of(destination, 2, last=7)
        upload = await destination.create_upload(key)
        parts = [await send(destination, key, upload, n, at, body[at:end]) for n, (at, end) in enumerate(cuts, start=1)]
        original = await destination.complete_upload(key, upload, parts, crc32c(body))
        await destination.copy(key, to, len(body), original.etag)
        head = await destination.head(to)
        assert head is not None
        await self.assert_checksum(destination, head, body)
        assert await content(destination, to) == body

    async def test_copy_of_what_is_too_large_for_one_request(self, destination: Destination) -> None:
        key, to = destination.prefix + "key", destination.prefix + "copy"
        least = max(destination.limits.min_part, 64 * 1024)
        body = noise(2 * least + 7)
        original = await put(destination, key, body)
        destination.limits = replace(destination.limits, max_part=least)
        with pytest.raises(NotFound):
            await destination.copy(key, to, len(body), "0" * 32)
        assert await destination.head(to) is None
        assert (await destination.copy(key, to, len(body), original.etag)).size == len(body)
        assert await content(destination, to) == body
        head = await destination.head(to)
        assert head is not None
        assert head.crc32c in (None, crc32c(body))
        assert await destination.list_uploads(destination.prefix) == []

    @pytest.mark.parametrize("name", NASTY_NAMES, ids=ascii)
    async def test_copy_from_and_to_nasty_keys(self, destination: Destination, name: str) -> None:
        key, to = f"{destination.prefix}from/{name}", f"{destination.prefix}to/{name}"
        original = await put(destination, key, name.encode())
        said = await destination.copy(key, to, original.size, original.etag)
        assert said.key == to
        assert await content(destination, to) == name.encode()
        assert sorted(await listed(destination)) == sorted([key, to])

    async def test_copy_of_an_empty_directory(self, destination: Destination) -> None:
        key, to = destination.prefix + "d/empty/", destination.prefix + "e/empty/"
        await put(destination, key, b"")
        head = await destination.head(key)
        assert head is not None
        assert (await destination.copy(key, to, 0, head.etag)).size == 0
        assert await destination.head(to) is not None

    async def test_copy_to_a_key_too_long(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        original = await put(destination, key, b"1")
        long = destination.prefix + "k" * (destination.limits.max_key + 1 - len(destination.prefix))
        with pytest.raises(NameRefused):
            await destination.copy(key, long, 1, original.etag)

    # --- multipart

    async def test_upload(self, destination: Destination) -> None:
        key = destination.prefix + "d/key"
        body, cuts = self.parts_of(destination, 3, last=7)
        upload = await destination.create_upload(key)
        parts = [await send(destination, key, upload, n, at, body[at:end]) for n, (at, end) in enumerate(cuts, start=1)]
        assert await destination.head(key) is None
        assert await listed(destination) == []
        said = await destination.complete_upload(key, upload, parts, crc32c(body))
        assert (said.key, said.size) == (key, len(body))
        head = await destination.head(key)
        assert head is not None
        assert (head.size, head.etag) == (said.size, said.etag)
        assert await content(destination, key) == body
        assert await destination.list_uploads(destination.prefix) == []
        assert await listed(destination) == [key]
        await self.assert_checksum(destination, head, body)

    async def test_upload_of_one_small_part(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        upload = await destination.create_upload(key)
        part = await send(destination, key, upload, 1, 0, b"x")
        await destination.complete_upload(key, upload, [part], crc32c(b"x"))
        assert await content(destination, key) == b"x"

    async def test_parts_out_of_order_and_at_once(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        body, cuts = self.parts_of(destination, 4, last=100)
        upload = await destination.create_upload(key)
        async with asyncio.TaskGroup() as group:
            sending = [
                group.create_task(send(destination, key, upload, n, at, body[at:end]), name=f"part {n}")
                for n, (at, end) in reversed(list(enumerate(cuts, start=1)))
            ]
        parts = sorted((task.result() for task in sending), key=lambda part: part.number)
        await destination.complete_upload(key, upload, parts, crc32c(body))
        assert await content(destination, key) == body

    async def test_a_part_sent_again_replaces_the_former(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        body, (first, second) = self.parts_of(destination, 2, last=50)
        upload = await destination.create_upload(key)
        wrong = bytes(first[1]) if destination.limits.min_part > 1 else b"wrong, and longer"
        await send(destination, key, upload, 1, 0, wrong)
        last = await send(destination, key, upload, 2, second[0], body[slice(*second)])
        right = await send(destination, key, upload, 1, 0, body[slice(*first)])
        await destination.complete_upload(key, upload, [right, last], crc32c(body))
        assert await content(destination, key) == body

    async def test_an_upload_replaces_an_object_when_it_is_complete(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        await put(destination, key, b"old")
        upload = await destination.create_upload(key)
        part = await send(destination, key, upload, 1, 0, b"brand new")
        assert await content(destination, key) == b"old"
        await destination.complete_upload(key, upload, [part], crc32c(b"brand new"))
        assert await content(destination, key) == b"brand new"

    async def test_two_uploads_to_one_key_do_not_mix(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        one, two = await destination.create_upload(key), await destination.create_upload(key)
        assert one != two
        first = await send(destination, key, one, 1, 0, b"one")
        second = await send(destination, key, two, 1, 0, b"two, longer")
        await destination.complete_upload(key, two, [second], crc32c(b"two, longer"))
        await destination.complete_upload(key, one, [first], crc32c(b"one"))
        assert await content(destination, key) == b"one"

    async def test_the_crc_of_every_part(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        upload = await destination.create_upload(key)
        reply = await destination.upload_part(key, upload, 1, 10_000, Body(noise(10_000)))
        if (await destination.check()).checksum == "CRC32C":
            assert reply.crc32c == crc32c(noise(10_000))
        elif (await destination.check()).checksum == "MD5":
            assert reply.etag.strip('"') == hashlib.md5(noise(10_000)).hexdigest()
        elif (await destination.check()).checksum == "CRC64":
            assert PartReceipt(1, 0, 10_000, reply.etag, 0).crc64 == crc64(noise(10_000))
        assert reply.etag

    async def test_complete_with_a_wrong_crc(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        upload = await destination.create_upload(key)
        part = await send(destination, key, upload, 1, 0, b"body")
        if (await destination.check()).checksum == "CRC32C":
            with pytest.raises(ChecksumMismatch):
                await destination.complete_upload(key, upload, [part], crc32c(b"body") ^ 1)
            assert await destination.head(key) is None
            assert await listed(destination) == []
        else:
            # It cannot know; then it must not claim to.
            meta = await destination.complete_upload(key, upload, [part], crc32c(b"body") ^ 1)
            assert meta.crc32c is None

    async def test_complete_with_a_part_that_was_never_sent(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        body, (first, second) = self.parts_of(destination, 2, last=50)
        upload = await destination.create_upload(key)
        part = await send(destination, key, upload, 1, 0, body[slice(*first)])
        unsent = PartReceipt(2, second[0], 50, part.etag, crc32c(body[slice(*second)]))
        with pytest.raises(FileError):
            await destination.complete_upload(key, upload, [part, unsent], crc32c(body))
        assert await destination.head(key) is None

    async def test_complete_with_the_receipt_of_a_part_replaced_since(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        upload = await destination.create_upload(key)
        former = await send(destination, key, upload, 1, 0, b"former")
        await send(destination, key, upload, 1, 0, b"latter")
        with pytest.raises(FileError):
            await destination.complete_upload(key, upload, [former], crc32c(b"former"))
        assert await destination.head(key) is None

    async def test_complete_twice(self, destination: Destination) -> None:
        """A lost reply is settled by head; the second call must do no harm."""
        key = destination.prefix + "key"
        upload = await destination.create_upload(key)
        part = await send(destination, key, upload, 1, 0, b"body")
        first = await destination.complete_upload(key, upload, [part], crc32c(b"body"))
        try:
            again = await destination.complete_upload(key, upload, [part], crc32c(b"body"))
        except UploadGone:
            pass
        else:
            assert (again.key, again.size, again.etag) == (first.key, first.size, first.etag)
        assert await content(destination, key) == b"body"

    async def test_abort_leaves_nothing(self, destination: Destination) -> None:
        key = destination.prefix + "key"
        upload = await destination.create_upload(key)
        part = await send(destination, key, upload, 1, 0, b"body")
        await destination.abort_upload(key, upload)
        await destination.abort_upload(key, upload)
        assert await destination.list_uploads(destination.prefix) == []
        assert await destination.head(key) is None
        with pytest.raises(UploadGone):
            await destination.upload_part(key, upload, 2, 4, Body(b"body"))
        with pytest.raises(UploadGone):
            await destination.complete_upload(key, upload, [part], crc32c(b"body"))
        assert await listed(destination) == []

    async def test_list_uploads(self, destination: Destination) -> None:
        keys = [destination.prefix + name for name in ("a/one", "a/two", "b/three")]
        uploads = [(key, await destination.create_upload(key)) for key in keys]
        await send(destination, *uploads[1], 1, 0, b"body")
        assert sorted(await destination.list_uploads(destination.prefix)) == sorted(uploads)
        assert sorted(await destination.list_uploads(destination.prefix + "a/")) == sorted(uploads[:2])

    async def test_the_uploads_of_one_key(self, destination: Destination) -> None:
        key = f"{destination.prefix}a/b"
        assert list(await destination.uploads_of(key)) == []
        before = time_ns() // 1_000_000
        empty = await destination.create_upload(key)
        await destination.create_upload(f"{key}c")
        found = await destination.uploads_of(key)
        assert [(each.upload_id, each.empty) for each in found] == [(empty, True)]
        assert abs(found[0].begun - before) < 10_000
        await send(destination, key, empty, 1, 0, b"1")
        assert [each.empty for each in await destination.uploads_of(key)] == [False]
        await destination.abort_upload(key, empty)
        assert list(await destination.uploads_of(key)) == []

    # --- trouble in the middle

    @pytest.mark.parametrize("half", [False, True], ids=["at the first byte", "in the middle"])
    async def test_a_body_that_raises(self, destination: Destination, half: bool) -> None:
        key, (body, _) = destination.prefix + "key", self.parts_of(destination, 2, last=1)
        await put(destination, key, b"old")
        upload = await destination.create_upload(key)
        boom = Boom()
        broken = Body(body, trouble_at=len(body) // 2 if half else 0, trouble=boom)
        with pytest.raises(Boom) as caught:
            await destination.upload_part(key, upload, 1, len(body), broken)
        assert caught.value is boom
        await self.assert_upload_goes_on(destination, key, upload, body)

    async def test_a_body_that_ends_early(self, destination: Destination) -> None:
        key, (body, _) = destination.prefix + "key", self.parts_of(destination, 2, last=1)
        await put(destination, key, b"old")
        upload = await destination.create_upload(key)
        with pytest.raises(ShortRead):
            await destination.upload_part(key, upload, 1, len(body), Body(body[:-1]))
        await self.assert_upload_goes_on(destination, key, upload, body)

    async def test_cancelled_in_the_middle_of_a_part(self, destination: Destination) -> None:
        key, (body, _) = destination.prefix + "key", self.parts_of(destination, 2, last=1)
        await put(destination, key, b"old")
        upload = await destination.create_upload(key)
        hanging = Body(body, trouble_at=len(body) // 2)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            sending = group.create_task(destination.upload_part(key, upload, 1, len(body), hanging), name="part 1")
            await hanging.waiting.wait()
            sending.cancel()
        assert sending.cancelled()
        await self.assert_upload_goes_on(destination, key, upload, body)

    @pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13])
    async def test_cancelled_puts_are_whole_or_nothing(self, destination: Destination, turns: int) -> None:
        key, new = destination.prefix + "key", noise(MIB)
        await put(destination, key, b"old")
        async with asyncio.TaskGroup() as group:
            putting = group.create_task(put(destination, key, new), name="put")
            for _ in range(turns):
                await asyncio.sleep(0)
            putting.cancel()
        assert await content(destination, key) in (b"old", new)
        await put(destination, key, b"newest")
        assert await listed(destination) == [key]

    async def assert_upload_goes_on(self, destination: Destination, key: str, upload: str, body: bytes) -> None:
        """Of the failed part nothing was taken, the old object still stands, and the same upload can be finished."""
        assert await content(destination, key) == b"old"
        failed = PartReceipt(1, 0, len(body), "no-such-part", crc32c(body))
        with pytest.raises(FileError):
            await destination.complete_upload(key, upload, [failed], crc32c(body))
        part = await send(destination, key, upload, 1, 0, body)
        await destination.complete_upload(key, upload, [part], crc32c(body))
        assert await content(destination, key) == body

    # --- list

    @pytest.mark.parametrize("beyond", [-1, 0, 1])
    async def test_list_pages_are_complete_and_unique(self, destination: Destination, beyond: int) -> None:
        keys = [f"{destination.prefix}{n % 3}/{n:04d}" for n in range(2 * self.page_size + beyond)]
        for key in keys:
            await put(destination, key, key.encode())
        pages = await pages_of(destination, destination.prefix)
        assert all(len(page) <= self.page_size for page in pages)
        assert len(pages) >= 2
        objects = [meta for page in pages for meta in page]
        assert sorted(meta.key for meta in objects) == sorted(keys)
        for meta in objects:
            assert meta.size == len(meta.key.encode())

    async def test_list_goes_below_and_keeps_to_the_prefix(self, destination: Destination) -> None:
        names = ["a", "a.b", "a/b", "a/c/d", "a/c/e/f", "ab", "b/a", "a/cc"]
        for name in names:
            if name != "a":  # a file system cannot have both "a" and "a/b"
                await put(destination, destination.prefix + name, b"")
        for start in ("", "a", "a/", "a/c", "a/c/", "a/c/e/f", "b", "missing", "a/missing/"):
            expected = [destination.prefix + name for name in names if name != "a" and name.startswith(start)]
            assert sorted(await listed(destination, destination.prefix + start)) == sorted(expected), start

    async def test_a_page_may_end_at_any_key(self, destination: Destination) -> None:
        keys = [f"{destination.prefix}d/{name}" for name in NASTY_NAMES]
        for key in keys:
            await put(destination, key, b"")
        assert sorted(await listed(destination)) == sorted(keys)

    # ---

    def parts_of(self, destination: Destination, count: int, *, last: int) -> tuple[bytes, list[tuple[int, int]]]:
        """A body and where it is cut: ``count`` parts as small as the store allows, not tiny; the last of ``last``."""
        size = max(destination.limits.min_part, 64 * 1024)
        body = noise((count - 1) * size + last)
        return body, [(at, min(at + size, len(body))) for at in range(0, len(body), size)]

    async def assert_checksum(self, destination: Destination, meta: ObjectMeta, body: bytes) -> None:
        """What the store says of the whole object is right, and is there where the capabilities promise it."""
        if (await destination.check()).checksum == "CRC32C":
            assert meta.crc32c == crc32c(body)
        else:
            assert meta.crc32c in (None, crc32c(body))
        assert meta.crc64 == (crc64(body) if (await destination.check()).checksum == "CRC64" else None)


async def put(destination: Destination, key: str, body: bytes) -> ObjectMeta:
    return await destination.put(key, body, crc32c(body))


async def send(destination: Destination, key: str, upload: str, number: int, at: int, data: bytes) -> PartReceipt:
    """Upload a part that begins at byte ``at`` of the object."""
    reply = await destination.upload_part(key, upload, number, len(data), Body(data))
    assert reply.crc32c in (None, crc32c(data))
    return PartReceipt(number, at, len(data), reply.etag, crc32c(data))


async def content(destination: Destination, key: str, part: ByteRange | None = None) -> bytes:
    if part is None:
        meta = await destination.head(key)
        assert meta is not None, f"{key!r} is not there"
        part = ByteRange(0, meta.size)
    reader = await destination.open(key, part)
    try:
        got = bytearray()
        buffer = memoryview(bytearray(100_003))
        while count := await reader.readinto(buffer):
            got += buffer[:count]
        return bytes(got)
    finally:
        reader.close()


async def pages_of(destination: Destination, prefix: str) -> list[Sequence[ObjectMeta]]:
    pages: list[Sequence[ObjectMeta]] = []
    after: str | None = None
    while True:
        page = await destination.list(prefix, after)
        pages.append(page.objects)
        if page.after is None:
            return pages
        assert page.after != after, "the token stands still"
        after = page.after


async def listed(destination: Destination, prefix: str | None = None) -> list[str]:
    """The keys below a prefix, in the order in which they come."""
    start = destination.prefix if prefix is None else prefix
    return [meta.key for page in await pages_of(destination, start) for meta in page]


def noise(size: int) -> bytes:
    """Bytes in which no two places look alike, the same every time."""
    return hashlib.shake_128(b"asynccopy").digest(size)
