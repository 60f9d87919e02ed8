"""From a real HDFS to OSS (simulated) and to a real S3 server behind a meddler: no object is wrong, no success is
false, and no upload is left, whatever goes wrong on the way. The counts are printed (``pytest -rP``).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import pytest

from asynccopy.simulators.faults import Action, Fault, FlipBit, LostReply, OtherCrc64, Reset, Status
from asynccopy.simulators.oss import OssSimulator
from testbed.content import Content, small_files
from testbed.fill import Manifest, fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Ended, Program, Running
from tests.real.meddler import Meddler
from tests.servers import uploading

MIB = 1 << 20
FILES = small_files(12, 30_000, directories=3) | {f"big/{n}": Content(40 + n, 11 * MIB + n) for n in range(2)}
OPTIONS = ("--part-size", "5MiB", "--concurrency", "4")
ROTATING_SECONDS = float(os.environ.get("ASYNCCOPY_ROTATING_SECONDS", "15"))


class Target(Protocol):
    """A store that faults can be scripted for. ``url`` is the destination, ``faults`` hold until they are taken out."""

    faults: list[Fault]
    url: str

    async def objects(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 by path, of the bytes that the store holds."""
        ...

    async def uploads(self) -> list[str]: ...

    @property
    def completing(self) -> bool:
        """Whether a Complete has come."""
        ...

    def refusal(self, code: str, status: int) -> Status: ...


class Oss:
    def __init__(self, oss: OssSimulator) -> None:
        self.oss, self.url, self.faults = oss, "oss://bucket/k", oss.faults

    async def objects(self) -> dict[str, tuple[int, str]]:
        found = {}
        for key, stored in list(self.oss.buckets["bucket"].objects.items()):
            digest = hashlib.sha256()
            async for piece in stored.read(0, stored.size):
                digest.update(piece)
            found[key.removeprefix("k/")] = (stored.size, digest.hexdigest())
        return found

    async def uploads(self) -> list[str]:
        return [upload.key for upload in self.oss.buckets["bucket"].uploads.values()]

    @property
    def completing(self) -> bool:
        return self.oss.counts["CompleteMultipartUpload"] > 0

    def refusal(self, code: str, status: int) -> Status:
        return Status(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), XML)

    def environment(self) -> dict[str, str]:
        return {
            "OSS_ENDPOINT": self.oss.url,
            "OSS_REGION": self.oss.region,
            "OSS_ACCESS_KEY_ID": self.oss.access_key,
            "OSS_ACCESS_KEY_SECRET": self.oss.secret_key,
        }


class S3:
    def __init__(self, store: Store, meddler: Meddler, bucket: str) -> None:
        self.store, self.meddler, self.bucket = store, meddler, bucket
        self.url, self.faults = f"s3://{bucket}/k", meddler.faults

    async def objects(self) -> dict[str, tuple[int, str]]:
        found = await asyncio.to_thread(self.store.read_back, self.bucket, "k/")
        return {key.removeprefix("k/"): entry for key, entry in found.items()}

    async def uploads(self) -> list[str]:
        return await asyncio.to_thread(uploading, self.store, self.bucket)

    @property
    def completing(self) -> bool:
        return self.meddler.counts["CompleteMultipartUpload"] > 0

    def refusal(self, code: str, status: int) -> Status:
        return Status(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), XML)

    def environment(self) -> dict[str, str]:
        return self.store.env() | {"AWS_ENDPOINT_URL_S3": self.meddler.url}


XML = {"Content-Type": "application/xml"}


@asynccontextmanager
async def oss_target() -> AsyncIterator[Oss]:
    async with OssSimulator(["bucket"]) as oss:
        yield Oss(oss)


@pytest.fixture(params=["oss", "s3"])
async def target(request: pytest.FixtureRequest) -> AsyncIterator[Oss | S3]:
    if request.param == "oss":
        async with oss_target() as oss:
            yield oss
        return
    store, bucket = request.getfixturevalue("versitygw"), request.getfixturevalue("bucket")
    async with Meddler(store.endpoint) as meddler:
        yield S3(store, meddler, bucket)


class Job:
    """The same copy, as often as it takes."""

    def __init__(self, hdfs: Hdfs, root: str, target: Oss | S3, folder: Path) -> None:
        self.manifest: Manifest = fill(hdfs.http, hdfs.user, root, FILES)
        self.program = Program(folder, target.environment() | {"HADOOP_USER_NAME": hdfs.user})
        self.target, self._source = target, hdfs.url + root
        self.wrong = self.false = self.runs = 0

    def start(self, *options: str, **environment: str) -> Running:
        self.runs += 1
        return self.program.start_copy(self._source, self.target.url, *OPTIONS, *options, **environment)

    async def ended(self, running: Running) -> Ended:
        ended = await asyncio.to_thread(running.wait)
        assert "Traceback" not in ended.err, ended.err
        await self.look(ended)
        return ended

    async def look(self, ended: Ended | None) -> None:
        """Count what the store holds that is not the source's, and what was reported done and is not there."""
        held = await self.target.objects()
        self.wrong += sum(self.manifest.get(path) != entry for path, entry in held.items())
        ledger = await asyncio.to_thread(self.program.ledger, self._source, self.target.url)
        done = {path for path, row in ledger.items() if row["state"] == "done"}
        self.false += sum(held.get(path) != self.manifest[path] for path in done)
        if ended is not None and ended.code == 0:
            self.false += held != self.manifest

    async def finish(self, kind: str, hits: int, ended: Ended | None) -> None:
        """Once more without faults; then everything is there, and nothing else."""
        del self.target.faults[:]
        last = await self.ended(self.start())
        assert last.code == 0, last.err
        assert await self.target.objects() == self.manifest
        orphans = await self.target.uploads()
        code = "killed" if ended is None else f"exit {ended.code}"
        failed = 0 if ended is None or not ended.result else ended.counted().get("failed", 0)
        print(  # noqa: T201
            f"{self.target.url.partition(':')[0]:4} {kind:32} {hits:4} hits, {code}, {failed:2} failed; at the end "
            f"{self.wrong} wrong objects, {self.false} false successes, {len(orphans)} orphan uploads"
        )
        assert (self.wrong, self.false, orphans) == (0, 0, [])


@pytest.fixture
def job(hdfs: Hdfs, root: str, target: Oss | S3, tmp_path: Path) -> Job:
    return Job(hdfs, root, target, tmp_path)


Make = Callable[[Oss | S3], list[Fault]]


def where(op: str) -> str:
    """A part of the keys of files that this operation is for; the probe's key, too, is uploaded in parts."""
    return "/d" if op == "PutObject" else "/big/"


def once(action: Action, op: str, times: int = 1) -> Make:
    return lambda _: [Fault(action, op=op, path=where(op), times=times)]


def refused(code: str, status: int, op: str = "", times: int = 1) -> Make:
    return lambda target: [Fault(target.refusal(code, status), op=op, path=where(op), times=times)]


SURVIVED: dict[str, Make] = {
    "wrong CRC: a part is damaged": once(FlipBit(70_000, 3), "UploadPart"),
    "wrong CRC: a small object is": once(FlipBit(20_000, 3), "PutObject", 3),
    "lost reply to PUT": once(LostReply(), "PutObject", 3),
    "lost reply to a part": once(LostReply(), "UploadPart", 2),
    "lost reply to Create": once(LostReply(), "CreateMultipartUpload"),
    "lost reply to Complete": once(LostReply(), "CompleteMultipartUpload", 2),
    "reset in a part": once(Reset(), "UploadPart", 2),
}
"""After these the very first run succeeds."""


@pytest.mark.parametrize("kind", SURVIVED)
async def test_a_fault_is_survived(job: Job, kind: str) -> None:
    faults = SURVIVED[kind](job.target)
    job.target.faults.extend(faults)
    ended = await job.ended(job.start())
    assert ended.code == 0, ended.err
    hits = sum(fault.hits for fault in faults)
    assert hits >= 1
    await job.finish(kind, hits, ended)


async def test_a_throttle_storm(job: Job) -> None:
    """Every request is refused for a while; then the store takes what it is sent."""
    code = "QpsLimitExceeded" if isinstance(job.target, Oss) else "SlowDown"
    storm = Fault(job.target.refusal(code, 503), times=None, after=6)
    job.target.faults.append(storm)
    running = job.start()
    async with asyncio.timeout(60):
        while storm.hits < 10:
            await asyncio.sleep(0.05)
    await asyncio.sleep(3.0)
    job.target.faults.remove(storm)
    ended = await job.ended(running)
    assert ended.code == 0, ended.err
    await job.finish("throttle storm", storm.hits, ended)


@pytest.mark.parametrize("op", ["PutObject", "UploadPart"])
async def test_a_wrong_crc_in_the_answer(op: str, hdfs: Hdfs, root: str, tmp_path: Path) -> None:
    """Only OSS tells a CRC-64 each time. The bytes are read and sent again."""
    async with oss_target() as target:
        job = Job(hdfs, root, target, tmp_path)
        target.faults.append(Fault(OtherCrc64(), op=op, path=where(op), times=4))
        ended = await job.ended(job.start())
        assert ended.code == 0, ended.err
        assert target.faults[0].hits == 4
        await job.finish(f"wrong CRC told of {op}", 4, ended)


async def test_a_wrong_crc_for_good(hdfs: Hdfs, root: str, tmp_path: Path) -> None:
    """A completion that never tells the right one: its files have failed, by name."""
    async with oss_target() as target:
        job = Job(hdfs, root, target, tmp_path)
        target.faults.append(Fault(OtherCrc64(), op="CompleteMultipartUpload", path="/big/", times=None))
        ended = await job.ended(job.start())
        assert ended.code == 1
        assert ended.failed == dict.fromkeys((path for path in FILES if path.startswith("big")), "ChecksumMismatch")
        await job.finish("wrong CRC for good", target.faults[0].hits, ended)


@pytest.mark.parametrize("op", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
async def test_a_signature_is_refused(job: Job, op: str) -> None:
    """The store changes its mind about us in the middle: nothing more is tried, and nothing lost."""
    faults = refused("SignatureDoesNotMatch", 403, op, 1000)(job.target)
    job.target.faults.extend(faults)
    ended = await job.ended(job.start())
    assert ended.code == 3, ended.err
    await job.finish(f"signature refused at {op}", faults[0].hits, ended)


async def test_a_wrong_secret(job: Job) -> None:
    name = "OSS_ACCESS_KEY_SECRET" if isinstance(job.target, Oss) else "AWS_SECRET_ACCESS_KEY"
    ended = await asyncio.to_thread(job.start(**{name: "not-the-secret"}).wait)
    assert ended.code == 3, ended.err
    assert "not-the-secret" not in ended.err
    assert await job.target.objects() == {}
    await job.finish("wrong secret", 1, ended)


async def test_killed_during_complete(job: Job) -> None:
    """The client is gone, and the store completes all the same."""
    if isinstance(job.target, Oss):
        job.target.oss.complete_seconds = 1.5
    running = job.start()
    async with asyncio.timeout(60):
        while not job.target.completing:
            await asyncio.sleep(0.005)
    running.signal(signal.SIGKILL)
    await asyncio.to_thread(running.process.wait)
    await asyncio.sleep(2.0)
    await job.look(None)
    await job.finish("killed during Complete", 1, None)


async def test_the_store_hangs_up_during_complete(job: Job) -> None:
    faults = [Fault(LostReply(), op="CompleteMultipartUpload", times=2)]
    if isinstance(job.target, Oss):
        job.target.oss.complete_seconds = 1.0
    job.target.faults.extend(faults)
    ended = await job.ended(job.start())
    assert ended.code == 0, ended.err
    await job.finish("hung up during Complete", faults[0].hits, ended)


# --- credentials that end -------------------------------------------------------------------------------------------


def shown(path: Path, document: dict[str, Any]) -> None:
    """Replace what the credential process prints."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document))
    fresh.rename(path)


def sts(oss: OssSimulator, lifetime: float) -> dict[str, Any]:
    access_key, credential = oss.issue(lifetime)
    return {
        "AccessKeyId": access_key,
        "AccessKeySecret": credential.secret,
        "SecurityToken": credential.token,
        "Expiration": (datetime.now(UTC) + timedelta(seconds=lifetime)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


async def rotate(oss: OssSimulator, path: Path, issued: list[str]) -> None:
    while True:
        document = sts(oss, 5.0)
        issued.append(document["AccessKeyId"])
        shown(path, document)
        await asyncio.sleep(2.5)


async def test_credentials_rotate_every_five_seconds(hdfs: Hdfs, root: str, tmp_path: Path) -> None:
    """ASYNCCOPY_ROTATING_SECONDS says how long the copy takes."""
    async with oss_target() as target:
        files = small_files(100, 20_000) | {f"big/{n}": Content(70 + n, 16 * MIB + n) for n in range(3)}
        manifest = fill(hdfs.http, hdfs.user, root, files)
        rate = int(sum(size for size, _ in manifest.values()) / ROTATING_SECONDS)
        credentials, issued = tmp_path / "credentials.json", list[str]()
        environment = {
            "OSS_ENDPOINT": target.oss.url,
            "OSS_REGION": target.oss.region,
            "OSS_CREDENTIAL_PROCESS": f"cat {credentials}",
            "HADOOP_USER_NAME": hdfs.user,
        }
        async with asyncio.TaskGroup() as group:
            rotating = group.create_task(rotate(target.oss, credentials, issued), name="rotate")
            await asyncio.sleep(0.1)
            began = monotonic()
            ended = await asyncio.to_thread(
                Program(tmp_path, environment).copy,
                hdfs.url + root,
                target.url,
                *OPTIONS,
                "--bandwidth",
                f"{rate}B/s",
                timeout=ROTATING_SECONDS * 3 + 60,
            )
            rotating.cancel()
        assert ended.code == 0, ended.err
        assert ended.counted() == {"expected": len(manifest), "copied": len(manifest)}
        assert await target.objects() == manifest
        assert await target.uploads() == []
        print(f"{monotonic() - began:.0f} s, {len(issued)} credentials of 5 s issued, 0 failed")  # noqa: T201
        assert len(issued) >= ROTATING_SECONDS / 5


def deals(folder: Path, documents: list[dict[str, Any]]) -> str:
    """A credential process that prints the next of them each time."""
    (folder / "documents").write_text("".join(json.dumps(document) + "\n" for document in documents))
    script = folder / "deal"
    script.write_text(f'#!/bin/sh\nhead -n 1 "{folder}/documents"\nsed -i 1d "{folder}/documents"\n')
    script.chmod(0o700)
    return str(script)


async def test_a_token_expires_early(job: Job, tmp_path: Path) -> None:
    """The store calls a token expired that should hold for an hour: the next one is fetched, and no file fails."""
    target, environment = job.target, job.program.environment
    if isinstance(target, Oss):
        for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
            del environment[name]
        issued = [sts(target.oss, 3600.0) for _ in range(9)]
        environment["OSS_CREDENTIAL_PROCESS"] = deals(tmp_path, issued)
        expired, code, status = issued[0]["AccessKeyId"], "SecurityTokenExpired", 403
    else:
        expires = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        keys = {"AccessKeyId": target.store.access_key, "SecretAccessKey": target.store.secret_key}
        issued = [{"Version": 1, "Expiration": expires, **keys} for _ in range(9)]
        (tmp_path / "aws-config").write_text(f"[default]\ncredential_process = {deals(tmp_path, issued)}\n")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del environment[name]
        environment["AWS_CONFIG_FILE"] = str(tmp_path / "aws-config")
        expired, code, status = target.store.secret_key, "ExpiredToken", 400
    faults = refused(code, status, "UploadPart", 2)(target)
    target.faults.extend(faults)
    ended = await job.ended(job.start())
    assert ended.code == 0, ended.err
    assert faults[0].hits == 2
    assert expired not in ended.err
    assert len((tmp_path / "documents").read_text().splitlines()) < 8, "no other ones were asked for"
    await job.finish("token expired early", 2, ended)
