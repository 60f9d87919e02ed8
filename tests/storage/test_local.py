"""The local backend sits the exams; then what only a file system has: links, odd bytes in names, files in the way."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from asynccopy.errors import NameRefused, NotFound, NotThere, Refused, ShortRead, SideError, UploadGone, UsageError
from asynccopy.model import ByteRange
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.local import LocalDestination, LocalSource
from asynccopy.storage.local import destination as local_destination
from tests.suites.destination import Body, DestinationSuite, crc32c, listed, put, send
from tests.suites.source import SourceSuite, entries_of, read

LATIN_1 = b"caf\xe9"


def names_below(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*"))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestLocalSource(SourceSuite):
    block_size = 512 * 1024

    @pytest.fixture
    async def source(self, tmp_path: Path) -> AsyncIterator[Source]:
        self.root = tmp_path
        async with aclosing(LocalSource(str(tmp_path), page_size=self.page_size)) as source:
            yield source

    async def fill(self, tree: Mapping[str, bytes]) -> None:
        for path, body in tree.items():
            file = self.root / path
            (file if path.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                file.write_bytes(body)

    async def append(self, path: str, data: bytes) -> None:
        with (self.root / path).open("ab") as file:
            file.write(data)

    async def rename(self, path: str, to: str) -> None:
        (self.root / path).rename(self.root / to)

    async def remove(self, path: str) -> None:
        found = self.root / path
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    @asynccontextmanager
    async def writing(self, path: str, data: bytes) -> AsyncIterator[None]:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        with (self.root / path).open("wb") as file:
            file.write(data)
            yield

    def at(self, path: str) -> Source:
        return LocalSource(str(self.root / path), page_size=self.page_size)


class TestLocalDestination(DestinationSuite):
    @pytest.fixture
    async def destination(self, tmp_path: Path) -> AsyncIterator[Destination]:
        root = tmp_path / "not yet" / "there"
        async with aclosing(LocalDestination(str(root), page_size=self.page_size)) as destination:
            yield destination
        assert not [name for name in names_below(tmp_path) if name.endswith((".tmp", ".gone"))]


# --- URLs


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("/a/b", "file:///a/b"),
        ("/a//b/./c/", "file:///a/b/c"),
        ("//a", "file:///a"),
        ("/", "file:///"),
        ("file:///a%20b", "file:///a%20b"),
        ("file:///a b", "file:///a%20b"),
        ("FILE://localhost/a", "file:///a"),
        ("/a%20b", "file:///a%2520b"),
        ("file:///a?b#c", "file:///a%3Fb%23c"),
        ("/caf\u00e9", "file:///caf%C3%A9"),
    ],
)
def test_urls_have_one_form(given: str, url: str) -> None:
    assert LocalSource(given).url == LocalDestination(given).url == url
    assert LocalSource(url).url == url


def test_a_relative_path_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert LocalSource("sub/../data").url == f"file://{tmp_path}/data"


@pytest.mark.parametrize("url", ["", "file://", "file://host/path", "file:///a%00b"])
def test_what_names_no_path_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError):
        LocalSource(url)


# --- the source's own


async def test_links_and_pipes_are_neither_listed_nor_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(b"12345")
    (tmp_path / "to-file").symlink_to("d/file")
    (tmp_path / "to-directory").symlink_to("d")
    (tmp_path / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    source = LocalSource(str(tmp_path), page_size=2)
    assert [entry.path for entry in await entries_of(source, "")] == ["d"]
    for name in ("to-file", "to-directory", "pipe"):
        with pytest.raises(NotFound):
            await source.status(name)
        async with asyncio.timeout(10):
            with pytest.raises(NotFound):
                await source.open(name, ByteRange(0, 0))


async def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(b"12345")
    (tmp_path / "tree").symlink_to("d")
    (tmp_path / "single").symlink_to("d/file")
    assert (await LocalSource(str(tmp_path / "tree")).check()).is_directory
    single = LocalSource(str(tmp_path / "single"))
    assert (await single.check()).length == 5
    assert await read(single, "", ByteRange(0, 5)) == b"12345"


async def test_names_that_are_not_utf8_are_listed_and_refused_by_the_writer(tmp_path: Path) -> None:
    for name in (b"a", LATIN_1, LATIN_1 + b"2"):
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    source = LocalSource(str(tmp_path), page_size=1)
    page = await source.list("")
    while page.after is not None:
        page.after.encode()
        (entry,) = page.entries
        assert await read(source, entry.path, ByteRange(0, entry.length)) == os.fsencode(entry.path)
        page = await source.list("", page.after)
    (last,) = page.entries
    assert os.fsencode(last.path) == LATIN_1 + b"2"
    with pytest.raises(NameRefused, match="not UTF-8"):
        await put(LocalDestination(str(tmp_path / "out")), last.path, b"")


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/", "a\0b"])
async def test_paths_never_lead_out_of_the_source(tmp_path: Path, path: str) -> None:
    source = LocalSource(str(tmp_path))
    for call in (source.status, source.list, source.checksum):
        with pytest.raises(NotFound):
            await call(path)
    with pytest.raises(NotFound):
        await source.open(path, ByteRange(0, 0))


async def test_a_file_cut_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    reader = await LocalSource(str(tmp_path)).open("file", ByteRange(0, 1000))
    os.truncate(tmp_path / "file", 600)
    buffer = bytearray(500)
    assert await reader.readinto(memoryview(buffer)) == 500
    with pytest.raises(ShortRead, match="ended at 600, wanted up to 1000"):
        await reader.readinto(memoryview(buffer))
    reader.close()


async def test_descriptors_are_given_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    source = LocalSource(str(tmp_path))

    async def cancelled(turns: int) -> None:
        reading = asyncio.ensure_future(read(source, "file", ByteRange(0, 3_000_000)))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])

    await cancelled(1)
    before = open_files()
    for turns in range(20):
        await cancelled(turns)
    with pytest.raises(Exception, match="wanted up to"):
        await source.open("file", ByteRange(0, 3_000_001))
    assert open_files() == before


async def test_a_listing_reads_the_names_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        (tmp_path / str(number)).touch()
    asked: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        asked.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    source = LocalSource(str(tmp_path), page_size=2)
    assert len(await entries_of(source, "")) == 10
    assert len(asked) == 1
    assert source._listings == {}


# --- the destination's own


@pytest.mark.parametrize(
    "key", ["", "/", "..", "../x", "a/../../x", "/etc/x", "a//b", "./a", "a/.", "a\0b", ".asynccopy", ".asynccopy/x"]
)
async def test_keys_never_lead_out_of_the_destination(tmp_path: Path, key: str) -> None:
    destination = LocalDestination(str(tmp_path / "root"))
    for call in (put(destination, key, b""), destination.create_upload(key), destination.head(key)):
        with pytest.raises(NameRefused):
            await call
    with pytest.raises(NameRefused):
        await destination.delete(key)
    assert names_below(tmp_path) == []


async def test_nothing_is_done_through_a_link(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "file").write_bytes(b"precious")
    (root / "link").symlink_to(outside)
    destination = LocalDestination(str(root))
    for call in (put(destination, "link/file", b""), destination.delete("link/file"), destination.head("link/file")):
        with pytest.raises(Refused, match="symbolic link"):
            await call
    assert await listed(destination) == []
    assert await listed(destination, "link/") == []
    assert await listed(destination, "../outside/") == []
    assert (outside / "file").read_bytes() == b"precious"


async def test_a_link_in_an_objects_place_is_replaced_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.write_bytes(b"precious")
    root.mkdir()
    (root / "key").symlink_to(outside)
    destination = LocalDestination(str(root))
    assert await destination.head("key") is None
    await put(destination, "key", b"new")
    assert (root / "key").read_bytes() == b"new"
    assert outside.read_bytes() == b"precious"


async def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    destination = LocalDestination(str(tmp_path))
    await put(destination, "file", b"1")
    await put(destination, "d/file", b"1")
    with pytest.raises(NameRefused, match="/file'") as parent_is_file:
        await put(destination, "file/below/it", b"2")
    assert "a file stands" in parent_is_file.value.hint
    with pytest.raises(NameRefused) as is_directory:
        await put(destination, "d", b"2")
    assert "a directory stands" in is_directory.value.hint
    with pytest.raises(NameRefused):
        await put(destination, "file/", b"")
    assert sorted(await listed(destination)) == ["d/file", "file"]


async def test_a_deletion_leaves_the_directory(tmp_path: Path) -> None:
    destination = LocalDestination(str(tmp_path), page_size=1)
    await put(destination, "a/b/file", b"")
    await destination.delete("a/b/")
    assert await listed(destination) == ["a/b/file"]
    await destination.delete("a/b/file")
    assert await listed(destination) == ["a/b/"]
    assert await listed(destination, "a/b/") == ["a/b/"]
    await destination.delete("a/b/")
    assert await listed(destination) == ["a/"]


async def test_a_full_disk_is_said_clearly_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = LocalDestination(str(tmp_path))
    upload = await destination.create_upload("big")
    await put(destination, "key", b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Refused, match="No space left") as refused:
        await put(destination, "key", b"new")
    assert "free space" in refused.value.hint
    with pytest.raises(Refused, match="No space left"):
        await send(destination, "big", upload, 1, 0, b"body")
    assert (tmp_path / "key").read_bytes() == b"old"
    assert names_below(tmp_path / ".asynccopy") == sorted([upload, "key"])


async def test_bytes_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = LocalDestination(str(tmp_path))
    await put(destination, "d/first", b"")
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(file: int) -> None:
        done.append(Path(f"/proc/self/fd/{file}").readlink().name)
        fsync(file)

    def renamed(old: str, new: str) -> None:
        done.append(f"rename {Path(new).name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    await put(destination, "d/key", b"body")
    assert [name if name[-4:] != ".tmp" else "bytes" for name in done] == ["bytes", "rename key", "d"]


async def test_an_upload_outlives_the_process_that_began_it(tmp_path: Path) -> None:
    async with aclosing(LocalDestination(str(tmp_path))) as before:
        upload = await before.create_upload("d/key")
        first = await send(before, "d/key", upload, 1, 0, b"first,")
    async with aclosing(LocalDestination(str(tmp_path))) as after:
        assert list(await after.list_uploads("")) == [("d/key", upload)]
        second = await send(after, "d/key", upload, 2, 6, b"second")
        await after.complete_upload("d/key", upload, [first, second], crc32c(b"first,second"))
    assert (tmp_path / "d" / "key").read_bytes() == b"first,second"
    assert names_below(tmp_path) == ["d", "key"], "the staging directory goes when nothing is in it"


async def test_receipts_must_follow_on_each_other(tmp_path: Path) -> None:
    destination = LocalDestination(str(tmp_path))
    upload = await destination.create_upload("key")
    first = await send(destination, "key", upload, 1, 0, b"first,")
    second = await send(destination, "key", upload, 2, 6, b"second")
    gap = await send(destination, "key", upload, 3, 13, b"third")
    for parts in ([second], [second, first], [first, second, gap], []):
        with pytest.raises(Refused):
            await destination.complete_upload("key", upload, parts, 0)
    assert await destination.head("key") is None


async def test_a_part_of_an_upload_aborted_meanwhile_is_not_taken(tmp_path: Path) -> None:
    destination = LocalDestination(str(tmp_path))
    upload = await destination.create_upload("key")

    class Aborting(Body):
        async def readinto(self, buffer: memoryview) -> int:
            await destination.abort_upload("key", upload)
            return await super().readinto(buffer[:400])

    with pytest.raises(UploadGone):
        await destination.upload_part("key", upload, 1, 1000, Aborting(bytes(1000)))
    assert names_below(tmp_path / ".asynccopy") == []


async def test_a_file_as_the_destination(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(NotThere):
            await LocalDestination(str(tmp_path / path)).check()


async def test_a_check_makes_nothing(tmp_path: Path) -> None:
    await LocalDestination(str(tmp_path / "a" / "b")).check()
    assert names_below(tmp_path) == []


async def test_a_file_system_that_merges_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_destination, "_PROBES", ("a", "a"))  # as if the second had met the first
    with pytest.raises(SideError, match="does not tell all names apart"):
        await LocalDestination(str(tmp_path)).check()


def plain_walk(root: Path) -> list[str]:
    return sorted(
        f"{path.relative_to(root)}{'/' if path.is_dir() else ''}"
        for path in root.rglob("*")
        if path.is_file() or not any(path.iterdir())
    )


async def test_listings_of_odd_trees_agree_with_a_plain_walk(tmp_path: Path) -> None:
    chance = random.Random(7)
    directories = [""]
    for _ in range(25):
        directories.append(chance.choice(directories) + chance.choice(["a", "a.", "ab", "b", "\u00e9", "!"]) + "/")
        (tmp_path / directories[-1]).mkdir(exist_ok=True)
    for directory in chance.sample(directories, 12):
        (tmp_path / directory / chance.choice(["a!", "ac", "z", "-"])).touch()
    expected = plain_walk(tmp_path)
    for page_size in (1, 2, 100):
        destination = LocalDestination(str(tmp_path), page_size=page_size)
        for prefix in {"", *directories, *(key[:-1] for key in expected), *expected}:
            keys = await listed(destination, prefix)
            assert sorted(keys) == [key for key in expected if key.startswith(prefix)], (page_size, prefix)


# --- copies


async def test_a_copy_is_another_file(tmp_path: Path) -> None:
    async with aclosing(LocalDestination(str(tmp_path))) as destination:
        original = await put(destination, "d/key", b"1234")
        copied = await destination.copy("d/key", "e/key", 4, original.etag)
        assert (tmp_path / "e/key").stat().st_ino != (tmp_path / "d/key").stat().st_ino
        assert copied.etag != original.etag
        (tmp_path / "d/key").write_bytes(b"4321")
        assert (tmp_path / "e/key").read_bytes() == b"1234"
    assert names_below(tmp_path) == ["d", "e", "key", "key"]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOSPC])
async def test_where_files_cannot_share_their_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def cannot(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    async with aclosing(LocalDestination(str(tmp_path))) as destination:
        original = await put(destination, "key", b"1234")
        monkeypatch.setattr(os, "copy_file_range", cannot)
        if number == errno.ENOSPC:
            with pytest.raises(Refused):
                await destination.copy("key", "copy", 4, original.etag)
            assert await listed(destination) == ["key"]
        else:
            await destination.copy("key", "copy", 4, original.etag)
            assert (tmp_path / "copy").read_bytes() == b"1234"


@pytest.mark.parametrize("change", ["replaced", "written over", "cut", "removed"])
async def test_an_original_that_changes_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    key, share = tmp_path / "key", os.copy_file_range
    monkeypatch.setattr(local_destination, "JOIN_STEP", 1000)

    def changed(source: int, target: int, count: int, offset: int) -> int:
        done = share(source, target, min(count, 500), offset)
        match change:
            case "replaced":
                (tmp_path / "other").write_bytes(bytes(5000))
                (tmp_path / "other").rename(key)
            case "written over":
                key.write_bytes(bytes(5000))
            case "cut":
                os.truncate(key, 100)
            case "removed":
                key.unlink(missing_ok=True)
        return done

    async with aclosing(LocalDestination(str(tmp_path))) as destination:
        original = await put(destination, "key", b"x" * 5000)
        await asyncio.sleep(0.02)
        monkeypatch.setattr(os, "copy_file_range", changed)
        with pytest.raises(NotFound):
            await destination.copy("key", "copy", 5000, original.etag)
        assert not (tmp_path / "copy").exists()
    assert not [name for name in names_below(tmp_path) if name.endswith(".tmp")]


async def test_a_link_is_no_original(tmp_path: Path) -> None:
    async with aclosing(LocalDestination(str(tmp_path))) as destination:
        original = await put(destination, "key", b"1234")
        (tmp_path / "link").symlink_to(tmp_path / "key")
        with pytest.raises(NotFound):
            await destination.copy("link", "copy", 4, original.etag)
