"""From a TOML document to a Config.

Whatever is wrong is one UsageError that names file, table and key, and says what would be right.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import tomli
from msgspec import Struct

from asynccopy.config.cluster import Cluster
from asynccopy.config.endpoints import Alias, Endpoint, OssEndpoint, S3Endpoint, WebHdfsEndpoint
from asynccopy.config.hadoop import hadoop_configuration
from asynccopy.config.nameservices import is_logical, located
from asynccopy.config.places import Ground, conflicts, ground, split_place
from asynccopy.config.pywhdfs import aliases
from asynccopy.config.tables import Daemon, MirrorConfig, Moment, Seconds, Secret, Size, WebhookConfig
from asynccopy.errors import UsageError
from asynccopy.logs import HIDDEN, printable
from asynccopy.timetable import Timetable
from asynccopy.units import Cap, parse_cap, parse_duration, parse_limit, parse_time, parse_written_size

T = TypeVar("T", bound=Struct)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
_SCHEMES: Final = frozenset({"file", "hdfs", "memory", "oss", "s3", "swebhdfs", "webhdfs"})
_TABLES: Final = ("daemon", "endpoints", "mirrors", "webhooks")
_ENDPOINTS: Final[dict[object, type[Endpoint]]] = {
    "webhdfs": WebHdfsEndpoint,
    "s3": S3Endpoint,
    "oss": OssEndpoint,
}


class Config(Struct, frozen=True):
    """The whole file. ``source`` is the file it came from, for messages."""

    endpoints: dict[str, Endpoint] = {}
    source: str = ""
    daemon: Daemon = Daemon()
    mirrors: dict[str, MirrorConfig] = {}
    webhooks: dict[str, WebhookConfig] = {}

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of this name: of this file, else of pywhdfs' one. Raises UsageError."""
        found = self.endpoints.get(name) or aliases().get(name)
        if found is None:
            known = ", ".join(sorted(self.endpoints)) or "none"
            raise UsageError(f"{self.source}: there is no [endpoints.{name}]", hint=f"endpoints in this file: {known}")
        return found

    def place(self, text: str) -> tuple[str, dict[str, object]]:
        """The URL of ``dc1:/warehouse`` or of a URL or path itself, and the fields of storage's Settings that its
        endpoint, or Hadoop's configuration, decides. Raises UsageError.
        """
        name, path = split_place(text)
        if name is None:
            found = located(text, hadoop_configuration()) if is_logical(text) else None
            return (text, {}) if found is None else (found[0], {"cluster": found[1]})
        endpoint = self.endpoint(name)
        if isinstance(endpoint, Alias):
            cluster = endpoint.holding(path)
            return f"{cluster.servers[0]}/{path.lstrip('/')}", {"cluster": cluster}
        return endpoint.location(path), {key: value for key, value in endpoint.settings.items() if value is not None}


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration file. Raises UsageError naming file, table and key."""
    try:
        document = tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="check the path given to --config"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: is not UTF-8 text (byte {error.start})", hint="is it the right file? Else save it as UTF-8"
        ) from error
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is not TOML: {error}", hint="config.example.toml shows the form") from error
    return parse(document, str(path), environment)


def parse(document: dict[str, Any], source: str, environment: Mapping[str, str] = os.environ) -> Config:
    """A parsed TOML document as a Config; the environment says where state and socket lie by default.

    Raises UsageError.
    """
    try:
        config = _parse(document, source)
    except UsageError as error:  # not `from error`: its text may hold a secret
        raise UsageError(_hushed(error.message, document), hint=_hushed(error.hint, document)) from None
    state = config.daemon.state or str(state_directory(environment))
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    socket = config.daemon.socket or f"{runtime or state}/control.sock"
    return msgspec.structs.replace(config, daemon=msgspec.structs.replace(config.daemon, state=state, socket=socket))


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """$STATE_DIRECTORY, which systemd sets, else where the XDG specification has it."""
    if given := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    home = environment.get("XDG_STATE_HOME", "")
    if home.startswith("/"):  # a relative path is invalid there, and must be ignored
        return Path(home) / "asynccopy"
    try:
        return Path.home() / ".local" / "state" / "asynccopy"
    except RuntimeError:
        raise UsageError(
            "no place for state: the user who runs this has no home directory", hint="set XDG_STATE_HOME"
        ) from None


def read_secret(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text of a secret's file. A name without a folder is a credential of systemd, in $CREDENTIALS_DIRECTORY.

    Raises UsageError, without the text.
    """
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    if "/" not in name and not folder:
        raise UsageError(f"{name}: there is no $CREDENTIALS_DIRECTORY", hint="write the file's whole path")
    path = Path(name) if "/" in name else Path(folder, name)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint="check the file and its owner") from error
    except ValueError:  # its text holds a piece of the file's
        raise UsageError(f"{path}: is not UTF-8 text") from None
    if not text:
        raise UsageError(f"{path}: is empty", hint="write the secret into it")
    return text


def _parse(document: dict[str, Any], source: str) -> Config:
    for key in document:
        if key not in _TABLES:
            raise UsageError(
                f"{source}: unknown key or table `{printable(key)}`",
                hint="the tables are: [daemon], [endpoints.NAME], [mirrors.NAME], [webhooks.NAME]",
            )
    config = Config(
        {name: _endpoint(table, where) for name, table, where in _named(document, "endpoints", source)},
        source,
        _table(document.get("daemon", {}), Daemon, f"{source}: [daemon]"),
        {name: _table(table, MirrorConfig, where) for name, table, where in _named(document, "mirrors", source)},
        {name: _table(table, WebhookConfig, where) for name, table, where in _named(document, "webhooks", source)},
    )
    for name in _sides(config):  # what a daemon shares by endpoint, it shares by alias too
        if name not in config.endpoints and (alias := aliases().get(name)) is not None:
            config.endpoints[name] = alias
    sides = [(name, _ground(config, name, "source"), _ground(config, name, "destination")) for name in config.mirrors]
    for name, trouble in conflicts(sides):
        raise UsageError(
            f"{source}: [mirrors.{name}]: `destination` {trouble}", hint="give every mirror a place of its own"
        )
    return config


def _named(document: dict[str, Any], kind: str, source: str) -> Iterator[tuple[str, Any, str]]:
    """Name, table and how a message calls it, of all tables of a kind."""
    tables = document.get(kind, {})
    if not isinstance(tables, dict):
        raise UsageError(f"{source}: `{kind}` must be a table", hint=f"write [{kind}.NAME]")
    for name, table in tables.items():
        where = f"{source}: [{kind}.{printable(name)}]"
        if not _NAME.match(name):
            raise UsageError(f"{where}: a name is a letter, then letters, digits, - and _, 63 at most")
        if kind == "endpoints" and name.lower() in _SCHEMES:
            raise UsageError(f"{where}: this name is a URL scheme", hint="choose another name")
        yield name, table, where


def _endpoint(table: Any, where: str) -> Endpoint:
    tag = table.get("type") if isinstance(table, dict) else None
    kind = _ENDPOINTS.get(tag) if isinstance(tag, str) else None
    if kind is None:
        told = f"`type`: Invalid value {tag!r}" if isinstance(tag, str) else "missing key `type`"
        raise UsageError(f"{where}: {told}", hint='write type = "webhdfs", type = "s3" or type = "oss"')
    return _table(table, kind, where)


def _table(table: Any, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(table, kind, dec_hook=_value)
    except msgspec.ValidationError as error:
        key, reason = _told(str(error))
        raise UsageError(f"{where}: {reason}", hint=_legal(kind, key, reason)) from None


def _told(reason: str) -> tuple[str, str]:
    """The key, and msgspec's reason with the key in front, in TOML's words."""
    reason, _, path = printable(reason).partition(" - at `$")
    for theirs, ours in _WORDS.items():
        reason = reason.replace(theirs, ours)
    key = path.rstrip("`").lstrip(".")
    return key.partition("[")[0], f"`{key}`: {reason}" if key else reason


_WORDS: Final = {
    "Object contains unknown field": "unknown key",
    "Object missing required field": "missing key",
    "`str": "`text",
    "`object": "`table",
    "`array": "`list",
    " | null": "",
}


def _legal(kind: type[Struct], key: str, reason: str) -> str:
    """What may be written instead."""
    if unknown := re.match(r"unknown key `(.*)`", reason):
        like = difflib.get_close_matches(unknown[1], kind.__struct_fields__, 1)
        return f"is `{like[0]}` meant?" if like else f"the keys here are: {', '.join(kind.__struct_fields__)}"
    choices = list(_choices(get_type_hints(kind, include_extras=True).get(key)))
    if choices and "enum" in reason:
        return f"write one of {', '.join(choices)}" if choices[1:] else f"write {choices[0]} or a number"
    return "config.example.toml shows every key"


def _choices(hint: object) -> Iterator[str]:
    """The words that a type allows."""
    for part in get_args(hint):
        if get_origin(hint) is Literal:
            yield f'"{part}"'
        else:
            yield from _choices(part)


_TEXTS: Final[dict[type, tuple[Callable[[str], object], str]]] = {
    Seconds: (lambda text: Seconds(parse_duration(text)), '"30s" or "1h30m"'),
    Size: (lambda text: Size(parse_written_size(text)), '"64MiB"'),
    Moment: (lambda text: Moment(parse_time(text)), "2026-01-31"),
    Cap: (parse_cap, '"5%" or 1000'),
    Timetable: (lambda text: Timetable([text], parse_limit), '"200MiB/s" or ["08:00-20:00 = 200MiB/s"]'),
    Secret: (Secret, "a text"),
}


def _value(kind: type, value: object) -> object:
    """What a value with a unit means. Raises ValueError, without what a secret says."""
    parse_text, example = _TEXTS[kind]
    if kind is Cap and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    elif kind is Moment and isinstance(value, date):  # a date and time is a date too
        value = value.isoformat()
    elif kind is Timetable and isinstance(value, list) and all(isinstance(text, str) for text in value):
        return Timetable(value, parse_limit)
    elif kind in (Size, Seconds, Timetable) and isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit: write for example {example}")
    if not isinstance(value, str):
        raise TypeError(f"write for example {example}")
    return parse_text(value)


def _sides(config: Config) -> set[str]:
    """The names of endpoints that the mirrors' sides are on."""
    texts = (text for mirror in config.mirrors.values() for text in (mirror.source, mirror.destination))
    return {name for name, _ in map(split_place, texts) if name is not None}


def _ground(config: Config, mirror: str, key: str) -> Ground:
    """Where a side of a mirror is. Raises UsageError."""
    text = getattr(config.mirrors[mirror], key)
    name, _ = split_place(text)
    try:
        url, given = config.place(text)
        cluster = given.get("cluster")
        if isinstance(cluster, Cluster):
            return ground(url, cluster.servers)
        return ground(url, () if name is None else config.endpoint(name).addresses)
    except ValueError as error:
        raise UsageError(
            f"{config.source}: [mirrors.{mirror}]: `{key}`: {text!r} {error}",
            hint="write for example dc1:/warehouse, webhdfs://namenode:9870/warehouse or s3://bucket/prefix",
        ) from None
    except UsageError as error:
        told = error.message.removeprefix(f"{config.source}: ")
        raise UsageError(f"{config.source}: [mirrors.{mirror}]: `{key}`: {told}", hint=error.hint) from None


def _hushed(text: str, document: dict[str, Any]) -> str:
    """A message without the webhooks' URLs, and without any URL of the file that may hold a password or a token."""
    secret = {value for value in _texts(document.get("webhooks")) if "/" in value}
    secret |= {value for value in _texts(document) if "://" in value and re.search(r"[@?]", value)}
    for value in sorted(secret, key=len, reverse=True):
        for shown in (value, repr(value)[1:-1], printable(value), printable(repr(value)[1:-1])):
            text = text.replace(shown, HIDDEN)
    return text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
