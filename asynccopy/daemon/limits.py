"""Bandwidths that several mirrors have in common: the daemon's, and each endpoint's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from asynccopy.storage.limited import Bandwidth, Share
from asynccopy.timetable import Timetable


class Common:
    """One of them. ``owner``: the table of the configuration that says how wide it is, as people write it."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.bandwidth = Bandwidth()
        self._timetable: Timetable | None = None

    def pace(self, timetable: Timetable | None, now: datetime) -> None:
        """Let it be as wide as the timetable has it now."""
        self._timetable = timetable
        self.bandwidth.pace(None if timetable is None else timetable.rate(now))

    def share(self, weight: int) -> Portion:
        return Portion(self, self.bandwidth.share(weight))

    @property
    def texts(self) -> tuple[str, ...]:
        """Its timetable as configured, each line with the owner; also a rate that is always the same: it is not the
        mirror's own.
        """
        return () if self._timetable is None else tuple(f"{self.owner} {text}" for text in self._timetable.texts)


class Portion:
    """What one mirror has of a common bandwidth."""

    def __init__(self, common: Common, share: Share) -> None:
        self.common = common
        self.share = share

    @property
    def held(self) -> bool:
        return self.common.bandwidth.held

    @property
    def rate(self) -> float | None:
        return self.common.bandwidth.rate


class _Limit(Protocol):
    @property
    def rate(self) -> float | None: ...


def narrowest(held: bool, limits: Sequence[_Limit]) -> float | None:
    """Bytes per second that may pass all of them; 0 where one is ``held``, None without a limit."""
    return 0.0 if held else min((each.rate for each in limits if each.rate is not None), default=None)
