"""Which upload of a key is the one that was about to be begun."""

from __future__ import annotations

import asyncio
from time import time_ns

import pytest

from asynccopy.model import FileVersion, FoundUpload, OpenUpload
from asynccopy.retry import RetryPolicy
from asynccopy.storage.memory import MemoryDestination
from asynccopy.transfer import uploads
from asynccopy.transfer.uploads import BEGINNING, SLACK, Uploads, intent, is_known, is_ours
from tests.faults.wrapped import MemoryLog

AT = 1_700_000_000_000
LAST = int((BEGINNING + SLACK) * 1000)


@pytest.mark.parametrize(
    ("begun", "empty", "intended", "ours"),
    [
        (AT, True, f"intent:{AT}", True),
        (AT - 9_000, True, f"intent:{AT}", True),  # stores cut their times to seconds
        (AT + LAST, True, f"intent:{AT}", True),
        (AT - 11_000, True, f"intent:{AT}", False),
        (AT + LAST + 1, True, f"intent:{AT}", False),
        (AT, False, f"intent:{AT}", False),  # nobody sends parts without an id
        (AT, False, f"copying:{AT}", True),
        (AT - 11_000, False, f"copying:{AT}", False),
        (0, True, f"intent:{AT}", False),  # the store does not tell when
        (AT, True, "", False),  # nor did a journal of a former version
    ],
)
def test_which_upload_is_ours(begun: int, empty: bool, intended: str, ours: bool) -> None:
    assert is_ours(FoundUpload("u", begun, empty), intended) is ours


def test_an_intent_is_no_id() -> None:
    assert not is_known(intent())
    assert not is_known(intent(copying=True))
    assert not is_known("")
    assert is_known("2~intent:1")
    assert abs(int(intent().partition(":")[2]) - time_ns() // 1_000_000) < 5_000


async def test_an_intent_does_not_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that throttles may let the request wait for longer than an intent is good for."""
    monkeypatch.setattr(uploads, "BEGINNING", 0.05)
    store, log = MemoryDestination(), MemoryLog()
    noted: list[str] = []

    async def create(key: str) -> str:
        assert log.kept is not None
        noted.append(log.kept.upload_id)
        if len(noted) < 3:
            await asyncio.sleep(60)
        return await store.create_upload(key)

    beginning = Uploads(store, RetryPolicy(), lambda error, delay: None)
    begun = await beginning.begin("k", OpenUpload("", 5, FileVersion(1, 2, 3)), log, create)
    assert log.kept == begun
    assert is_known(begun.upload_id)
    assert len(set(noted)) == 3
    assert noted == sorted(noted)
