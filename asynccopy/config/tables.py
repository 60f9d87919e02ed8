"""The tables of the configuration file as frozen structs, in bytes, seconds and shares of 1.

A ValueError of theirs names its key in backquotes; who reads the file adds file and table.
"""

from __future__ import annotations

import ipaddress
import re
from fractions import Fraction
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from asynccopy.logs import HIDDEN
from asynccopy.model import MIB, Preserved
from asynccopy.timetable import Timetable
from asynccopy.units import Cap

_LISTEN: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})\Z", re.ASCII)


class Seconds(float):
    """Written as ``30s``, ``1h30m``."""


class Size(int):
    """Bytes, written as ``64MiB``."""


class Moment(int):
    """Milliseconds since the epoch, written as ``2026-01-31``."""


class Secret:
    """A text that is not shown; ``reveal`` is for the one who must know it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


Ranges = Annotated[int, Meta(ge=1, le=10_000)]
"""Ranges in flight."""


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which every key is known."""


class Daemon(Table, frozen=True, kw_only=True):
    """The process. ``bandwidth`` and ``concurrency`` are for all mirrors together."""

    state: str = ""
    """The directory of journals and ledgers; "" before the default is found."""
    socket: str = ""
    """As ``state``."""
    listen: str | None = None
    token_file: str | None = None
    """As ``read_secret`` takes it."""
    log: Literal["auto", "json", "text"] = "auto"
    """auto: text where stderr is a terminal, else JSON."""
    file_events: bool = False
    concurrency: Ranges | Literal["auto"] = "auto"
    bandwidth: Timetable | None = None

    def __post_init__(self) -> None:
        for key in ("state", "socket"):
            path = getattr(self, key)
            if path and not path.startswith("/"):
                raise ValueError(f"`{key}` must be an absolute path, such as /var/lib/asynccopy")
        address = self.address
        if address is not None and not _is_loopback(address[0]) and not self.token_file:
            raise ValueError("`listen` on an address that others reach needs a `token_file`; or write 127.0.0.1:8787")

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of ``listen``."""
        if self.listen is None:
            return None
        found = _LISTEN.match(self.listen)
        if found is None or int(found[3]) > 65535:
            raise ValueError('`listen` must be "host:port", such as "127.0.0.1:8787" or "[::1]:8787"')
        return found[1] or found[2], int(found[3])


class MirrorConfig(Table, frozen=True, kw_only=True):
    """A source tree kept equal at a destination prefix."""

    source: str
    destination: str
    watch: Literal["auto", "snapshots", "scan", "off"] = "auto"
    interval: Seconds = Seconds(30)
    full_scan_interval: Seconds = Seconds(6 * 3600)
    settle: Seconds = Seconds(10)
    deletions: Literal["keep", "delete", "trash"] = "keep"
    trash: str = ".asynccopy-trash/"
    max_delete: Cap = Cap(share=Fraction(5, 100))
    verify: Literal["checksum", "size", "none"] = "checksum"
    bandwidth: Timetable | None = None
    concurrency: Ranges | Literal["auto"] = "auto"
    part_size: Size | None = None
    order: Literal["auto", "listing", "spread", "oldest", "newest", "smallest", "largest"] = "auto"
    priority: Annotated[int, Meta(ge=1, le=10)] = 5
    lag_alert: Seconds | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ("**/_temporary/**", "*._COPYING_")
    """What Hadoop's own tools write under before they rename it."""
    include_regex: tuple[str, ...] = ()
    exclude_regex: tuple[str, ...] = ()
    min_size: Size | None = None
    max_size: Size | None = None
    newer_than: Moment | None = None
    older_than: Moment | None = None
    empty_directories: bool = True
    preserve: tuple[Preserved, ...] = ()

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError("`interval` must be at least 1s")
        if self.full_scan_interval < self.interval:
            raise ValueError("`full_scan_interval` must not be below `interval`")
        if self.lag_alert is not None and not self.lag_alert:
            raise ValueError("`lag_alert` must be above 0s")
        if self.part_size is not None and (not self.part_size or self.part_size % MIB):
            raise ValueError('`part_size` must be whole MiB, such as "64MiB"')
        if self.trash.startswith("/") or not set(self.trash.rstrip("/").split("/")).isdisjoint({"", ".", ".."}):
            raise ValueError('`trash` must be a prefix such as ".asynccopy-trash/", without a leading /')
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise ValueError("`min_size` is above `max_size`")
        if self.newer_than is not None and self.older_than is not None and self.newer_than >= self.older_than:
            raise ValueError("`newer_than` is not before `older_than`")
        for key in ("include_regex", "exclude_regex"):
            for regex in getattr(self, key):
                try:
                    re.compile(regex)
                except (re.error, OverflowError, RecursionError) as error:
                    raise ValueError(f"`{key}`: {regex!r}: {error}") from None


class WebhookConfig(Table, frozen=True, kw_only=True):
    """Who is told of what happens. ``url_file`` as ``read_secret`` takes it."""

    url: Secret | None = None
    url_file: str | None = None
    shape: Literal["json", "dingtalk", "slack"] = "json"
    on: tuple[Literal["failure", "completion", "lag"], ...] = ("failure", "completion", "lag")

    def __post_init__(self) -> None:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("exactly one of `url_file` and `url` is needed")
        if self.url is not None and not re.match(r"https?://[A-Za-z0-9\[]", self.url.reveal()):
            raise ValueError("`url` must be an https:// or http:// address")
        if self.url_file == "":
            raise ValueError("`url_file` is empty: write a file's name")
        if not self.on:
            raise ValueError('`on` is empty: write for example ["failure"]')


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
