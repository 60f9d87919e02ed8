"""A copy from any kind of side to any other, as a user makes one: what tests of it fill, run and compare.

What a side holds is read past the code under test: from the simulators' memory, the servers' own clients, the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from asynccopy.model import MIB
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.storage.s3 import S3Destination, S3Settings
from asynccopy.storage.s3.credentials import CredentialChain
from testbed.fill import WebHdfsError
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program, eventually
from tests.service import Service
from tests.storage.test_object_sources import Simulator, destination_of, oss_environment, s3_environment
from tests.suites import NASTY_NAMES, NFC, NFD
from tests.suites.destination import put
from tests.suites.source import noise

Tree = Mapping[str, bytes]

TREE: Tree = {
    **{f"odd/{name}": noise(number) for number, name in enumerate(NASTY_NAMES, start=1)},
    **{f"odd/{name}.d/{name}": noise(99) for name in NASTY_NAMES[:-1]},
    NFC: b"one",
    NFD: b"another",
    "empty": b"",
    "hollow/": b"",
    "d/hollow/": b"",
    "d/e/f/deep": b"deep",
    "d/large": noise(11 * MIB + 7),
    **{f"many/{number:02}": noise(number * 997) for number in range(20)},
}


class Side(ABC):
    """One side of a pair: a directory, prefix or bucket of its own, empty at first."""

    url: str
    environment: Mapping[str, str] = {}
    part_size = "1MiB"

    @abstractmethod
    async def fill(self, tree: Tree) -> None:
        """Write files, replacing what is there; ``name/`` is an empty directory."""

    @abstractmethod
    async def remove(self, path: str) -> None: ...

    @abstractmethod
    async def held(self) -> dict[str, str]:
        """SHA-256 of all that it holds, by path; of an empty directory that of nothing, its path ends in a slash."""


class LocalSide(Side):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder)

    async def fill(self, tree: Tree) -> None:
        for path, body in tree.items():
            at = self.folder / path
            if path.endswith("/"):
                at.mkdir(parents=True, exist_ok=True)
            else:
                at.parent.mkdir(parents=True, exist_ok=True)
                at.write_bytes(body)

    async def remove(self, path: str) -> None:
        (self.folder / path).unlink()

    async def held(self) -> dict[str, str]:
        found = {}
        for folder, folders, files in os.walk(self.folder):
            base = folder[len(str(self.folder)) + 1 :]
            base = base and base + "/"
            if base and not folders and not files:
                found[base] = _digest(b"")
            for name in files:
                found[base + name] = _digest(Path(folder, name).read_bytes())
        return found


class SimulatedBucket(Side):
    """A bucket of a simulated S3 or OSS, below a prefix."""

    def __init__(self, simulator: Simulator, prefix: str) -> None:
        kind = "oss" if isinstance(simulator, OssSimulator) else "s3"
        self.simulator = simulator
        self.prefix = prefix
        self.url = f"{kind}://bucket/{prefix}"
        if kind == "s3":
            self.part_size = "5MiB"
        oss = isinstance(simulator, OssSimulator)
        self.environment = oss_environment(simulator) if oss else s3_environment(simulator)

    async def fill(self, tree: Tree) -> None:
        async with aclosing(destination_of(self.simulator)) as bucket:
            for path, body in tree.items():
                await put(bucket, f"{self.prefix}/{path}", body)

    async def remove(self, path: str) -> None:
        async with aclosing(destination_of(self.simulator)) as bucket:
            await bucket.delete(f"{self.prefix}/{path}")

    async def held(self) -> dict[str, str]:
        found, start = {}, len(self.prefix) + 1
        for key, stored in list(self.simulator.buckets["bucket"].objects.items()):
            if key.startswith(f"{self.prefix}/") and key[start:]:
                pieces = [bytes(piece) async for piece in stored.read(0, stored.size)]
                found[key[start:]] = _digest(b"".join(pieces))
        return found


class SimulatedHdfs(Side):
    def __init__(self, simulator: WebHdfsSimulator, root: str) -> None:
        assert isinstance(simulator.namespace, TreeNamespace)
        self.tree = simulator.namespace
        self.root = root
        self.url = f"webhdfs://{simulator.url.partition('://')[2]}{root}"
        self.environment = {"HADOOP_USER_NAME": "user"}
        self.tree.mkdir(root)

    async def fill(self, tree: Tree) -> None:
        for path, body in tree.items():
            at = f"{self.root}/{path}"
            if path.endswith("/"):
                self.tree.mkdir(at.rstrip("/"))
            else:
                self.tree.put(at, body)

    async def remove(self, path: str) -> None:
        self.tree.delete(f"{self.root}/{path}")

    async def held(self) -> dict[str, str]:
        found = {}
        for path, inode in self.tree.descend(self.root).items():
            at = f"{self.root}/{path}"
            if not inode.is_directory:
                found[path] = _digest(self.tree.read(at, 0, inode.length))
            elif path and not self.tree.children(at, "", 1)[0]:
                found[f"{path}/"] = _digest(b"")
        return found


class RealBucket(Side):
    """A bucket of a real S3 server, below a prefix."""

    part_size = "5MiB"

    def __init__(self, store: Store, bucket: str, prefix: str) -> None:
        self.store = store
        self.bucket = bucket
        self.prefix = prefix
        self.url = f"s3://{bucket}/{prefix}"
        self.environment = store.env()

    def _opened(self) -> S3Destination:
        settings = S3Settings.from_environment(environ=self.environment)
        return S3Destination(f"s3://{self.bucket}", settings=settings, credentials=CredentialChain(self.environment))

    async def fill(self, tree: Tree) -> None:
        async with aclosing(self._opened()) as bucket:
            for path, body in tree.items():
                await put(bucket, f"{self.prefix}/{path}", body)

    async def remove(self, path: str) -> None:
        async with aclosing(self._opened()) as bucket:
            await bucket.delete(f"{self.prefix}/{path}")

    async def held(self) -> dict[str, str]:
        found = await asyncio.to_thread(self.store.read_back, self.bucket, f"{self.prefix}/")
        return {key[len(self.prefix) + 1 :]: digest for key, (_, digest) in found.items() if key != f"{self.prefix}/"}


class RealHdfs(Side):
    def __init__(self, hdfs: Hdfs, root: str) -> None:
        self.hdfs = hdfs
        self.root = root
        self.url = hdfs.url + root
        self.environment = {"HADOOP_USER_NAME": hdfs.user}
        with hdfs.client() as client:
            client.mkdirs(root)

    async def fill(self, tree: Tree) -> None:
        await asyncio.to_thread(self._fill, tree)

    def _fill(self, tree: Tree) -> None:
        with self.hdfs.client() as client:
            for path, body in tree.items():
                at = f"{self.root}/{path}"
                if path.endswith("/"):
                    client.mkdirs(at.rstrip("/"))
                else:
                    client.put(at, body)

    async def remove(self, path: str) -> None:
        with self.hdfs.client() as client:
            client.delete(f"{self.root}/{path}")

    async def held(self) -> dict[str, str]:
        return await asyncio.to_thread(self._held)

    def _held(self) -> dict[str, str]:
        found: dict[str, str] = {}
        with self.hdfs.client() as client:
            waiting = [""]
            while waiting:
                path = waiting.pop()
                at = f"{self.root}/{path}".rstrip("/")
                try:
                    if client.status(at)["type"] == "FILE":
                        found[path] = _digest(client.read(at))
                        continue
                    names = client.names(at)
                except WebHdfsError as error:
                    if error.status != 404:
                        raise
                    continue  # gone since its directory was listed: a daemon may be at work
                if path and not names:
                    found[f"{path}/"] = _digest(b"")
                waiting += [f"{path}/{name}" if path else name for name in names]
        return found


async def prove_a_pair(program: Program, source: Side, destination: Side) -> dict[str, Any]:
    """Copy, compare, check, copy again, change, copy; returns the first result."""
    await source.fill(TREE)
    files = sum(not path.endswith("/") for path in TREE)
    sides = (source.url, destination.url)

    async def copy() -> dict[str, Any]:
        ended = await asyncio.to_thread(program.copy, *sides, "--part-size", destination.part_size)
        assert ended.code == 0, ended.err
        return ended.result

    wanted = {path: _digest(body) for path, body in TREE.items()}
    assert await source.held() == wanted, "the source is not what it is to be"
    first = await copy()
    assert first["files"] == {"expected": files, "copied": files, "skipped": 0, "failed": 0, "deleted": 0}
    assert first["verified"] == files
    assert await destination.held() == wanted
    checked = await asyncio.to_thread(program.run, "check", *sides)
    assert checked.code == 0, checked.out + checked.err
    again = await copy()
    assert again["files"] == {"expected": files, "copied": 0, "skipped": files, "failed": 0, "deleted": 0}
    await source.fill({"d/large": noise(11 * MIB + 8), "many/07": b"other"})
    changed = await copy()
    assert changed["files"] == {"expected": files, "copied": 2, "skipped": files - 2, "failed": 0, "deleted": 0}
    assert await destination.held() == await source.held() != wanted
    return first


async def prove_a_resumption(program: Program, source: Side, destination: Side) -> None:
    """kill -9 in the middle of a large file: what was sent is not sent again, nothing half-made is left."""
    tree = {"large": noise(24 * MIB + 3), "small": b"small"}
    await source.fill(tree)
    journal = program.folder / "killed.journal"
    command = [source.url, destination.url, "--part-size", destination.part_size, "--journal", str(journal)]
    running = program.start_copy(*command, "--bandwidth", "6MiB/s", "--concurrency", "2", "--processes", "1")
    await asyncio.to_thread(eventually, lambda: not running.runs or _parts(journal) >= 2, 60)
    running.kill()
    sent = _parts(journal)
    assert sent >= 2, running.so_far()
    assert "large" not in await destination.held()
    ended = await asyncio.to_thread(program.copy, *command)
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] >= sent
    assert await destination.held() == {path: _digest(body) for path, body in tree.items()}


def _is_file(path: str) -> bool:
    """Neither a directory, nor a piece that a killed process has left out of sight."""
    return not path.endswith("/") and not path.startswith(".asynccopy/")


def _parts(journal: Path) -> int:
    if not journal.exists():
        return 0
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        [[count]] = connection.execute("SELECT count(*) FROM parts").fetchall()
    except sqlite3.OperationalError:  # not made yet
        return 0
    finally:
        connection.close()
    return int(count)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Churn:
    """Changes of a side, from a seed; ``files`` holds what it must hold by now."""

    def __init__(self, side: Side, seed: int) -> None:
        self.side = side
        self.files: dict[str, bytes] = {}
        self.former: set[str] = set()
        self._chance = random.Random(seed)
        self._number = 0

    async def create(self, count: int) -> None:
        """In many directories, two levels deep."""
        new = {}
        for _ in range(count):
            self._number += 1
            body = self._chance.randbytes(self._chance.randrange(60_000))
            new[f"p{self._chance.randrange(40):02}/q{self._chance.randrange(3)}/f{self._number}"] = body
        await self._put(new)

    async def step(self) -> None:
        kind = self._chance.choice(("create", "create", "overwrite", "overwrite", "delete", "large"))
        path = self._chance.choice(sorted(self.files))
        if kind == "create":
            await self.create(1)
        elif kind == "overwrite":
            await self._put({path: self._chance.randbytes(self._chance.randrange(60_000))})
        elif kind == "large":
            await self._put({path: self._chance.randbytes(6 * MIB + self._chance.randrange(1000))})
        else:
            await self.side.remove(path)
            del self.files[path]

    async def _put(self, new: Tree) -> None:
        await self.side.fill(new)
        self.files |= new
        self.former |= new.keys()

    def wanted(self) -> dict[str, str]:
        return {path: _digest(body) for path, body in self.files.items()}


async def prove_a_mirror(program: Program, source: Side, destination: Side, deletions: str, seconds: float) -> None:
    """A daemon keeps the two equal while the one changes and the daemon is killed; then what is gone is handled."""
    churn = Churn(source, 7)
    await churn.create(150)
    keys = {
        "source": source.url, "destination": destination.url, "watch": "scan", "interval": "1s", "settle": "0s",
        "full_scan_interval": "4s", "deletions": deletions, "max_delete": "100%", "part_size": destination.part_size,
    }  # fmt: skip
    service = Service(program, "[mirrors.m]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items()))
    loop = asyncio.get_running_loop()
    for _ in range(3):
        service.start()
        until = loop.time() + seconds / 3
        while loop.time() < until:
            await churn.step()
            await asyncio.sleep(0.03)
        service.kill()
    service.start()
    wanted, until = churn.wanted(), loop.time() + 90
    while True:
        found = {path: digest for path, digest in (await destination.held()).items() if _is_file(path)}
        if deletions == "keep":
            found = {path: digest for path, digest in found.items() if path in wanted or path not in churn.former}
        if found == wanted:
            break
        wrong = {path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path)}
        assert loop.time() < until, (
            f"{sorted(wrong)[:9]}\n{await asyncio.to_thread(service.status)}\n{service.errors()}"
        )
        await asyncio.sleep(0.3)
    # Not that it is watching: so many directories take longer than the interval.
    status = await asyncio.to_thread(service.until, lambda status: status["files"]["pending"] == 0)
    assert (status["failed"], status["files"]["failed"], status["files"]["pending"]) == (0, 0, 0), status
    ended = await asyncio.to_thread(service.stop)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
