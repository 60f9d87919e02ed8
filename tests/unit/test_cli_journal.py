"""``asynccopy journal show PATH``: a file's whole life, as a person reads it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from asynccopy.cli.journal import _moment
from asynccopy.cli.main import main
from asynccopy.journal import Journal
from asynccopy.model import BlockDigest, Evidence, FileStatus, OpenUpload, PartReceipt

T1, T2 = 1_700_000_000_123, 1_700_000_060_000
LIFE = [
    "title changed",
    "path f",
    "length 10",
    "modification_time 2023-11-14T22:13:20.123+00:00",
    "file_id 7",
    "method checksum",
    "source_checksum MD5:1",
    "object_checksum CRC32C:1",
    "etag e1",
    "done_at TIME",
    "until TIME",
    "why changed",
    "error_class ",
    "error ",
]


async def fill(path: Path) -> None:
    """f was copied in a first version, and is half copied in a second, after a failure; g went away."""
    journal = await Journal.open(path, source="src", destination="dst")
    try:
        for f, others in ((FileStatus("f", 10, T1, 7), [FileStatus("g", 1, T1, 8)]), (FileStatus("f", 20, T2, 7), [])):
            await journal.begin_pass("all")
            (root,) = await journal.pending_directories(1)
            await journal.record_page(root.id, [f, *others], [], None)
            for pending in await journal.pending(0, 10) if others else ():
                version = pending.status.version
                await journal.done(pending.id, version, Evidence("checksum", "MD5:1", "CRC32C:1", "e1"))
            await journal.finish_pass(True)
        (half,) = await journal.pending(0, 10)
        await journal.begin_upload(half.id, OpenUpload("upload-1", 8, half.status.version))
        blocks = (BlockDigest(0, False, b"1234"),)
        await journal.part_done(half.id, PartReceipt(1, 0, 8, "p1", 99, blocks))
        await journal.failed(half.id, "ServerError", "bad\x1b[31m news", "wait")
    finally:
        await journal.close()


def show(path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed, a line a fact; times of this run are TIME."""
    assert main(["journal", "show", name, "--journal", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    facts = [" ".join(line.split(maxsplit=1)) if line.startswith(" ") else f"title {line}" for line in lines]
    now = re.compile(r"(?<=\w) 20(?!23)\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$")
    facts = [now.sub("" if fact.startswith("title") else " TIME", fact) for fact in facts]
    return [f"{fact} " if " " not in fact else fact for fact in facts]


def titles(shown: list[str]) -> list[str]:
    return [line.removeprefix("title ") for line in shown if line.startswith("title ")]


def test_the_life_the_present_and_the_parts_under_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal"
    asyncio.run(fill(path))
    shown = show(path, "f", capsys)
    assert titles(shown) == ["changed", "failed", "now", "upload under way", "part 1"]
    assert shown[: len(LIFE)] == LIFE
    failure = shown[shown.index("title failed") : shown.index("title now")]
    assert {"length 20", "why failed", "error_class ServerError", r"error bad\x1b[31m news", "etag e1"} < set(failure)
    present = shown[shown.index("title now") : shown.index("title upload under way")]
    assert present[1:5] == ["path f", "state failed", "length 20", "modification_time 2023-11-14T22:14:20.000+00:00"]
    assert {"done_at -", "hint wait"} < set(present)
    upload = shown[shown.index("title upload under way") :]
    assert upload[1:4] == ["upload_id upload-1", "part_size 8", "parts 1"]
    assert upload[upload.index("title part 1") + 1 :] == [
        "number 1",
        "offset 0",
        "size 8",
        "etag p1",
        "crc32c 99",
        "blocks 1",
    ]


def test_what_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal"
    asyncio.run(fill(path))
    shown = show(path, "g", capsys)
    assert titles(shown) == ["gone", "gone, not dealt with"]
    assert shown[shown.index("title gone, not dealt with") + 1 :] == [
        "path g",
        "length 1",
        "modification_time 2023-11-14T22:13:20.123+00:00",
        "file_id 8",
        "method checksum",
        "source_checksum MD5:1",
        "object_checksum CRC32C:1",
        "etag e1",
        "done_at TIME",
        "gone_at TIME",
    ]


def test_what_was_dealt_with_is_still_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def forget() -> None:
        journal = await Journal.open(path, source="src", destination="dst")
        await journal.forget_gone([gone.id for gone in await journal.gone(0, 10)])
        await journal.close()

    path = tmp_path / "journal"
    asyncio.run(fill(path))
    asyncio.run(forget())
    assert titles(show(path, "g", capsys)) == ["gone", "forgotten"]
    assert main(["journal", "show", "h", "--journal", str(path)]) == 2


@pytest.mark.parametrize(
    ("at", "text"),
    [(0, "-"), (1, "1970-01-01T00:00:00.001+00:00"), (-1, "1969-12-31T23:59:59.999+00:00"), (1 << 62, f"{1 << 62} ms")],
)
def test_any_number_a_source_shows_as_a_time_can_be_printed(at: int, text: str) -> None:
    assert _moment(at, "milliseconds") == text
