"""What the journal answers, as frozen values. Lengths are bytes, times ms since the epoch, 0 for "not yet"."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from asynccopy.model import Evidence, FileState, FileStatus, FileVersion

Kind = Literal["first", "full", "quick", "snapshot"]
"""Of a pass. first and full: all is listed. quick: but for directories that prove unchanged. snapshot: only what is
named by ``record_files``, ``remove`` and ``list_again``.
"""
Listed = Literal["auto", "listing", "spread", "oldest", "newest", "smallest", "largest"]
"""In which order files are copied. spread: from many places of the listing side by side. auto: spread where the store
limits requests for keys that lie together, else listing.
"""


class JobState(Struct, frozen=True):
    """The job and its present pass; ``pass_number`` is 0 before the first one. ``listed_directories``: those really
    listed in this pass so far.
    """

    source: str
    destination: str
    pass_number: int
    selection: str
    started_at: int
    listing_done: bool
    finished_at: int
    listed_files: int
    listed_bytes: int
    kind: str = "full"
    listed_directories: int = 0

    @property
    def finished(self) -> bool:
        return self.finished_at > 0


class Directory(Struct, frozen=True):
    """A directory whose listing goes on after the cursor ``after``, "" from its beginning."""

    id: int
    path: str
    after: str


class PageCount(Struct, frozen=True):
    """What a recorded page held in all, and how much of that is done already in the same version; both with what lies
    in directories that a quick pass passed over.
    """

    files: int
    bytes: int
    unchanged_files: int
    unchanged_bytes: int


class Stretch(Struct, frozen=True):
    """The ids that follow ``after``, up to ``last``."""

    after: int
    last: int


class PendingFile(Struct, frozen=True):
    """A file to copy, in the version that was listed."""

    id: int
    status: FileStatus


class Totals(Struct, frozen=True):
    """Files and bytes in each state. Unseen: were to be copied in an earlier pass, not met again in this one so far.
    Open: left because they are still being written; they do not count as failed.
    """

    pending_files: int
    pending_bytes: int
    done_files: int
    done_bytes: int
    failed_files: int
    failed_bytes: int
    unseen_files: int
    unseen_bytes: int
    open_files: int = 0
    open_bytes: int = 0


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


class ErrorClass(Struct, frozen=True):
    """The failed files of one class: how many, and the first of them as an example."""

    error_class: str
    count: int
    hint: str
    path: str
    message: str


class GoneFile(Struct, frozen=True):
    """A file that the source has no longer, in the version that was last known.

    ``evidence.method`` "": that version was never proven. Then ``evidence.etag`` is that of a former version's object,
    or "" when no object is known; an attempt that was cut short may have left one all the same. ``done_at`` 0: never,
    or an older release saw it go.
    """

    id: int
    path: str
    version: FileVersion
    evidence: Evidence
    gone_at: int
    done_at: int = 0


class FormerLife(Struct, frozen=True):
    """What a file was ``until`` then, and ``why`` no longer: changed, reopened (the evidence of this very version is
    void), gone (from the source), forgotten (and its object is dealt with), or failed, with the class and message.
    """

    path: str
    length: int
    modification_time: int
    file_id: int
    method: str
    source_checksum: str
    object_checksum: str
    etag: str
    done_at: int
    until: int
    why: str
    error_class: str
    error: str


class Pass(Struct, frozen=True):
    """A pass as it ended. ``directories``: really listed; ``files``: met; ``bytes``: of what was copied."""

    number: int
    kind: str
    started_at: int
    finished_at: int
    outcome: str
    directories: int
    files: int
    copied: int
    bytes: int
    failed: int
    deleted: int
    requests: int
