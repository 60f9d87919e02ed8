"""What a new configuration changes in a running daemon. Pure."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from asynccopy.config.endpoints import Endpoint
from asynccopy.config.file import Config
from asynccopy.config.places import split_place
from asynccopy.config.tables import MirrorConfig

LIVE: Final = frozenset(
    {
        "bandwidth",
        "concurrency",
        "deletions",
        "full_scan_interval",
        "interval",
        "lag_alert",
        "max_delete",
        "order",
        "priority",
        "settle",
    }
)
"""Keys of a mirror that hold at once; for the others it is built anew."""
_DAEMON_LIVE: Final = frozenset({"bandwidth", "concurrency", "file_events"})


class Changes(Struct, frozen=True):
    """Names, sorted. ``live`` and ``rebuilt``: mirror to its changed keys; none is in both."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    live: dict[str, tuple[str, ...]] = {}
    rebuilt: dict[str, tuple[str, ...]] = {}
    endpoints: tuple[str, ...] = ()
    """Endpoints whose caps changed: they hold at once"""
    webhooks: bool = False
    daemon: tuple[str, ...] = ()
    """Keys of [daemon] that hold at once"""
    restart: tuple[str, ...] = ()
    """Keys of [daemon] that hold after a restart"""


def changed(old: Config, new: Config) -> Changes:
    """What is to be done to go from one to the other."""
    differing = {name: _mirror(name, old, new) for name in sorted(old.mirrors.keys() & new.mirrors.keys())}
    daemon = _keys(old.daemon, new.daemon)
    return Changes(
        added=tuple(sorted(new.mirrors.keys() - old.mirrors.keys())),
        removed=tuple(sorted(old.mirrors.keys() - new.mirrors.keys())),
        live={name: keys for name, keys in differing.items() if keys and LIVE.issuperset(keys)},
        rebuilt={name: keys for name, keys in differing.items() if not LIVE.issuperset(keys)},
        endpoints=tuple(
            name
            for name in sorted(old.endpoints.keys() & new.endpoints.keys())
            if _caps(old.endpoints[name]) != _caps(new.endpoints[name])
        ),
        webhooks=old.webhooks != new.webhooks,
        daemon=tuple(key for key in daemon if key in _DAEMON_LIVE),
        restart=tuple(key for key in daemon if key not in _DAEMON_LIVE),
    )


def _mirror(name: str, old: Config, new: Config) -> tuple[str, ...]:
    """The keys of a mirror that differ; also a side of which the endpoint does."""
    former, latter = old.mirrors[name], new.mirrors[name]
    moved = {key for key in ("source", "destination") if _side(old, former, key) != _side(new, latter, key)}
    return tuple(sorted(moved.union(_keys(former, latter))))


def _side(config: Config, mirror: MirrorConfig, key: str) -> tuple[str, Endpoint | None]:
    text: str = getattr(mirror, key)
    name, _ = split_place(text)
    if name is None:
        return text, None
    return text, msgspec.structs.replace(config.endpoint(name), bandwidth=None, concurrency=None)


def _caps(endpoint: Endpoint) -> tuple[object, object]:
    return endpoint.bandwidth, endpoint.concurrency


def _keys(old: Struct, new: Struct) -> tuple[str, ...]:
    return tuple(key for key in sorted(old.__struct_fields__) if getattr(old, key) != getattr(new, key))
