"""Which files belong to the job. Pure.

Globs match the path relative to the source root, as in gitignore and rclone: ``*`` and ``?`` do not match ``/``,
``**`` matches anything, a pattern without ``/`` matches the last component anywhere in the tree.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Struct

from asynccopy.errors import UsageError
from asynccopy.model import FileStatus


class _Patterns(NamedTuple):
    globs: re.Pattern[str] | None
    regexes: tuple[re.Pattern[str], ...]

    def match(self, path: str) -> bool:
        """A glob matches the whole path; a regular expression is searched anywhere, as grep does."""
        if self.globs is not None and self.globs.fullmatch(path) is not None:
            return True
        return any(regex.search(path) is not None for regex in self.regexes)


class Selection(Struct, frozen=True, dict=True):
    """A file belongs if any include matches (or there is none), no exclude does, and size and time are within bounds.

    Sizes in bytes, times in ms since the epoch, bounds included. ``empty_directories``: make markers for them.
    Raises UsageError when a regular expression is malformed.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    include_regex: tuple[str, ...] = ()
    exclude_regex: tuple[str, ...] = ()
    min_size: int | None = None
    max_size: int | None = None
    modified_after: int | None = None
    modified_before: int | None = None
    empty_directories: bool = True

    def __post_init__(self) -> None:
        self._included  # noqa: B018 - compiled here, so that a malformed expression is told before anything begins
        self._excluded  # noqa: B018

    @cached_property
    def _included(self) -> _Patterns:
        return _compiled(self.include, self.include_regex, "--include-regex")

    @cached_property
    def _excluded(self) -> _Patterns:
        return _compiled(self.exclude, self.exclude_regex, "--exclude-regex")

    @cached_property
    def _takes_all(self) -> bool:
        """Nothing is asked of a file: the usual job, told once and not for every entry of a listing."""
        return self == Selection(empty_directories=self.empty_directories)

    @property
    def text(self) -> str:
        """The same text for the same selection: a pass is only resumed with the one it was begun with."""
        return msgspec.json.encode(self).decode()

    def text_with(self, directories: bool) -> str:
        """As ``text``, where every directory may have a marker besides: who has looked for others must look again."""
        return self.text + "+directories" * directories

    def has(self, status: FileStatus) -> bool:
        """Whether a file, or the marker of an empty directory (a path ending in ``/``), belongs to the job."""
        if status.is_directory:
            return self.empty_directories and self.names(status.path)
        if self._takes_all:
            return True
        if not self.names(status.path):
            return False
        return (
            (self.min_size is None or status.length >= self.min_size)
            and (self.max_size is None or status.length <= self.max_size)
            and (self.modified_after is None or status.modification_time >= self.modified_after)
            and (self.modified_before is None or status.modification_time <= self.modified_before)
        )

    def enters(self, directory: str) -> bool:
        """Whether anything below a directory can belong to the job; if not, it is not listed."""
        # By globs alone: one that takes a directory takes all below it, which a regular expression need not do.
        return self._excluded.globs is None or self._excluded.globs.fullmatch(directory + "/") is None

    def names(self, path: str) -> bool:
        """Whether the patterns select a path, whatever its size and time."""
        path = path.rstrip("/")
        if (self.include or self.include_regex) and not self._included.match(path):
            return False
        return not self._excluded.match(path)


@lru_cache(maxsize=64)
def _compiled(globs: tuple[str, ...], regexes: tuple[str, ...], option: str) -> _Patterns:
    compiled = []
    for regex in regexes:  # each alone: joined they would share group numbers and flags
        try:
            compiled.append(re.compile(regex, re.DOTALL))
        except re.error as error:
            raise UsageError(f"{option} {regex!r}: {error}") from None
    joined = "|".join(f"(?:{_translated(glob)})" for glob in globs)
    return _Patterns(re.compile(joined, re.DOTALL) if globs else None, tuple(compiled))


def _translated(glob: str) -> str:
    text = glob.strip("/")
    out = "" if "/" in glob.rstrip("/") else "(?:.*/)?"
    at = 0
    while at < len(text):
        if text.startswith("**/", at):
            out += "(?:.*/)?"
            at += 3
        elif text.startswith("**", at):
            out += ".*"
            at += 2
        elif text[at] == "*":
            out += "[^/]*"
            at += 1
        elif text[at] == "?":
            out += "[^/]"
            at += 1
        else:
            out += re.escape(text[at])
            at += 1
    # A pattern that names a directory takes all that is below it, too.
    return out + ("/.*" if glob.endswith("/") else "(?:/.*)?")
