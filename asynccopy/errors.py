"""The exception tree. Foreign exceptions stop at the door that met them and come out as one of these, cause attached.

Each class knows three things: whether trying again can help (``retryable``), whether it stops the whole run rather than
one file (``fatal``), and the exit code of a run that it ends. ``hint`` tells the operator what to do.
No message may carry a secret: URLs enter messages without their query.
"""

from __future__ import annotations

from typing import ClassVar


class AsyncCopyError(Exception):
    """Root of the tree; only its subclasses are raised.

    ``message`` says what happened and where, in one line; ``hint`` what to do about it, or "".
    """

    retryable: ClassVar[bool] = False
    fatal: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint

    def __str__(self) -> str:
        return self.message


def root_cause(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one failure of a task group to raise: a bug before anything else, else the first."""
    flat = [root_cause(each) if isinstance(each, BaseExceptionGroup) else each for each in failures.exceptions]
    return next((error for error in flat if not isinstance(error, AsyncCopyError)), flat[0])


# --- wrong usage: found before talking to anyone (exit 2) ---------------------------------------------------------


class UsageError(AsyncCopyError):
    """An option, URL or configuration key is wrong."""

    fatal = True
    exit_code = 2


# --- a side: found by talking to it (exit 3 when it ends the run) -------------------------------------------------


class SideError(AsyncCopyError):
    """A side cannot be used at all, so no file can succeed."""

    fatal = True
    exit_code = 3


class Unreachable(SideError):
    """Nobody answers at the address: refused, no route, unknown host, or no answer in time."""

    retryable = True
    default_hint = "check the address and that the server is up"


class NoActiveNameNode(Unreachable):
    """No server of the nameservice does the work now: each is standby, starting, in safe mode, or does not answer.

    It is waited for as for an unreachable side, and no file fails by it.
    """

    default_hint = "wait for it, or name the nameservice's other NameNodes too; hdfs haadmin -getAllServiceState"


class CredentialsRefused(SideError):
    """The side does not accept who we are."""

    default_hint = "check the credentials and their permissions"


class NotThere(SideError):
    """The bucket or the source path that was named does not exist, or is not what it must be."""


class WrongServer(SideError):
    """Something answers, but it does not speak the expected protocol (an HTML page, the RPC port)."""

    default_hint = "check host and port"


# --- passing trouble: try again -----------------------------------------------------------------------------------


class Transient(AsyncCopyError):
    """May pass by itself; the retry policy decides how long to try.

    ``received``: when a read into a buffer broke, how many bytes of that buffer are good, so that the read goes on
    there.
    """

    retryable = True
    exit_code = 3  # when it ends the run: a side that did not recover in time
    received = 0


class ConnectionLost(Transient):
    """The connection ended or was refused in the middle of the work."""


class ShortRead(Transient):
    """The body ended before the promised number of bytes had come."""


class Stalled(Transient):
    """Too few bytes moved for too long."""


class Straggler(Transient):
    """A server gives far less than the others of its kind do: read elsewhere. No reason to ask for less in all."""


class Throttled(Transient):
    """The store asks us to slow down: no failure of a file. ``delay``: seconds it asked for, if it did.

    ``crowded``: too much goes on at once there; else it was asked too often.
    """

    def __init__(self, message: str, *, delay: float | None = None, crowded: bool = False) -> None:
        super().__init__(message)
        self.delay = delay
        self.crowded = crowded


class ServerTrouble(Transient):
    """A 5xx, a dead DataNode, a NameNode that asks to try again: the server's trouble, not the request's."""


class Unavailable(ServerTrouble):
    """A 503 that does not say why: a store that throttles may be too short of words (a HEAD has none), or a proxy tells
    that the store is down.
    """


class ChecksumMismatch(Transient):
    """Bytes differ from what one side says they are. Read again from the source; never overridden."""

    exit_code = 1  # it is always one file's
    default_hint = "the bytes were damaged on the way; a repeat that fails again points at memory, disk or a proxy"


# --- one file: permanent ------------------------------------------------------------------------------------------


class FileError(AsyncCopyError):
    """This file cannot be copied; the others can."""


class NotFound(FileError):
    """The file or object is not there (any more)."""


class PermissionDenied(FileError):
    """The side refuses this path to this user."""

    default_hint = "grant the user access to the path"


class SourceChanged(FileError):
    """The file is not the version that was listed: changed, replaced or still being written."""

    default_hint = "run again once the writer has finished"


class StillOpen(SourceChanged):
    """Somebody is still writing the file."""

    default_hint = "run again once its writer has closed it; a daemon does so by itself"


class SnapshotGone(FileError):
    """A snapshot that is needed is not there any more, so no file of it can be had."""

    fatal = True


class NameRefused(FileError):
    """The destination cannot hold this name."""

    default_hint = "rename the file at the source, or choose a shorter destination prefix"


class UploadGone(FileError):
    """The store no longer knows the multipart upload: aborted elsewhere, or already completed."""


class Refused(FileError):
    """The server refused the request for a reason that repeating will not change."""


class AlreadyThere(Refused):
    """There is an object of this key, and the request forbids to replace it."""

    default_hint = "move the object away, write to another prefix, or leave out forbid_overwrite"


# --- the journal (exit 4) -----------------------------------------------------------------------------------------


class JournalError(AsyncCopyError):
    """The journal cannot be used; nothing may be reported done."""

    fatal = True
    exit_code = 4


class JournalLocked(JournalError):
    """Another process works on this journal."""

    default_hint = "wait for the other process, or stop it"


class JournalDamaged(JournalError):
    """The file is not a journal, is damaged, or comes from a newer release."""


class JournalFull(JournalError):
    """The disk under the journal is full."""

    default_hint = "free space on that disk; a daemon goes on by itself then, a command has to be run again"


# --- stopped (exit 5) ---------------------------------------------------------------------------------------------


class Interrupted(AsyncCopyError):
    """Stopped before the end on request; running the same command again goes on."""

    fatal = True
    exit_code = 5
