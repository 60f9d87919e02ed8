"""What the control server asks of a daemon, and the few shapes that only travel between server and client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Protocol

from msgspec import UNSET, Meta, Struct, UnsetType

from asynccopy.control.messages import DaemonStatus, Deletions, Event, FailedFile, MirrorDetail

__all__ = [
    "MOST_LINES",
    "UNSET",
    "Confirmation",
    "Controller",
    "DeletionPlan",
    "Limit",
    "Nothing",
    "Rate",
    "Refusal",
    "Reloaded",
    "Retried",
    "UnsetType",
]

MOST_LINES: Final = 1000
"""Failed files, events or planned deletions in one answer, at most."""


Rate = float | Literal["configured"] | UnsetType | None
"""See Limit."""


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request or answer that needs none."""


class Limit(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be limited: ``bandwidth`` in bytes per second, ``concurrency`` in ranges in flight.

    None lifts a bandwidth's limit and lets the concurrency be found by trying; ``configured``: as the configuration
    says again. What is unset stays as it is.
    """

    bandwidth: Annotated[float, Meta(gt=0, le=1e15)] | Literal["configured"] | UnsetType | None = UNSET
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType | None = UNSET


class Confirmation(Struct, frozen=True, forbid_unknown_fields=True):
    """A person has looked at a plan of ``count`` deletions and wants it done."""

    count: Annotated[int, Meta(ge=1, le=1 << 62)]


class DeletionPlan(Struct, frozen=True):
    """``paths``: the first of what would be deleted; ``deletions.count`` is of all."""

    deletions: Deletions
    paths: tuple[str, ...]


class Retried(Struct, frozen=True):
    """How many failed files are tried again."""

    files: int


class Reloaded(Struct, frozen=True):
    """One line for each thing that the new configuration changed."""

    changed: tuple[str, ...]


class Refusal(Struct, frozen=True):
    """The body of every answer that is no success."""

    error: str
    hint: str = ""


class Controller(Protocol):
    """A daemon, as it can be watched and steered.

    ``name`` is a mirror's; where it may be None, None means all of them. An unknown name is a UsageError, and so is
    whatever does not fit the present state: nothing was changed then. Intents (paused, limited) outlive a restart.
    """

    def status(self) -> DaemonStatus:
        """How everything stands now. Called every two seconds by every open page: it must not do I/O."""
        ...

    async def detail(self, name: str) -> MirrorDetail: ...

    async def errors(self, name: str, error_class: str | None, limit: int) -> Sequence[FailedFile]:
        """At most ``limit`` failed files, of one class or of all."""
        ...

    def events(self, after: int, limit: int) -> Sequence[Event]:
        """The newest ``limit`` events with a number above ``after``, oldest first."""
        ...

    async def pause(self, name: str | None) -> None:
        """Stop after the ranges in flight. Pausing what is paused changes nothing."""
        ...

    async def resume(self, name: str | None) -> None: ...

    async def retry(self, name: str | None) -> int:
        """Try the failed files again now. Returns how many."""
        ...

    async def scan(self, name: str | None) -> None:
        """Begin a pass now instead of at its time."""
        ...

    async def limit(self, name: str, *, bandwidth: Rate, concurrency: int | UnsetType | None) -> None:
        """See Limit."""
        ...

    async def drain(self) -> None:
        """Begin to end: finish the ranges in flight, then exit. Returns at once."""
        ...

    async def reload(self) -> Sequence[str]:
        """Read the configuration again. Returns what changed; raises UsageError and keeps the old one."""
        ...

    async def deletions(self, name: str, limit: int) -> tuple[Deletions, Sequence[str]]:
        """What would be deleted, and the first ``limit`` paths of it."""
        ...

    async def confirm_deletions(self, name: str, count: int) -> None:
        """Let the deletions be done although they are above the cap. ``count`` is that of the plan that was looked at;
        raises UsageError when the plan has another by now."""
        ...
