"""How one mirror is to be kept, and who looks on while it is."""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

from asynccopy.errors import AsyncCopyError, UsageError
from asynccopy.journal.rows import Kind, Listed
from asynccopy.mirror.deletions import Handling
from asynccopy.mirror.mirror import CopyOptions
from asynccopy.mirror.schedule import Cadence
from asynccopy.mirror.selection import Selection

State = Literal["copying", "watching", "paused", "waiting", "failed"]


class Rules(Struct, frozen=True):
    """How one mirror is kept. All but ``watch``, ``selection`` and ``options`` may change while it runs.

    ``settle``: seconds for which a file must have been left alone to be taken. ``order``: of the copies.
    """

    selection: Selection
    options: CopyOptions
    watch: Literal["auto", "snapshots", "scan", "off"] = "auto"
    cadence: Cadence = Cadence(30.0, 6 * 3600.0)
    settle: float = 10.0
    handling: Handling = Handling()
    order: Listed = "auto"


def no_snapshots(url: str) -> UsageError:
    return UsageError(
        f"{url}: has no snapshots",
        hint='let an administrator run: hdfs dfsadmin -allowSnapshot PATH, or set watch = "scan"',
    )


class Witness(Protocol):
    """Who looks on. ``requests``: how many the source has been asked so far."""

    requests: int

    def told(self, level: Literal["info", "warning", "error"], text: str) -> None:
        """Something happened, for people."""
        ...

    def passed(self, kind: Kind, seconds: float) -> None:
        """A pass has ended well."""
        ...

    def settled(self, path: str, length: int, error: AsyncCopyError | None) -> None:
        """A file was copied, or failed."""
        ...
