"""Copies between buckets of one store: the store makes them, and its checksums prove them."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from asynccopy.model import MIB
from asynccopy.simulators.faults import Fault, LostReply, OtherCrc64, Status
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.store import Body, Incoming, StoredObject, joined_crc64, take
from tests.program import Ended, Program
from tests.storage.test_object_sources import Simulator, destination_of, oss_environment, s3_environment
from tests.suites import NASTY_NAMES
from tests.suites.destination import put
from tests.suites.source import noise

TREE = {
    **{f"d/{name}": noise(number) for number, name in enumerate(NASTY_NAMES[:-1], start=1)},
    "top": b"top",
    "empty": b"",
    "large": noise(3 * MIB + 1),
    "hollow/": b"",
}
FILES = len(TREE) - 1


class InStore:
    """One store with two buckets, and the command line."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator = simulator
        self.kind = "s3" if isinstance(simulator, S3Simulator) else "oss"
        self.environment = (
            s3_environment(simulator) if isinstance(simulator, S3Simulator) else oss_environment(simulator)
        )
        self.program = Program(folder, self.environment)
        self.sides = (f"{self.kind}://bucket/from", f"{self.kind}://other/to")

    async def fill(self, tree: dict[str, bytes]) -> None:
        async with aclosing(destination_of(self.simulator)) as store:
            for path, body in tree.items():
                await put(store, f"from/{path}", body)

    async def copy(self, *options: str, **environment: str) -> Ended:
        self.simulator.counts.clear()
        return await asyncio.to_thread(self.program.copy, *self.sides, *options, **environment)

    async def rows(self) -> dict[str, dict[str, object]]:
        return await asyncio.to_thread(self.program.ledger, *self.sides)

    def held(self, bucket: str, prefix: str) -> dict[str, int]:
        objects = self.simulator.buckets[bucket].objects
        return {
            key[len(prefix) :]: joined_crc64(each.bodies) for key, each in objects.items() if key.startswith(prefix)
        }

    def assert_equal(self) -> None:
        assert self.held("other", "to/") == self.held("bucket", "from/")
        assert not self.simulator.buckets["other"].uploads

    def asked(self) -> Counter[str]:
        return Counter(self.simulator.counts)


BUCKETS = ["bucket", "other"]
KINDS = {
    "s3": lambda: S3Simulator(BUCKETS),
    "weak s3": lambda: S3Simulator(BUCKETS, weak=True),
    "oss": lambda: OssSimulator(BUCKETS),
}


@pytest.fixture(params=["s3", "oss"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[InStore]:
    async with KINDS[kind]() as simulator:
        store = InStore(simulator, tmp_path)
        yield store
        store.program.end()


@pytest.mark.parametrize("kind", ["s3", "weak s3", "oss"])
async def test_no_byte_passes_through_us(store: InStore) -> None:
    await store.fill(TREE)
    ended = await store.copy()
    assert ended.code == 0, ended.err
    assert ended.counted() == {"expected": FILES, "copied": FILES}
    assert (ended.result["copied_in_store"], ended.result["verified"]) == (FILES - 1, FILES)  # the empty one is put
    asked = store.asked()
    assert asked["CopyObject"] == FILES - 1
    assert not asked["GetObject"]
    store.assert_equal()
    rows = await store.rows()
    assert Counter(row["method"] for row in rows.values())["in-store"] == FILES - 1
    assert rows["top"]["source_checksum"] == rows["top"]["object_checksum"] != ""
    again = await store.copy()
    assert again.counted() == {"expected": FILES, "skipped": FILES}
    await store.fill({"top": b"another"})
    again = await store.copy()
    assert again.counted() == {"expected": FILES, "copied": 1, "skipped": FILES - 1}
    store.assert_equal()
    checked = await asyncio.to_thread(store.program.run, "check", *store.sides)
    assert checked.code == 0, checked.out


async def test_within_one_bucket(store: InStore) -> None:
    await store.fill(TREE)
    store.sides = (store.sides[0], f"{store.kind}://bucket/to")
    ended = await store.copy("--processes", "2")
    assert (ended.code, ended.result["copied_in_store"]) == (0, FILES - 1), ended.err
    assert store.held("bucket", "to/") == store.held("bucket", "from/")


@pytest.mark.parametrize(
    "refusal",
    [
        Status(501, b"<Error><Code>NotImplemented</Code></Error>"),
        Status(403, b"<Error><Code>AccessDenied</Code></Error>"),
        Status(400, b"<Error><Code>InvalidRequest</Code></Error>"),
        Status(404, b"<Error><Code>NoSuchKey</Code></Error>"),
        Status(301, b"<Error><Code>PermanentRedirect</Code></Error>"),
    ],
    ids=lambda refusal: str(refusal.code),
)
async def test_where_the_store_refuses_bytes_are_read_and_written(store: InStore, refusal: Status) -> None:
    await store.fill(TREE)
    fault = Fault(refusal, "CopyObject", times=None)
    store.simulator.faults.append(fault)
    ended = await store.copy("--concurrency", "2", "--processes", "1")
    assert ended.code == 0, ended.err
    assert (ended.result["copied_in_store"], ended.result["verified"]) == (0, FILES)
    assert ended.err.count("the store does not copy") == 1
    assert fault.hits <= 2, "what was refused is asked for again and again"
    store.assert_equal()


async def test_one_refused_object_does_not_stop_the_others(store: InStore) -> None:
    await store.fill(TREE)
    refusal = Fault(Status(403, b"<Error><Code>AccessDenied</Code></Error>"), "CopyObject", path="to/top", times=None)
    store.simulator.faults.append(refusal)
    ended = await store.copy("--concurrency", "1")
    assert (ended.code, ended.result["copied_in_store"]) == (0, FILES - 2), ended.err
    store.assert_equal()


async def test_endpoints_by_name_with_one_address_are_one_store(store: InStore) -> None:
    await store.fill({"file": b"1234"})
    config = store.program.folder / "endpoints.toml"
    config.write_text(
        f'[endpoints.here]\ntype = "{store.kind}"\nbucket = "bucket"\n'
        f'[endpoints.there]\ntype = "{store.kind}"\nbucket = "other"\nendpoint = "{store.simulator.url}"\n'
    )
    store.sides = ("here:/from", "there:/to")
    ended = await store.copy("--config", str(config))
    assert (ended.code, ended.result["copied_in_store"]) == (0, 1), ended.err


@pytest.mark.parametrize("kind", ["s3", "weak s3", "oss"])
async def test_an_object_replaced_before_it_is_copied(store: InStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was looked up, in the middle of the copy: on the condition of the ETag, or found by the checksum."""
    await store.fill({"file": b"1234"})
    bucket = store.simulator.buckets["bucket"]
    others = noise(4)
    real, done = type(store.simulator)._copy_object, []

    async def replaced(self: Simulator, *arguments: object) -> object:
        if not done:
            done.append(1)
            await store.fill({"file": others})
        return await real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setitem(store.simulator._ops, "CopyObject", replaced.__get__(store.simulator))
    ended = await store.copy()
    assert ended.code == 0, ended.err
    assert done
    assert store.held("other", "to/") == store.held("bucket", "from/")
    [row] = (await store.rows()).values()
    assert str(row["etag"]).lower() == hashlib.md5(others).hexdigest()
    assert bucket.objects["from/file"]


async def test_a_lost_reply_is_asked_for_again(store: InStore) -> None:
    await store.fill({"file": b"1234"})
    store.simulator.faults.append(Fault(LostReply(), "CopyObject"))
    ended = await store.copy()
    assert (ended.code, ended.result["copied_in_store"]) == (0, 1), ended.err
    store.assert_equal()


def copy_wrongly(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every copy that the store makes has other bytes than its original."""
    real = simulator._copied

    async def damaged(stored: StoredObject, start: int, stop: int) -> Body:
        return await real(StoredObject(stored.size, "", 0.0, 0, [await zeros(stored.size)]), start, stop)

    async def zeros(size: int) -> Body:
        async def pieces() -> AsyncIterator[bytes]:
            yield bytes(size)

        return await take(Incoming(simulator._place, md5=False), pieces(), lambda body: None)

    monkeypatch.setattr(simulator, "_copied", damaged)


async def test_a_wrong_copy_is_removed_and_reported(store: InStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.fill({"file": b"1234"})
    copy_wrongly(store.simulator, monkeypatch)
    ended = await store.copy()
    assert (ended.code, ended.failed) == (1, {"file": "ChecksumMismatch"}), ended.err
    assert "it was removed" in ended.err
    assert store.held("other", "to/") == {}


@pytest.mark.parametrize("kind", ["weak s3"])
async def test_a_copy_that_nothing_proves_does_not_stay(store: InStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another ETag may be that of an encrypted object or of other bytes: the file is read and written instead."""
    await store.fill({"file": b"1234"})
    copy_wrongly(store.simulator, monkeypatch)
    store.simulator.faults.append(Fault(Status(403, b"<Error><Code>AccessDenied</Code></Error>"), "GetObject", times=1))
    ended = await store.copy()
    assert ended.failed == {"file": "PermissionDenied"}
    assert store.held("other", "to/") == {}, "a copy that is not the file's stays where reading the file fails"
    ended = await store.copy()
    assert (ended.code, ended.result["copied_in_store"]) == (0, 0), ended.err
    store.assert_equal()


@pytest.mark.parametrize("kind", ["oss"])
async def test_a_copy_with_another_checksum_is_removed_and_made_anew(store: InStore) -> None:
    await store.fill({"file": b"1234"})
    store.simulator.faults.append(Fault(OtherCrc64(), "CopyObject"))
    ended = await store.copy()
    assert (ended.code, ended.result["copied_in_store"]) == (0, 1), ended.err
    asked = store.asked()
    assert (asked["CopyObject"], asked["DeleteObject"]) == (2, 1)
    store.simulator.faults.append(Fault(OtherCrc64(), "CopyObject", times=None))
    await store.fill({"file": b"4321"})
    ended = await store.copy()
    assert ended.failed == {"file": "ChecksumMismatch"}
    assert store.held("other", "to/") == {}
