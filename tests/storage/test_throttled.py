"""Copies to stores that throttle: nothing fails, no retry is counted, and keys that lie together are written apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from asynccopy.errors import AsyncCopyError, Throttled, Unavailable
from asynccopy.journal import Journal
from asynccopy.journal.rows import Listed
from asynccopy.mirror.mirror import CopyOptions, Mirror, Pass
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import MIB
from asynccopy.retry import RetryPolicy
from asynccopy.simulators.faults import Fault, Status
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.oss_request import OssRequest
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.storage.memory import MemorySource
from asynccopy.storage.oss import OssDestination, OssSettings
from asynccopy.storage.oss.credentials import CredentialChain as OssCredentials
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin
from asynccopy.storage.registry import Stores
from asynccopy.storage.retrying import RetryingDestination
from asynccopy.storage.s3 import S3Destination, S3Settings
from asynccopy.storage.s3.credentials import CredentialChain as S3Credentials

NEVER_AGAIN = RetryPolicy(first=0.01, patience=0.0)
"""The first failure is the last."""
ORIGIN = Origin("http", "store", 80)


def oss_destination(simulator: OssSimulator, stores: Stores) -> OssDestination:
    environ = {
        "OSS_ACCESS_KEY_ID": simulator.access_key,
        "OSS_ACCESS_KEY_SECRET": simulator.secret_key,
        "OSS_ENDPOINT": simulator.url,
        "OSS_REGION": simulator.region,
    }
    settings = OssSettings.from_environment(environ=environ)
    credentials = OssCredentials(environ)
    return OssDestination("oss://bucket/in", settings=settings, credentials=credentials, pacing=stores.writing)


def s3_destination(simulator: S3Simulator, stores: Stores) -> S3Destination:
    environ = {
        "AWS_ACCESS_KEY_ID": simulator.access_key,
        "AWS_SECRET_ACCESS_KEY": simulator.secret_key,
        "AWS_ENDPOINT_URL_S3": simulator.url,
        "AWS_REGION": simulator.region,
    }
    settings = S3Settings.from_environment(environ=environ)
    credentials = S3Credentials(environ)
    return S3Destination("s3://bucket/in", settings=settings, credentials=credentials, pacing=stores.writing)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", source="memory://a", destination="store://b")
    yield journal
    await journal.close()


def job(
    source: MemorySource,
    destination: Any,
    journal: Journal,
    progress: Progress,
    order: Listed = "auto",
    policy: RetryPolicy = NEVER_AGAIN,
) -> Mirror:
    return Mirror(
        source,
        destination,
        journal,
        selection=Selection(),
        options=CopyOptions(concurrency=16, part_size=5 * MIB),
        stop=asyncio.Event(),
        progress=progress,
        policy=policy,
        look=Pass(order=order),
    )


@pytest.mark.parametrize("store", ["oss", "s3"])
async def test_throttling_costs_no_file_an_attempt(store: str, journal: Journal) -> None:
    tree = {f"f{n}": b"x" * n for n in range(40)} | {"large": bytes(21 * MIB)}
    stores, progress = Stores(), Progress()
    async with S3Simulator(["bucket"]) if store == "s3" else OssSimulator(["bucket"]) as simulator:
        simulator.throttle.per_second = 20
        side = s3_destination(simulator, stores) if isinstance(simulator, S3Simulator) else None
        async with aclosing(side or oss_destination(simulator, stores)) as destination:
            await job(MemorySource(tree), destination, journal, progress).copy()
            warning = stores.warning
        refused = sum(simulator.throttle.refused.values())
        held = {key: stored.size for key, stored in simulator.buckets["bucket"].objects.items()}
    assert held == {f"in/{path}": len(body) for path, body in tree.items()}
    assert (progress.copied_files, progress.failed_files, progress.retries) == (41, 0, 0)
    assert refused
    assert "the store throttles, allowed now: " in warning
    assert "requests/s" in warning or warning.endswith("being found out")  # as far as it had come


@pytest.mark.parametrize("store", ["oss", "s3"])
@pytest.mark.parametrize("body", [b"", b"<html><body>503 Service Unavailable</body></html>"])
@pytest.mark.parametrize("op", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
async def test_a_503_that_does_not_say_why_is_not_waited_for_without_end(
    store: str, body: bytes, op: str, journal: Journal
) -> None:
    tree = {"small": b"x", "large": bytes(11 * MIB)}
    stores, progress = Stores(), Progress()
    async with S3Simulator(["bucket"]) if store == "s3" else OssSimulator(["bucket"]) as simulator:
        side = s3_destination(simulator, stores) if isinstance(simulator, S3Simulator) else None
        async with aclosing(side or oss_destination(simulator, stores)) as destination, asyncio.timeout(20):
            mirror = job(MemorySource(tree), destination, journal, progress, policy=RetryPolicy(0.01, 0.1, patience=1))
            path = "/in/" if op == "PutObject" else "/in/large"  # not what tries the store out
            simulator.faults.append(Fault(Status(503, body), op, path=path, times=None))
            await mirror.copy()
            assert stores.warning == ""
    assert (progress.copied_files, progress.failed_files) == (1, 1)
    assert progress.retries > 1


@pytest.mark.parametrize("store", ["oss", "s3"])
async def test_nor_is_one_to_a_head_which_cannot_say_why(store: str) -> None:
    stores = Stores()
    async with S3Simulator(["bucket"]) if store == "s3" else OssSimulator(["bucket"]) as simulator:
        side = s3_destination(simulator, stores) if isinstance(simulator, S3Simulator) else None
        async with aclosing(side or oss_destination(simulator, stores)) as destination, asyncio.timeout(20):
            simulator.faults.append(Fault(Status(503), "HeadObject", times=None))
            with pytest.raises(Unavailable):
                await RetryingDestination(
                    destination, RetryPolicy(0.01, 0.1, patience=1), lambda error, delay: None
                ).head("in/a")
            assert simulator.faults[0].hits > 5


class Counting(OssSimulator):
    """Its clock goes by its requests: a second is a hundred of them, however fast this machine is. Ten refusals are
    enough."""

    def _now(self) -> float:
        return 1000.0 * int(time.time() / 1000) + sum(self.counts.values()) / 100

    def _admit(self, request: OssRequest) -> None:
        if self.refusals["PartitionQpsLimitted"] >= 10:
            self.throttle.per_prefix = None
        super()._admit(request)


@pytest.mark.parametrize("order", ["listing", "auto"])
async def test_dated_keys_are_written_apart(order: Listed, journal: Journal) -> None:
    tree = {f"dt=2024-01-{day:02}/part-{n:03}": b"x" for day in range(10) for n in range(40)}
    progress, source = Progress(), MemorySource(tree)
    async with Counting(["bucket"]) as oss, aclosing(oss_destination(oss, Stores())) as destination:
        mirror = job(source, destination, journal, progress, order)
        assert len([status async for status in mirror.plan()]) == 400  # so that all of it is listed
        oss.throttle.per_prefix = 20
        await job(source, destination, journal, progress, order).copy()
        refused = oss.refusals["PartitionQpsLimitted"]
        assert len(oss.buckets["bucket"].objects) == 400
    assert refused == 0 if order == "auto" else refused >= 10


# --- turns --------------------------------------------------------------------------------------------------------


class Server:
    """Refuses while ``busy``; counts."""

    def __init__(self) -> None:
        self.busy = 0
        self.wordless = False
        self.asked = 0

    async def serve(self, crowded: bool = False) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.busy:
            self.busy -= 1
            if self.wordless:
                raise Unavailable("store: 503 without an error code")
            raise Throttled("store: 503 SlowDown", crowded=crowded)
        return self.asked


async def test_a_refused_request_is_sent_again_and_one_that_cannot_be_is_raised() -> None:
    pacing, server = Pacing(ORIGIN), Server()
    server.busy = 3
    assert await pacing.again(server.serve) == 4
    assert pacing.refused == 3
    assert pacing.warning == "store: 503 SlowDown; the store throttles, allowed now: being found out"
    server.busy = 1
    with pytest.raises(Throttled):
        await pacing.once(server.serve)


async def test_a_503_without_a_word_is_throttling_only_while_the_store_throttles_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pacing, server = Pacing(ORIGIN), Server()
    server.busy, server.wordless = 1, True
    with pytest.raises(Unavailable):
        await pacing.again(server.serve)
    assert (pacing.refused, pacing.warning) == (0, "")
    server.busy, server.wordless = 1, False
    await pacing.again(server.serve)
    server.busy, server.wordless = 2, True
    assert await pacing.again(server.serve) == 6
    assert pacing.refused == 3
    monkeypatch.setattr("asynccopy.storage.pacing.LATELY", 0.0)  # the words were too long ago
    server.busy = 1
    with pytest.raises(Unavailable):
        await pacing.again(server.serve)
    assert pacing.refused == 3


async def test_other_errors_come_out_and_give_their_place_back() -> None:
    pacing = Pacing(ORIGIN)

    async def fail() -> None:
        raise AsyncCopyError("no")

    for _ in range(3):
        with pytest.raises(AsyncCopyError):
            await pacing.again(fail)
    assert pacing.warning == ""
    assert pacing._taken == 0


async def test_who_is_cancelled_while_waiting_leaves_the_turn_to_others() -> None:
    pacing, server = Pacing(ORIGIN), Server()
    server.busy = 1
    with pytest.raises(Throttled):
        await pacing.once(server.serve)
    waiting = [asyncio.create_task(pacing.again(server.serve)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [task.cancelled() for task in waiting] == [True, False] * 10
    assert server.asked == 11
    assert (pacing._taken, len(pacing._waiting)) == (0, 0)


async def test_sides_of_one_store_share_but_who_reads_does_not_wait_for_who_writes() -> None:
    daemon = Stores()
    one, other = Stores(daemon), Stores(daemon)
    assert one.writing(ORIGIN) is other.writing(ORIGIN)
    assert one.writing(ORIGIN) is not one.reading(ORIGIN)
    assert one.writing(ORIGIN) is not one.writing(Origin("http", "elsewhere", 80))
    third, server = Stores(daemon), Server()
    server.busy = 1
    await one.writing(ORIGIN).again(server.serve)
    assert other.warning == one.warning != ""
    assert third.warning == ""  # it does not write there
