"""Worker processes that are killed, suspended, talk nonsense or lose their parent; and the same results as without."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import stat
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import AsyncCopyError, CredentialsRefused, Interrupted, JournalFull, UsageError
from asynccopy.executors import process as process_module
from asynccopy.executors.frames import SetUp
from asynccopy.executors.processes import ProcessExecutor, shares
from asynccopy.executors.recipe import inline
from asynccopy.executors.seat import Patience
from asynccopy.journal import Journal
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import OpenUpload, PartReceipt
from asynccopy.retry import RetryPolicy
from asynccopy.simulators import Fault, S3Simulator, TreeNamespace, WebHdfsSimulator
from asynccopy.simulators.faults import Status
from asynccopy.storage.registry import NameNodes, Place, Settings, open_destination, open_source

MIB = 1 << 20
chance = random.Random(11)
SMALL = {f"d{n % 7}/s{n}": chance.randbytes(chance.choice([0, 1, 700, 20_000])) for n in range(500)}
SMALL |= {path: chance.randbytes(900) for path in ("d1/s155", "d3/s101", "d2/s408")}  # those that faults are about
LARGE = {f"d{n}/large{n}": chance.randbytes(11 * MIB + n) for n in range(4)}  # three parts each
TREE = SMALL | LARGE


def workers(parent: int | None = None) -> list[int]:
    """The process ids of the living workers that a process has."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        ours = int(fields[1]) == (parent or os.getpid()) and fields[0] != "Z"
        if ours and b"-m\0asynccopy.executors\0" in command:
            found.append(int(entry.name))
    return found


class Recorded:
    """A journal that counts what is reported done."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.files: Counter[int] = Counter()
        self.parts: Counter[tuple[int, int]] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def done(self, file_id: int, *rest: Any) -> bool:
        applied = await self._journal.done(file_id, *rest)
        self.files[file_id] += 1
        return applied

    async def part_done(self, file_id: int, receipt: PartReceipt) -> None:
        await self._journal.part_done(file_id, receipt)
        self.parts[file_id, receipt.number] += 1

    async def upload(self, file_id: int) -> OpenUpload | None:
        return await self._journal.upload(file_id)


class World:
    """Two simulators in this process, and jobs between them; every job has a prefix and a journal of its own."""

    def __init__(self, hdfs: WebHdfsSimulator, s3: S3Simulator, folder: Path) -> None:
        self.hdfs = hdfs
        self.s3 = s3
        self._folder = folder
        self.progress = Progress()
        self.noticed: list[str] = []

    async def held(self, prefix: str) -> dict[str, bytes]:
        objects = self.s3.buckets["bucket"].objects
        return {
            key.removeprefix(f"{prefix}/"): b"".join([piece async for piece in found.read(0, found.size)])
            for key, found in objects.items()
            if key.startswith(f"{prefix}/")
        }

    @asynccontextmanager
    async def mirror(
        self,
        name: str,
        *,
        processes: int = 2,
        patience: Patience | None = None,
        stop: asyncio.Event | None = None,
        bandwidth: float | None = None,
        concurrency: int = 6,
        policy: RetryPolicy | None = None,
        url: str | None = None,
    ) -> AsyncIterator[Mirror]:
        settings = Settings(
            s3_endpoint=self.s3.url,
            s3_region="us-east-1",
            cluster=Cluster(user="me"),
            bandwidth=bandwidth,
            concurrency=concurrency,
        )
        source_url, destination_url = self.hdfs.url.replace("http", "webhdfs") + "/", f"s3://bucket/{name}"

        def build(recipe: Any, source: Any, destination: Any, watch: Any) -> Any:
            if processes == 1:
                return inline(recipe, source, destination, watch)
            whole = SetUp(Place(url or source_url, settings), Place(destination_url, settings), recipe)
            return ProcessExecutor(shares(whole, processes), watch, NameNodes().lend, patience)

        async with (
            aclosing(open_source(source_url, settings)) as source,
            aclosing(open_destination(destination_url, settings)) as destination,
        ):
            journal = await Journal.open(self._folder / name, source=source_url, destination=destination_url)
            self.recorded = Recorded(journal)
            self.progress, self.noticed = Progress(), []
            try:
                yield Mirror(
                    source,
                    destination,
                    self.recorded,  # type: ignore[arg-type]  # looks like one
                    selection=Selection(),
                    options=CopyOptions(concurrency=concurrency, part_size=5 * MIB),
                    stop=stop or asyncio.Event(),
                    progress=self.progress,
                    noticed=lambda error, _: self.noticed.append(f"{type(error).__name__}: {error}"),
                    policy=policy,
                    build=build,
                )
            finally:
                await journal.close()

    async def copy(self, name: str, **options: Any) -> Progress:
        async with self.mirror(name, **options) as mirror:
            await mirror.copy()
        return self.progress

    def totals(self) -> dict[str, Any]:
        # but for how long each took, and what is only shown
        found = {name: value for name, value in vars(self.progress).items() if name != "slowest" and name[0] != "_"}
        found["failures"] = sorted((f.path, f.error_class, f.message, f.hint) for f in self.progress.failures)
        return found

    def assert_nothing_reported_twice(self) -> None:
        assert set(self.recorded.files.values()) == {1}
        assert set(self.recorded.parts.values()) <= {1}

    def uploads(self) -> int:
        return len(self.s3.buckets["bucket"].uploads)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "simulator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "simulator-secret")
    tree = TreeNamespace(block_size=5 * MIB)
    for path, body in TREE.items():
        tree.put(f"/{path}", body)
    async with WebHdfsSimulator(tree) as hdfs, S3Simulator(["bucket"]) as s3:
        yield World(hdfs, s3, tmp_path)
    assert workers() == []


async def test_two_workers_do_what_one_loop_does(world: World) -> None:
    await world.copy("one", processes=1)
    expected = world.totals()
    seen: set[int] = set()

    async def look() -> None:
        while True:
            seen.update(workers())
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    await world.copy("two")
    looking.cancel()
    assert await world.held("two") == TREE
    assert len(seen) == 2
    assert world.totals() == expected
    assert expected["moved_bytes"] == sum(map(len, TREE.values()))
    world.assert_nothing_reported_twice()
    assert world.uploads() == 0
    await world.copy("two")
    assert (world.progress.copied_files, world.progress.skipped_files) == (0, len(TREE))


async def test_failures_and_retries_are_told_as_without_workers(world: World) -> None:
    policy = RetryPolicy(first=0.01, most=0.02, patience=60)

    def faults() -> None:
        busy = b"<Error><Code>SlowDown</Code><Message>slower</Message></Error>"
        refused = b'{"RemoteException":{"exception":"AccessControlException","message":"not you: /d1/s155"}}'
        world.hdfs.faults[:] = [
            Fault(Status(403, refused, {"Content-Type": "application/json"}), path="/d1/s155", times=None),
            Fault(Status(500), op="OPEN@DataNode", path="/d3/s101", times=2),
        ]
        world.s3.faults[:] = [
            Fault(Status(503, busy), op="UploadPart", path="large1", part=2, times=3),
            Fault(Status(503, busy), op="PutObject", path="/d2/s408", times=1),
        ]

    found = []
    for name, processes in (("one", 1), ("two", 2)):
        faults()
        await world.copy(name, processes=processes, policy=policy)
        # but for what is throttled: that goes by each process's own pace
        told = Counter(line.replace(f"/{name}/", "/NAME/") for line in world.noticed if "Throttled" not in line)
        found.append((world.totals(), told, world.noticed and world.progress.retries))
    assert found[0][0]["failed_files"] > 0
    assert found[0][2] >= 2  # of the DataNode; what a store throttles is no failure
    assert found[1] == found[0]
    assert world.uploads() == 0


async def test_what_is_fatal_in_a_worker_ends_the_run_with_the_same_words(world: World) -> None:
    refused = b"<Error><Code>InvalidAccessKeyId</Code><Message>who?</Message></Error>"
    errors = []
    for name, processes in (("one", 1), ("two", 2)):
        world.s3.faults[:] = [Fault(Status(403, refused), op="PutObject", path="/s", times=None)]
        with pytest.raises(CredentialsRefused) as raised:
            await world.copy(name, processes=processes)
        errors.append((raised.value.message.split("/s")[0].replace(name, "NAME"), raised.value.hint))
    assert errors[1] == errors[0]
    assert workers() == []


async def test_a_worker_that_cannot_open_its_sides_ends_the_run(world: World) -> None:
    with pytest.raises(UsageError, match="unknown scheme gopher"):
        await world.copy("two", url="gopher://x/")


async def test_a_journal_that_fails_under_a_part_ends_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any) -> None:
        raise JournalFull("no space")

    monkeypatch.setattr(Recorded, "part_done", full)
    with pytest.raises(JournalFull, match="no space"):
        await world.copy("j")
    assert workers() == []


# --- death --------------------------------------------------------------------------------------------------------


async def test_a_parent_that_was_suspended_itself_does_not_blame_its_workers(world: World) -> None:
    copying = asyncio.create_task(world.copy("n", bandwidth=15 * MIB, patience=Patience(hang=1.0)))
    while world.progress.copied_files < 20:
        await asyncio.sleep(0.02)
    before = workers()
    time.sleep(3)
    await asyncio.sleep(0.5)
    assert workers() == before
    await copying
    assert await world.held("n") == TREE


async def test_workers_killed_at_random_moments(world: World) -> None:
    kills = 0

    async def murder() -> None:
        nonlocal kills
        while kills < 6:
            await asyncio.sleep(chance.uniform(0.3, 0.9))
            if victims := workers():
                os.kill(chance.choice(victims), signal.SIGKILL)
                kills += 1

    killing = asyncio.create_task(murder())
    await world.copy("k", bandwidth=12 * MIB)
    killing.cancel()
    assert kills >= 3
    assert await world.held("k") == TREE
    assert world.progress.copied_files == len(TREE)
    assert world.progress.resumed_parts == 0, "parts of this very run are no resumed ones"
    assert world.progress.moved_bytes == sum(map(len, TREE.values()))
    assert world.progress.in_flight == {}
    world.assert_nothing_reported_twice()
    assert world.uploads() == 0
    assert world.s3.counts["UploadPart"] <= 12 + 1 + 6 * kills


async def test_a_suspended_worker_is_replaced(world: World) -> None:
    async def suspend() -> int:
        while not (found := workers()):
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)
        os.kill(found[0], signal.SIGSTOP)
        return found[0]

    suspending = asyncio.create_task(suspend())
    started = time.monotonic()
    await world.copy("h", bandwidth=15 * MIB, patience=Patience(hang=2.0))
    assert time.monotonic() - started < 20
    assert not Path(f"/proc/{await suspending}").exists()
    assert await world.held("h") == TREE
    world.assert_nothing_reported_twice()
    assert world.uploads() == 0


# --- nonsense -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Lets workers be a script; it is given ``end``, its end of the socket pair."""

    def replace(body: str) -> None:
        script = tmp_path / "fake-worker"
        script.write_text(
            f"#!{sys.executable} -P\nimport os, socket, struct, sys, time\n"
            f"end = socket.socket(fileno=os.dup(0))\n{body}\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(process_module.sys, "executable", str(script))

    real = sys.executable
    replace.real = real  # type: ignore[attr-defined]
    yield replace
    monkeypatch.undo()


GARBAGE = {
    "random": "end.sendall(os.urandom(4096))",
    "oversize": "end.sendall(struct.pack('>I', 0xffffffff))",
    "an order that nobody gave": r"end.sendall(struct.pack('>I', 11) + b'\x94\xa6report\x91\x92\x07\x05\x90\x90'[:11])",
    "silence": "time.sleep(60)",
    "end": "print('cannot go on', file=sys.stderr); sys.exit(3)",
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_nonsense_for_ever_ends_the_run_with_one_line(world: World, fake: Any, kind: str) -> None:
    fake(GARBAGE[kind] + "\ntime.sleep(60)")
    with pytest.raises(Interrupted) as raised:
        await world.copy("g", patience=Patience(hang=0.5, deaths=3))
    assert raised.value.message.startswith("3 worker processes in a row got nothing done")
    assert "\n" not in raised.value.message
    if kind == "end":
        assert "exited with code 3; its last words: cannot go on" in raised.value.message
    assert raised.value.hint
    assert world.progress.copied_files == 0


async def test_nonsense_once_is_repaired(world: World, fake: Any, tmp_path: Path) -> None:
    fake(
        f"flag = {str(tmp_path / 'flag')!r}\n"
        "if os.path.exists(flag):\n"
        f"    os.execv({fake.real!r}, [{fake.real!r}, *sys.argv[1:]])\n"
        "open(flag, 'w').close()\n"
        "end.sendall(os.urandom(4096))\ntime.sleep(60)"
    )
    await world.copy("g")
    assert await world.held("g") == TREE


async def test_a_file_that_kills_every_worker_is_left_by_name_and_all_others_are_copied(
    world: World, fake: Any
) -> None:
    victim = "d3/s101"
    fake(
        "sys.argv = ['worker']\n"
        "from asynccopy.transfer.copy import Copier\n"
        "real = Copier.copy\n"
        "async def copy(self, status, log):\n"
        f"    if status.path == {victim!r}: os._exit(7)\n"
        "    return await real(self, status, log)\n"
        "Copier.copy = copy\n"
        "from asynccopy.executors import worker\nworker.work()"
    )
    await world.copy("p")
    [failure] = world.progress.failures
    assert (failure.path, failure.error_class) == (victim, "FileError")
    assert failure.message.endswith("4 worker processes were lost while they had it, the last one exited with code 7")
    assert await world.held("p") == {path: body for path, body in TREE.items() if path != victim}
    assert world.progress.moved_bytes == sum(map(len, TREE.values())) - len(TREE[victim])


async def test_a_bug_in_a_worker_shows_its_traceback(world: World, fake: Any) -> None:
    fake(
        "sys.argv = ['worker']\n"
        "from asynccopy.transfer.copy import Copier\n"
        "async def copy(self, *_): raise ZeroDivisionError('here')\n"
        "Copier.copy = copy\n"
        "from asynccopy.executors import worker\nworker.work()"
    )
    with pytest.raises(RuntimeError) as raised:
        await world.copy("b")
    assert "ZeroDivisionError: here" in "".join(raised.value.__notes__)
    assert not isinstance(raised.value, AsyncCopyError)


async def test_a_worker_that_gets_nonsense_ends_with_one_line() -> None:
    for raw in (b"\xff\xff\xff\xff", b"\0\0\0\x03abc", b""):
        worker = await process_module.WorkerProcess.start(1)
        words = asyncio.create_task(worker.relay())
        worker.channel._writer.write(raw)
        if not raw:
            worker.channel.close()
        await asyncio.wait_for(words, 10)
        await worker.end()
        assert worker.words == ("" if not raw else worker.words)
        assert not raw or worker.words.startswith("the parent makes no sense: a frame")
        assert worker.ending == f"exited with code {1 if raw else 0}"


# --- stop and cancel ----------------------------------------------------------------------------------------------


async def test_a_stop_finishes_the_ranges_in_flight_and_the_next_run_repeats_nothing(world: World) -> None:
    stop = asyncio.Event()

    def unfinished(recorded: Recorded) -> int:
        return sum(count for (file, _), count in recorded.parts.items() if file not in recorded.files)

    def begun(recorded: Recorded) -> bool:
        """Of some file one part is sent, so one of three is still to be begun: a worker has one range in flight."""
        parts = Counter(file for file, _ in recorded.parts if file not in recorded.files)
        return 1 in parts.values()

    async def later() -> None:
        while not hasattr(world, "recorded") or not world.recorded.files or not begun(world.recorded):
            await asyncio.sleep(0)
        stop.set()

    stopping = asyncio.create_task(later())
    with pytest.raises(Interrupted):
        await world.copy("s", stop=stop, concurrency=2)
    await stopping
    assert workers() == []
    first = world.recorded
    done = len(await world.held("s"))
    assert 0 < done < len(TREE)
    await world.copy("s")
    assert await world.held("s") == TREE
    assert not first.files & world.recorded.files
    assert not first.parts & world.recorded.parts
    assert world.progress.resumed_parts == unfinished(first) > 0
    sent = world.s3.counts["UploadPart"]
    await world.copy("s")
    probe = world.s3.counts["UploadPart"] - sent
    assert sent == 12 + 2 * probe, "a part was sent twice, or a worker has probed"
    assert world.uploads() == 0


async def test_cancelled_at_random_moments_no_worker_stays_behind(world: World) -> None:
    for _ in range(6):
        copying = asyncio.create_task(world.copy("c", bandwidth=15 * MIB))
        await asyncio.sleep(chance.uniform(0.05, 1.2))
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        assert workers() == []
    await world.copy("c")
    assert await world.held("c") == TREE
    assert world.uploads() == 0
