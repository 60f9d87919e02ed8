"""Many small files to a store that takes so many requests a second: how much of that is used, how much is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.throttle import Throttle
from tests.bench.measure import BenchFailed, clean_environment
from tests.bench.report import Section, Target, Verdict, number

ALLOWED: Final = 200
BUDGETS: Final = (200, 50, 400)
SETTLING: Final = 10
"""Seconds after which it must have found out."""
PHASE: Final = 40
"""Seconds of one budget."""
BUCKET: Final = "bench"
DIRECTORIES: Final = 20


def throttle(scale: float) -> list[Section]:
    """A constant budget, and one that changes twice, for both stores."""
    seconds = max(SETTLING + 5, round(PHASE * scale))
    with tempfile.TemporaryDirectory(prefix="asynccopy-bench-") as name:
        directory = Path(name)
        _grow(directory / "tree", (max(BUDGETS) + ALLOWED) * seconds)
        return [asyncio.run(_copied(store, directory, seconds)) for store in ("oss", "s3")]


def _grow(tree: Path, count: int) -> None:
    """More files than can be copied in the time: it is cut short."""
    for number_ in range(count):
        folder = tree / f"dt=2024-01-{number_ % DIRECTORIES + 1:02}"
        if number_ < DIRECTORIES:
            folder.mkdir(parents=True)
        (folder / f"part-{number_:06}").write_bytes(b"%020d" % number_)


async def _copied(store: str, directory: Path, seconds: int) -> Section:
    section = Section(
        f"Requests to a store that throttles: {store}",
        ("allowed a second", "reached", "of that", "rejected", "second by second: reached/rejected"),
    )
    async with S3Simulator([BUCKET]) if store == "s3" else OssSimulator([BUCKET]) as simulator:
        throttle, environment = simulator.throttle, _environment(simulator)
        throttle.per_second = BUDGETS[0]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "asynccopy", "copy", str(directory / "tree"), f"{store}://{BUCKET}/in"),
            *("--journal", str(directory / f"{store}.journal"), "--concurrency", "256"),
            env=environment,
            stderr=(directory / f"{store}.log").open("wb"),
        )
        try:
            while not throttle.admitted:
                if process.returncode is not None:
                    raise BenchFailed((directory / f"{store}.log").read_text())
                await asyncio.sleep(0.1)
            began = int(time.time()) + 1
            for turn, allowed in enumerate(BUDGETS):
                throttle.per_second = allowed
                await asyncio.sleep(began + (turn + 1) * seconds - time.time())
            if process.returncode is not None:
                raise BenchFailed(f"{store}: the copy ended early: {(directory / f'{store}.log').read_text()}")
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()
    for turn, allowed in enumerate(BUDGETS):
        _judge(section, throttle, allowed, range(began + turn * seconds, began + (turn + 1) * seconds - 1))
    return section


def _judge(section: Section, throttle: Throttle, allowed: int, seconds: Sequence[int]) -> None:
    settled = seconds[SETTLING:]
    admitted = sum(throttle.admitted[second] for second in settled)
    refused = sum(throttle.refused[second] for second in settled)
    reached, share = admitted / len(settled) / allowed, refused / max(1, admitted + refused)
    each = " ".join(f"{throttle.admitted[second]}/{throttle.refused[second]}" for second in seconds)
    section.rows.append((str(allowed), f"{number(admitted / len(settled))}/s", f"{reached:.1%}", f"{share:.2%}", each))
    what = f"{allowed} a second, after {SETTLING} s"
    section.verdicts.append(Verdict(f"{what}: reached", 100 * reached, Target(85, " %", at_least=True)))
    section.verdicts.append(Verdict(f"{what}: rejected", 100 * share, Target(5, " %")))


def _environment(simulator: S3Simulator | OssSimulator) -> dict[str, str]:
    key, secret = simulator.access_key, simulator.secret_key
    if isinstance(simulator, OssSimulator):
        own = {
            "OSS_ACCESS_KEY_ID": key,
            "OSS_ACCESS_KEY_SECRET": secret,
            "OSS_ENDPOINT": simulator.url,
            "OSS_REGION": simulator.region,
        }
    else:
        own = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL_S3": simulator.url,
            "AWS_REGION": simulator.region,
        }
    return {**clean_environment(own), "HOME": os.devnull}
