"""``asynccopy demo``: the main job seen in a minute: copied, killed half-way, resumed, verified."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct

from asynccopy.cli.running import run
from asynccopy.errors import AsyncCopyError, Interrupted
from asynccopy.journal import JournalReader
from asynccopy.model import MIB
from asynccopy.units import size_text, span_text

SMALL_FILES: Final = 2000
BIG_FILES: Final = 10
BIG_LENGTH: Final = 40 * MIB


class _Stage(Struct, frozen=True):
    """Two servers to copy between. ``environment`` is what a user would export to reach them."""

    source: str
    destination: str
    environment: Mapping[str, str]


@click.command("demo")
@click.option("--source", help="Copy this instead of a generated tree on a simulated HDFS.")
@click.option("--destination", help="With --source: where to; an empty place.")
def command(source: str | None, destination: str | None) -> int:
    """Copy a tree, kill the copy half-way, run the same command again, and verify.

    Everything runs in here: a simulated HDFS with generated files and a simulated S3 store. With --source and
    --destination it does the same between servers of yours.
    """
    if (source is None) != (destination is None):
        raise click.UsageError("--source and --destination belong together")
    return run(lambda stop: _demo(source, destination, stop))


async def _demo(source: str | None, destination: str | None, stop: asyncio.Event) -> int:
    with tempfile.TemporaryDirectory(prefix="asynccopy-demo-") as name:
        folder = Path(name)
        if source is not None and destination is not None:
            return await _Show(_Stage(source, destination, {}), folder, stop).play()
        async with _simulated(folder) as stage:
            return await _Show(stage, folder, stop).play()


@asynccontextmanager
async def _simulated(folder: Path) -> AsyncIterator[_Stage]:
    """A simulated HDFS that holds the tree, and an empty simulated store."""
    # Imported late: without the simulators (and aiohttp) the demo still works on given servers.
    from asynccopy.simulators.namespace import Generated, TreeNamespace
    from asynccopy.simulators.s3 import S3Simulator
    from asynccopy.simulators.webhdfs import WebHdfsSimulator

    # A killed client is what this is about: the servers need not tell of every connection it broke.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    tree = TreeNamespace(block_size=16 * MIB)
    for number in range(SMALL_FILES):
        length = number * 7919 % 65_536  # 0 to 64 KiB
        tree.put(
            f"/demo/table/day={number % 20:02d}/part-{number:05d}", Generated(length, seed=number % 4, version=number)
        )
    for number in range(BIG_FILES):
        tree.put(f"/demo/archive/big-{number}.bin", Generated(BIG_LENGTH, version=number))
    tree.put("/demo/names/100 % ängstlich? #1 \N{SNOWMAN}", b"a name that must survive")
    tree.mkdir("/demo/empty")
    store = folder / "store"
    store.mkdir()
    async with WebHdfsSimulator(tree, datanodes=2) as hdfs, S3Simulator(["demo"], directory=store) as s3:
        environment = {
            "AWS_ENDPOINT_URL_S3": s3.url,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "AWS_REGION": "us-east-1",
            "HADOOP_USER_NAME": "demo",
        }
        yield _Stage(f"webhdfs://{hdfs.url.removeprefix('http://')}/demo", "s3://demo/copy", environment)


class _Show:
    """The play in its acts. Every command is a process of its own, as a user's would be."""

    def __init__(self, stage: _Stage, folder: Path, stop: asyncio.Event) -> None:
        self._stage = stage
        self._stop = stop
        self._journal = folder / "demo.journal"
        self._result = folder / "result.json"
        # check finds no journal in this state directory, so it compares all bytes again
        self._environment = {**os.environ, **stage.environment, "XDG_STATE_HOME": str(folder / "state")}
        self._copy: tuple[str, ...] = ("copy", stage.source, stage.destination, "--journal", str(self._journal))
        # so few at once that the big files do not all end at the same moment: some are to be cut in their middle
        self._copy += ("--concurrency", "8", "--part-size", "8MiB", "--result", str(self._result))

    async def play(self) -> int:
        """Exit code 0 when everything came out as promised."""
        _say("1. Copy, and kill -9 the process half-way")
        killed = await self._copy_and_kill()
        _say("2. The same command again")
        started = asyncio.get_running_loop().time()
        if await self._call(*self._copy) != 0:
            raise AsyncCopyError("the resumed copy failed", hint="see the lines above")
        took = asyncio.get_running_loop().time() - started
        result = json.loads(self._result.read_bytes())
        _say("3. Compare both sides")
        differences = await self._call("check", self._stage.source, self._stage.destination)
        return self._conclude(killed, result, differences, took)

    async def _copy_and_kill(self) -> int:
        """Returns how many files were reported done when it was killed."""
        process = await self._start(*self._copy)
        waiting = asyncio.create_task(process.wait(), name="copy")
        try:
            while not waiting.done():
                await asyncio.wait((waiting,), timeout=0.02)
                if self._stop.is_set():
                    break
                if await self._is_half_way():
                    process.kill()
                    break
            await waiting
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._check_stopped()
        if process.returncode not in (0, -9):
            raise AsyncCopyError("the copy failed before it was half-way", hint="see the lines above")
        done = await self._done()
        how = "killed" if process.returncode == -9 else "was too quick to be killed"
        _say(f"   {how} with {done:,} files reported done")
        return done

    async def _is_half_way(self) -> bool:
        """The journal can be read while its copy runs."""
        if not self._journal.exists():
            return False
        try:
            journal = await JournalReader.read(self._journal)
        except AsyncCopyError:
            return False  # it is just being made
        try:
            totals = await journal.totals()
            if totals.done_files == 0:
                return False
            state = await journal.state()
        finally:
            await journal.close()
        half_of_bytes = totals.done_bytes * 2 > state.listed_bytes
        return state.listing_done and (half_of_bytes or totals.done_files * 10 > state.listed_files * 9)

    async def _done(self) -> int:
        journal = await JournalReader.read(self._journal)
        try:
            return (await journal.totals()).done_files
        finally:
            await journal.close()

    async def _call(self, *arguments: str) -> int:
        process = await self._start(*arguments)
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._check_stopped()
        return code

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        _say(f"   $ {shlex.join(('asynccopy', *arguments))}")
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "asynccopy", *arguments, env=self._environment, stdin=asyncio.subprocess.DEVNULL
        )

    def _check_stopped(self) -> None:
        if self._stop.is_set():
            raise Interrupted("the demo was stopped")

    def _conclude(self, killed: int, result: dict[str, Any], differences: int, took: float) -> int:
        files, sizes = result["files"], result["bytes"]
        kept = files["skipped"] >= killed and files["skipped"] + files["copied"] == files["expected"]
        verdicts = (
            (kept, f"{files['skipped']:,} files that were done before the kill were not sent again"),
            (
                files["failed"] == 0,
                f"{files['copied']:,} files, {size_text(sizes['copied'])} copied in {span_text(took)}",
            ),
            (result["outcome"] == "succeeded", f"{result['resumed_parts']:,} finished parts of big files were kept"),
            (differences == 0, f"both sides are equal: {files['expected']:,} files, {size_text(sizes['expected'])}"),
        )
        _say("\nSummary")
        for good, text in verdicts:
            _say(f"   {'ok' if good else 'WRONG':5}  {text}")
        return 0 if all(good for good, _ in verdicts) else 1


def _say(text: str) -> None:
    click.echo(text, err=True)
