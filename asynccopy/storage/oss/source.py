"""A bucket of OSS, or a prefix in one, as a ``Source``."""

from __future__ import annotations

from collections.abc import Callable

from asynccopy.storage.bucket import split_url
from asynccopy.storage.object_source import ObjectSource
from asynccopy.storage.oss.client import OssClient
from asynccopy.storage.oss.credentials import CredentialChain
from asynccopy.storage.oss.destination import CREDENTIALS, DIALECT, LIMITS
from asynccopy.storage.oss.settings import OssSettings
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin


class OssSource(ObjectSource):
    """Objects below ``oss://bucket/prefix``. Raises UsageError for a URL or an endpoint that cannot be one."""

    def __init__(
        self,
        url: str,
        settings: OssSettings,
        credentials: CredentialChain | None = None,
        *,
        latency: Callable[[float], None] | None = None,
        pacing: Callable[[Origin], Pacing] = Pacing,
    ) -> None:
        bucket, prefix = split_url(url, "oss", LIMITS, CREDENTIALS)
        super().__init__(OssClient(bucket, settings, credentials, latency, pacing), DIALECT, prefix)
