"""When the journal is packed."""

from __future__ import annotations

import asyncio
import itertools
from typing import cast

import pytest

from asynccopy.journal import Journal
from asynccopy.mirror import packing
from asynccopy.mirror.packing import PAUSE, SHARE, keep_packed


class Packs:
    """A journal that has so much to pack; a step takes ten seconds."""

    def __init__(self, answers: list[int], clock: list[float]) -> None:
        self._answers = answers
        self._clock = clock

    async def pack(self) -> int:
        self._clock[0] += 10.0
        return self._answers.pop(0)


@pytest.mark.parametrize(
    ("busy", "wanted"),
    [
        (False, [PAUSE, 0.0, 0.0, PAUSE]),  # at once, until all is packed
        (True, [PAUSE, 10 / SHARE - 10, 10 / SHARE - 10, PAUSE]),  # a tenth of the time
    ],
)
async def test_packing_leaves_the_writer_to_the_copies(
    monkeypatch: pytest.MonkeyPatch, busy: bool, wanted: list[float]
) -> None:
    clock, slept = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == len(wanted):
            raise asyncio.CancelledError

    monkeypatch.setattr(packing.asyncio, "sleep", sleep)
    monkeypatch.setattr(packing, "monotonic", lambda: clock[0])
    with pytest.raises(asyncio.CancelledError):
        await keep_packed(cast("Journal", Packs([1000, 7, *itertools.repeat(0, 3)], clock)), lambda: busy)
    assert slept == pytest.approx(wanted)
