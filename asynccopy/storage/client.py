"""What a client of a bucket has whatever the store: a door of its own, the store's clock, and its name in messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar
from urllib.parse import urlsplit

from asynccopy.errors import UsageError
from asynccopy.storage.dialect import Clock
from asynccopy.storage.documents import shown
from asynccopy.storage.http import HttpDoor
from asynccopy.storage.pool import Origin
from asynccopy.storage.tls import context


class BucketClient:
    """``latency`` is told in seconds how long each request took. ``ca_file``: see ``storage.tls``."""

    scheme: ClassVar[str]

    def __init__(
        self,
        bucket: str,
        origin: Origin,
        connections: int,
        latency: Callable[[float], None] | None,
        ca_file: str | None = None,
    ) -> None:
        self.bucket = bucket
        self.origin = origin
        # A store may take an orderly end of a cut connection for the end of the body; it never does that with a reset.
        tls = None if ca_file is None else context(ca_file)
        self._door = HttpDoor(connections=connections, reset=True, tls=tls)
        self._door.observe = latency
        self._clock = Clock()

    def subject(self, key: str | None) -> str:
        """The address as it stands in messages."""
        return f"{self.scheme}://{self.bucket}" if key is None else f"{self.scheme}://{self.bucket}/{shown(key)}"

    async def aclose(self) -> None:
        await self._door.aclose()


def split_endpoint(endpoint: str, advice: str) -> tuple[Origin, str]:
    """Where an endpoint is, and the path in it without a slash at its end. Raises UsageError, which says ``advice``."""
    url = urlsplit(endpoint)
    try:
        port = url.port
    except ValueError:
        port = 0
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or "@" in url.netloc or url.query:
        raise UsageError(advice)
    return Origin(url.scheme, url.hostname, port or (443 if url.scheme == "https" else 80)), url.path.rstrip("/")
