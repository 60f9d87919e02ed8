"""Uploads that a killed run has left, at the simulated stores."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from asynccopy.journal import Journal
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.storage.registry import Stores
from tests.storage.test_throttled import oss_destination, s3_destination
from tests.suites.orphans import orphans


@pytest.mark.parametrize("store", ["oss", "s3"])
async def test_a_job_aborts_its_own_uploads_and_no_others(store: str, tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal", source="memory://a", destination="store://b")
    try:
        async with S3Simulator(["bucket"]) if store == "s3" else OssSimulator(["bucket"]) as simulator:
            side = s3_destination(simulator, Stores()) if isinstance(simulator, S3Simulator) else None
            async with aclosing(side or oss_destination(simulator, Stores())) as destination:
                await orphans(destination, journal)
    finally:
        await journal.close()
