"""``--result FILE``: one JSON document about a run, for scripts. And the last lines on stderr, for people."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click
from msgspec import Struct

from asynccopy.errors import AsyncCopyError, Interrupted, UsageError
from asynccopy.logs import printable, redact
from asynccopy.mirror.progress import Progress
from asynccopy.units import size_text, span_text

Outcome = Literal["succeeded", "failed", "interrupted"]
_SHOWN_FAILURES = 20


class Run(Struct, frozen=True):
    """One run and how it ended. ``error`` is what ended it early, None when it came to its end."""

    started: datetime
    finished: datetime
    progress: Progress
    error: BaseException | None = None

    @property
    def outcome(self) -> Outcome:
        if isinstance(self.error, Interrupted):
            return "interrupted"
        return "failed" if self.error is not None or self.progress.failed_files else "succeeded"

    def document(self) -> dict[str, Any]:
        """The JSON document. ``errors`` holds the first failures; the run's own error has the path ""."""
        seen = self.progress
        errors = [
            {"path": failure.path, "class": failure.error_class, "message": failure.message, "hint": failure.hint}
            for failure in seen.failures
        ]
        if self.error is not None:
            hint = self.error.hint if isinstance(self.error, AsyncCopyError) else ""
            own = {
                "path": "",
                "class": type(self.error).__name__,
                "message": redact(str(self.error)),
                "hint": redact(hint),
            }
            errors.insert(0, own)
        return {
            "outcome": self.outcome,
            "files": {
                "expected": seen.listed_files,
                "copied": seen.copied_files,
                "skipped": seen.skipped_files,
                "failed": seen.failed_files,
                "deleted": 0,
            },
            "bytes": {
                "expected": seen.listed_bytes,
                "copied": seen.copied_bytes,
                "skipped": seen.skipped_bytes,
                "failed": seen.failed_bytes,
                "deleted": 0,
            },
            "verified": seen.verified,
            "resumed_parts": seen.resumed_parts,
            "copied_in_store": seen.in_store_files,
            "started": _iso(self.started),
            "finished": _iso(self.finished),
            "duration_seconds": round((self.finished - self.started).total_seconds(), 3),
            "errors": errors,
        }

    def summarize(self) -> None:
        """Say on stderr what was done."""
        seen = self.progress
        took = (self.finished - self.started).total_seconds()
        click.echo(
            f"asynccopy: copied {seen.copied_files:,} files, {size_text(seen.copied_bytes)} in {span_text(took)} "
            f"({size_text(seen.copied_bytes / took if took else 0)}/s); {seen.verified:,} verified by checksum, "
            f"{seen.skipped_files:,} there already, {seen.failed_files:,} failed, {seen.resumed_parts:,} parts resumed",
            err=True,
        )
        if seen.in_store_files:
            click.echo(f"  {seen.in_store_files:,} of them were copied inside the store", err=True)
        for failure in seen.failures[:_SHOWN_FAILURES]:
            text = f"{failure.path}: {failure.error_class}: {failure.message}"
            click.echo(f"  failed  {printable(redact(text))}", err=True)
        if seen.failed_files > _SHOWN_FAILURES:
            click.echo("  ...     all of them: asynccopy journal errors", err=True)


class ResultFile:
    """The file that --result names. Its folder is proven writable before the work begins, not after hours of it."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError."""
        self._path = path
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise self._error(error) from error

    def write(self, document: dict[str, Any]) -> None:
        """Replace the file: whole or not at all. Raises UsageError."""
        text = json.dumps(document, indent=2)
        temporary = ""
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(self._path)
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise self._error(error) from error

    def _error(self, error: OSError) -> UsageError:
        return UsageError(
            f"--result {self._path}: cannot be written: {error.strerror}", hint="name a file in a folder of yours"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
