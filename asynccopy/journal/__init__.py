"""The journal: one SQLite file per job that is both the queue and the truth."""

from asynccopy.journal.journal import Journal
from asynccopy.journal.reading import JournalReader
from asynccopy.journal.rows import Directory, Failure, JobState, LedgerRow, PageCount, PendingFile, Totals
from asynccopy.journal.scratch import scratch

__all__ = [
    "Directory",
    "Failure",
    "JobState",
    "Journal",
    "JournalReader",
    "LedgerRow",
    "PageCount",
    "PendingFile",
    "Totals",
    "scratch",
]
