"""Uploads that a killed run has left, at a real store."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

from asynccopy.journal import Journal
from asynccopy.storage.s3 import S3Destination, S3Settings
from asynccopy.storage.s3.credentials import CredentialChain
from testbed.s3 import Store
from tests.suites.orphans import orphans


async def test_a_job_aborts_its_own_uploads_and_no_others(versitygw: Store, bucket: str, tmp_path: Path) -> None:
    settings = S3Settings.from_environment(environ=versitygw.env())
    credentials = CredentialChain(versitygw.env())
    journal = await Journal.open(tmp_path / "journal", source="memory://a", destination="store://b")
    try:
        async with aclosing(S3Destination(f"s3://{bucket}/in", settings=settings, credentials=credentials)) as there:
            await orphans(there, journal)
    finally:
        await journal.close()
