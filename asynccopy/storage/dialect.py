"""How stores that keep buckets are talked to: what each of them words its own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from asynccopy.model import PartReceipt
from asynccopy.storage.documents import Completion
from asynccopy.storage.http import Headers, Response


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
