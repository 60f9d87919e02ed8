"""The journal: one SQLite file per job that is both the queue and the truth."""

from asynccopy.journal.journal import Journal
from asynccopy.journal.reading import JournalReader
from asynccopy.journal.rows import (
    Directory,
    ErrorClass,
    Failure,
    FormerLife,
    GoneFile,
    JobState,
    Kind,
    LedgerRow,
    Listed,
    PageCount,
    Pass,
    PendingFile,
    Totals,
)
from asynccopy.journal.scratch import scratch

__all__ = [
    "Directory",
    "ErrorClass",
    "Failure",
    "FormerLife",
    "GoneFile",
    "JobState",
    "Journal",
    "JournalReader",
    "Kind",
    "LedgerRow",
    "Listed",
    "PageCount",
    "Pass",
    "PendingFile",
    "Totals",
    "scratch",
]
