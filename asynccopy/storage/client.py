"""What a client of a bucket has whatever the store: a door, the store's clock, its turn where it throttles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from time import time
from typing import ClassVar, Final
from urllib.parse import urlsplit

from asynccopy.errors import NotFound, ServerTrouble, UploadGone, UsageError
from asynccopy.model import ObjectMeta
from asynccopy.storage.documents import read_upload_id, shown
from asynccopy.storage.http import Headers, HttpDoor, Response
from asynccopy.storage.interface import Reader
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin
from asynccopy.storage.tls import context

Query = Sequence[tuple[str, str]]

COMPLETE_PATIENCE: Final = 300.0
"""Seconds. A store may copy every part before it answers."""
MAX_SKEW: Final = 300.0
"""Seconds; stores refuse requests that are 15 minutes off."""


class SendAgain(ServerTrouble):
    """The store refused a request for what is right by now; the same request, sent again, will do."""


class Clock:
    """The time as the store has it: ours, and what its answers have shown ours to be off."""

    def __init__(self) -> None:
        self._skew = 0.0

    def now(self) -> float:
        return time() + self._skew

    def heed(self, date: str, subject: str) -> None:
        """Raises SendAgain where the date of a refusal shows another time than the request carried."""
        try:
            theirs = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        if abs(theirs - self.now()) > MAX_SKEW:
            self._skew = theirs - time()
            raise SendAgain(
                f"{subject}: the store's clock is {self._skew:+.0f} s from ours; now reckoned with",
                hint="set this machine's clock",
            )


class BucketClient(ABC):
    """The requests of one bucket. Every method raises what a refusal means (``messages.refusal``), or the door met.

    What is throttled is sent again in its turn, but for a body that is pulled: that raises Throttled. ``latency`` is
    told in seconds how long each request took. ``ca_file``: see ``storage.tls``.
    """

    scheme: ClassVar[str]
    store: str
    """See ``Originals``."""

    def __init__(
        self,
        bucket: str,
        origin: Origin,
        connections: int,
        latency: Callable[[float], None] | None,
        pacing: Callable[[Origin], Pacing],
        ca_file: str | None = None,
    ) -> None:
        self.bucket = bucket
        self.origin = origin
        # A store may take an orderly end of a cut connection for the end of the body; it never does that with a reset.
        tls = None if ca_file is None else context(ca_file)
        self._door = HttpDoor(connections=connections, reset=True, tls=tls)
        self._door.observe = latency
        self._pacing = pacing(origin)
        self._clock = Clock()

    def subject(self, key: str | None) -> str:
        """The address as it stands in messages."""
        return f"{self.scheme}://{self.bucket}" if key is None else f"{self.scheme}://{self.bucket}/{shown(key)}"

    async def request(
        self,
        method: str,
        key: str | None,
        query: Query = (),
        headers: Headers = (),
        body: bytes | memoryview = b"",
        *,
        patience: float | None = None,
    ) -> Response:
        """Send a message about an object (about the bucket when the key is None) and return its successful answer."""
        return await self._pacing.again(self._request, method, key, query, headers, body, patience)

    @abstractmethod
    async def _request(
        self,
        method: str,
        key: str | None,
        query: Query,
        headers: Headers,
        body: bytes | memoryview,
        patience: float | None,
    ) -> Response: ...

    @abstractmethod
    async def head(self, key: str) -> ObjectMeta | None:
        """The object as the store describes it now, None when there is none."""

    async def download(self, key: str, headers: Headers, length: int) -> Reader | Response:
        """GET a body of ``length`` bytes: a Reader, or the answer when it is a success of another length."""
        return await self._pacing.again(self._download, key, headers, length)

    @abstractmethod
    async def _download(self, key: str, headers: Headers, length: int) -> Reader | Response: ...

    async def begin(self, key: str, headers: Headers) -> str:
        """The id of a new multipart upload."""
        response = await self.request("POST", key, [("uploads", "")], headers)
        return read_upload_id(response.body, self.subject(key))

    async def complete(self, key: str, upload_id: str, headers: Headers, document: bytes) -> Response:
        """Make an upload's parts the object. Raises UploadGone."""
        query, headers = [("uploadId", upload_id)], [*headers, ("content-type", "application/xml")]
        try:
            return await self.request("POST", key, query, headers, document, patience=COMPLETE_PATIENCE)
        except NotFound as error:  # once it is completed, some stores call its key missing rather than the upload
            raise UploadGone(error.message) from error

    async def abort(self, key: str, upload_id: str) -> None:
        """Forget an upload; one that is not there is no error."""
        try:
            await self.request("DELETE", key, [("uploadId", upload_id)])
        except (UploadGone, NotFound):
            return

    async def aclose(self) -> None:
        await self._door.aclose()


def store_name(place: str, environ: Mapping[str, str], prefixes: tuple[str, ...]) -> str:
    """Two sides share a store where its address is the same, and every variable that credentials may come from.

    A digest, for some of these are secret.
    """
    given = sorted((name, value) for name, value in environ.items() if name.startswith(prefixes))
    return f"{place} {blake2b(repr(given).encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()}"


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
