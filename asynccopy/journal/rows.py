"""What the journal answers, as frozen values. Lengths are bytes, times ms since the epoch, 0 for "not yet"."""

from __future__ import annotations

from msgspec import Struct

from asynccopy.model import FileState, FileStatus


class JobState(Struct, frozen=True):
    """The job and its present pass; ``pass_number`` is 0 before the first one."""

    source: str
    destination: str
    pass_number: int
    selection: str
    started_at: int
    listing_done: bool
    finished_at: int
    listed_files: int
    listed_bytes: int

    @property
    def finished(self) -> bool:
        return self.finished_at > 0


class Directory(Struct, frozen=True):
    """A directory whose listing goes on after the cursor ``after``, "" from its beginning."""

    id: int
    path: str
    after: str


class PageCount(Struct, frozen=True):
    """What a recorded page held in all, and how much of that is done already in the same version."""

    files: int
    bytes: int
    unchanged_files: int
    unchanged_bytes: int


class PendingFile(Struct, frozen=True):
    """A file to copy, in the version that was listed."""

    id: int
    status: FileStatus


class Totals(Struct, frozen=True):
    """Files and bytes in each state. Unseen: were to be copied in an earlier pass, not met again in this one so far."""

    pending_files: int
    pending_bytes: int
    done_files: int
    done_bytes: int
    failed_files: int
    failed_bytes: int
    unseen_files: int
    unseen_bytes: int


class Failure(Struct, frozen=True):
    """Why a file was given up: the class of ``asynccopy.errors``, its message and hint."""

    path: str
    error_class: str
    message: str
    hint: str


class LedgerRow(Struct, frozen=True):
    """All that is known of one file. Texts are "" where there is nothing."""

    path: str
    state: FileState
    length: int
    modification_time: int
    file_id: int
    method: str
    source_checksum: str
    object_checksum: str
    etag: str
    done_at: int
    error_class: str
    error: str
    hint: str
