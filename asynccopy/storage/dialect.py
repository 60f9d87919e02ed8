"""How stores that keep buckets are talked to: what a client of one offers, and what each of them words its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from time import time
from typing import Final, Protocol

from msgspec import Struct

from asynccopy.errors import NotFound, ServerTrouble, UploadGone
from asynccopy.model import ObjectMeta, PartReceipt
from asynccopy.storage.documents import Completion
from asynccopy.storage.http import Headers, Response
from asynccopy.storage.interface import Reader
from asynccopy.storage.pool import Origin

Query = Sequence[tuple[str, str]]

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


class Requests(Protocol):
    """The client of one bucket. Every method raises what a refusal means, or what the door met."""

    bucket: str
    store: str
    """See ``Originals``."""

    @property
    def origin(self) -> Origin: ...

    def subject(self, key: str | None) -> str:
        """The address as it stands in messages."""
        ...

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
        ...

    async def head(self, key: str) -> ObjectMeta | None:
        """The object as the store describes it now, None when there is none."""
        ...

    async def download(self, key: str, headers: Headers, length: int) -> Reader | Response:
        """GET a body of ``length`` bytes: a Reader, or the answer when it is a success of another length."""
        ...

    async def aclose(self) -> None: ...


def store_name(place: str, environ: Mapping[str, str], prefixes: tuple[str, ...]) -> str:
    """Two sides share a store where its address is the same, and every variable that credentials may come from.

    A digest, for some of these are secret.
    """
    given = sorted((name, value) for name, value in environ.items() if name.startswith(prefixes))
    return f"{place} {blake2b(repr(given).encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()}"


class Dialect(Struct, frozen=True):
    """How a store words what all of them do. ``header``: what its own headers begin with.

    ``read_completion`` takes the answer to a completion or a copy, and raises what an error inside it means.
    """

    store: str
    header: str
    key_id: str
    """What ends the header that names a KMS key."""
    replace: str
    """What the header says by which a copy gets other tags than its original's."""
    absent: tuple[str, str]
    """The header by which a request makes an object only where none is."""
    write_completion: Callable[[Sequence[PartReceipt]], bytes]
    read_completion: Callable[[Response, str], Completion]
    decode: Callable[[str], str]
    """What undoes ``encoding-type=url``."""
    encoded_token: bool
    """Does that go for the token of a listing's next page, too?"""
    most_copied: int
    """Bytes that one request copies."""
    ranged: Headers
    """What goes with a Range so that it means what it does elsewhere."""
    reading: str
    """The action that listing takes, and those that writing takes: an operator grants them by name."""
    writing: str


async def abort(client: Requests, key: str, upload_id: str) -> None:
    """Forget an upload; one that is not there is no error."""
    try:
        await client.request("DELETE", key, [("uploadId", upload_id)])
    except (UploadGone, NotFound):
        return
