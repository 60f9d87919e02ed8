"""A bucket of S3, or a prefix in one, as a ``Source``."""

from __future__ import annotations

from collections.abc import Callable

from asynccopy.storage.bucket import split_url
from asynccopy.storage.interface import UploadLimits
from asynccopy.storage.object_source import ObjectSource
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin
from asynccopy.storage.s3.client import S3Client
from asynccopy.storage.s3.credentials import CredentialChain
from asynccopy.storage.s3.destination import CREDENTIALS, DIALECT
from asynccopy.storage.s3.settings import S3Settings


class S3Source(ObjectSource):
    """Objects below ``s3://bucket/prefix``. Raises UsageError for a URL or an endpoint that cannot be one."""

    def __init__(
        self,
        url: str,
        settings: S3Settings,
        credentials: CredentialChain | None = None,
        *,
        latency: Callable[[float], None] | None = None,
        pacing: Callable[[Origin], Pacing] = Pacing,
    ) -> None:
        bucket, prefix = split_url(url, "s3", UploadLimits(), CREDENTIALS)
        super().__init__(S3Client(bucket, settings, credentials, latency, pacing), DIALECT, prefix)
