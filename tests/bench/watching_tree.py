"""A tree that changes on command, a store, and a journal that has all of the tree as copied. Run by ``watching``.

Arguments: how many files, in how many directories. It prints the addresses, then obeys the commands on its standard
input, one a line, and answers each by a line of JSON:

    seed CONFIG     write the journal of that configuration's only mirror
    change COUNT    so many files, half of them new, half written anew, where nothing has changed before
    arrival         the moment (seconds since the epoch) when the store has the file that was changed last
    counts          the NameNode's requests by operation since the last time
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import uvloop

from asynccopy.config import load
from asynccopy.daemon.build import journal_path, open_sides, rules
from asynccopy.journal import Journal, PendingFile
from asynccopy.mirror.passes import FULL, LAST, SELECTED
from asynccopy.model import Evidence, FileStatus
from asynccopy.simulators.namespace import Generated, TreeNamespace
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.store import StoredObject
from asynccopy.simulators.webhdfs import WebHdfsSimulator

ROOT, BUCKET, PREFIX = "/estate", "bench", "estate"
SIZE = 1000
SPREAD = 10
"""Files changed in one directory"""
LOOKS = 3
"""A directory is passed over when it has looked the same several times."""
FINISHERS = 1000
ETAG = "0" * 32
EVIDENCE = Evidence("checksum", "MD5-of-0MD5-of-512CRC32C:" + ETAG, "CRC32C:00000000", ETAG)


class Estate:
    """The tree, and the servers of both sides."""

    def __init__(self, files: int, directories: int) -> None:
        self.tree = TreeNamespace()
        self.hdfs = WebHdfsSimulator(self.tree)
        self.s3 = S3Simulator([BUCKET], discard=True)
        self._told: Counter[str] = Counter()
        self._last = ""
        unchanged = StoredObject(SIZE, ETAG, time.time(), 0, [])
        for directory in range(directories):
            for file in range(files // directories):
                path = _path(directory, file)
                self.tree.put(path, Generated(SIZE))
                self.s3.buckets[BUCKET].objects[f"{PREFIX}{path.removeprefix(ROOT)}"] = unchanged
        self.tree.snapshots[ROOT] = {}
        self._fresh = iter(random.Random(7).sample(range(directories), directories))

    def change(self, count: int) -> None:
        left = count
        while left > 0:
            directory = next(self._fresh)
            for file in range(min(left, SPREAD)):
                path = _path(directory, file) + (".new" if file % 2 == 0 else "")
                self.tree.put(path, Generated(SIZE, 1))
                self._last = f"{PREFIX}{path.removeprefix(ROOT)}"
            left -= SPREAD

    async def arrival(self) -> float:
        """The last file must be a new one."""
        while (found := self.s3.buckets[BUCKET].objects.get(self._last)) is None:
            await asyncio.sleep(0.005)
        return found.modified

    def counts(self) -> dict[str, int]:
        now = Counter({op: count for op, count in self.hdfs.counts.items() if not op.endswith("@DataNode")})
        told, self._told = self._told, now
        return dict(now - told)

    def listed(self, path: str) -> list[FileStatus]:
        """What a directory holds, by paths relative to the root."""
        inodes, _ = self.tree.children(f"{ROOT}/{path}".rstrip("/"), "", sys.maxsize)
        prefix = f"{path}/" if path else ""
        return [
            FileStatus(
                f"{prefix}{inode.name}",
                inode.length,
                inode.modification_time,
                inode.file_id,
                inode.is_directory,
                inode.block_size,
            )
            for inode in inodes
        ]


def _path(directory: int, file: int) -> str:
    return f"{ROOT}/day={directory:06}/part-{file:05}.parquet"


async def seed(estate: Estate, configuration: Path) -> None:
    """As a mirror leaves it that has copied everything, and looked at it several times."""
    config = load(configuration)
    [(name, mirror)] = config.mirrors.items()
    source, destination = await open_sides(config, mirror)
    selection = rules(mirror).selection.text
    path = journal_path(config, name, source.url, destination.url)
    journal = await Journal.open(path, source=source.url, destination=destination.url)
    for _ in range(LOOKS):
        await journal.begin_pass(selection, "full")
        [root] = await journal.pending_directories(1)
        await journal.record_page(root.id, [], estate.listed(""), None)
        while directories := await journal.pending_directories(1000):
            for directory in directories:
                await journal.record_page(directory.id, estate.listed(directory.path), [], None)
        await journal.listing_done()
        await _finish(journal)
        await journal.finish_pass(complete=True)
    await journal.remember(SELECTED, selection)
    await journal.remember(LAST, "1.0")  # the next pass is due, but no full one
    await journal.remember(FULL, repr(time.time()))
    await journal.close()
    await destination.aclose()
    await source.aclose()


async def _finish(journal: Journal) -> None:
    after = 0
    while rows := await journal.pending(after, 10 * FINISHERS):
        after = rows[-1].id
        left = iter(rows)
        async with asyncio.TaskGroup() as group:
            for number in range(FINISHERS):
                group.create_task(_work(journal, left), name=f"done {number}")


async def _work(journal: Journal, rows: Iterator[PendingFile]) -> None:
    for row in rows:
        await journal.done(row.id, row.status.version, EVIDENCE)


async def main(files: int, directories: int) -> None:
    estate = Estate(files, directories)
    gc.collect()
    gc.freeze()  # else every full collection walks millions of objects while a client waits
    async with estate.hdfs, estate.s3:
        _say({"webhdfs": estate.hdfs.url, "s3": estate.s3.url})
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            match words:
                case ["seed", configuration]:
                    _say(await seed(estate, Path(configuration)))
                case ["change", count]:
                    _say(estate.change(int(count)))
                case ["arrival"]:
                    _say(await estate.arrival())
                case ["counts"]:
                    _say(estate.counts())


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
