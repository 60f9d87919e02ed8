"""Clusters by alias as pywhdfs and pydistcp know them: ``~/.webhdfs.cfg``, or the file that $WEBHDFS_CONFIG names.

The fields and their meanings are those of pywhdfs 1.x (its config_schema.json, config.py and client.py).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from asynccopy.config.cluster import Auth, Cluster
from asynccopy.config.endpoints import Alias, webhdfs_address
from asynccopy.errors import UsageError
from asynccopy.logs import printable

_WORDS: Final = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\],:]|[^\s{}\[\],:"]+')
DIGITS: Final = 400
"""Of a number, at most; Python refuses to read one of 4,300."""
_AUTH: Final[dict[str, Auth]] = {"NONE": "simple", "GSSAPI": "kerberos", "TKN_GSSAPI": "kerberos", "TOKEN": "token"}
"""TKN_GSSAPI gets a token by Kerberos: here Kerberos always does."""


class _Nameservice(Struct, frozen=True):
    urls: tuple[str, ...]
    mounts: tuple[str, ...]


class _Cluster(Struct, frozen=True):
    """Other fields are let pass, as pywhdfs does. ``verify`` is not among these: a server always shows who it is."""

    name: str
    nameservices: tuple[_Nameservice, ...]
    auth_mechanism: str
    mutual_auth: str = "DISABLED"
    max_concurrency: int = -1
    token: str | None = None
    truststore: str | None = None
    user: str | None = None
    proxy: str | None = None


class _Document(Struct, frozen=True):
    clusters: tuple[_Cluster, ...]


def aliases(environ: Mapping[str, str] = os.environ) -> dict[str, Alias]:
    """The clusters of the user's file, {} where there is none. Raises UsageError naming file, line and field."""
    given = environ.get("WEBHDFS_CONFIG", "")
    path = Path(os.path.expanduser(given or "~/.webhdfs.cfg"))  # noqa: PTH111 - Path's raises where there is no home
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if given:
            raise UsageError(f"{path}: there is no such file", hint="correct or unset WEBHDFS_CONFIG") from None
        return {}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint="check the file and its owner") from error
    except UnicodeDecodeError:  # its text holds a piece of the file's
        raise UsageError(f"{path}: is not UTF-8 text") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> dict[str, Alias]:
    """The clusters of a file's text by their names. Raises UsageError, which shows no value of the file."""
    try:
        document: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{source}: line {error.lineno}: is not JSON: {error.msg}", hint="json.tool shows where"
        ) from None
    except RecursionError:
        raise UsageError(f"{source}: is not JSON: too deep") from None
    except ValueError:
        document = None  # of a number that Python does not read, which is named now
    _check_words(text, source)
    lines = _lines(text)
    try:
        clusters = msgspec.convert(document, _Document).clusters
    except msgspec.ValidationError as error:
        reason, _, field = printable(str(error)).partition(" - at `$")
        raise _wrong(source, lines, _path(field.rstrip("`")), reason) from None
    found: dict[str, Alias] = {}
    for number, cluster in enumerate(clusters):
        if cluster.name in found:
            raise _wrong(source, lines, ("clusters", number, "name"), "another cluster has this name")
        found[cluster.name] = _alias(cluster, source, lines, number)
    return found


def _check_words(text: str, source: str) -> None:
    """What JSON can write and nothing here can hold. Raises UsageError."""
    for match in _WORDS.finditer(text):
        word, odd = match[0], ""
        if word[0] != '"':
            odd = f"a number of {len(word)} digits" if len(word) > DIGITS else ""
        elif "\\u" in word:
            try:
                json.loads(word).encode()
            except UnicodeEncodeError:
                odd = "half a character: a \\ud8.. or \\udc.. without the other"
        if odd:
            line = text.count("\n", 0, match.start()) + 1
            raise UsageError(f"{source}: line {line}: is not JSON: {odd}", hint="correct the file")


_Path = tuple[str | int, ...]


def _alias(cluster: _Cluster, source: str, lines: Mapping[_Path, int], number: int) -> Alias:
    at: _Path = ("clusters", number)
    auth = _AUTH.get(cluster.auth_mechanism)
    if auth is None:
        raise _wrong(source, lines, (*at, "auth_mechanism"), f"must be one of {', '.join(_AUTH)}")
    if cluster.mutual_auth not in ("OPTIONAL", "REQUIRED", "DISABLED"):
        raise _wrong(source, lines, (*at, "mutual_auth"), "must be one of OPTIONAL, REQUIRED, DISABLED")
    mounts: dict[str, Cluster] = {}
    for index, nameservice in enumerate(cluster.nameservices):
        where: _Path = (*at, "nameservices", index)
        if not nameservice.urls or not nameservice.mounts:
            raise _wrong(source, lines, (*where, "mounts" if nameservice.urls else "urls"), "is empty")
        try:
            servers = tuple(webhdfs_address(_with_port(url)) for url in nameservice.urls)
        except ValueError as error:
            secret = any("@" in url or "?" in url for url in nameservice.urls)
            told = "must look like http://host:port, without user, password or query" if secret else str(error)
            raise _wrong(source, lines, (*where, "urls"), told) from None
        there = Cluster(
            servers=servers,
            user=cluster.user or None,
            doas=cluster.proxy or None,
            auth=auth,
            token=cluster.token or None if auth == "token" else None,
            mutual=auth == "kerberos" and cluster.mutual_auth == "REQUIRED",
            ca_file=cluster.truststore or None if any(url.startswith("swebhdfs:") for url in servers) else None,
        )
        for mount in nameservice.mounts:
            path = f"/{mount.strip('/')}"
            if not mount.startswith("/") or path in mounts:
                why = "belongs to two nameservices" if path in mounts else "must be an absolute path"
                raise _wrong(source, lines, (*where, "mounts"), f"{mount!r} {why}")
            mounts[path] = there
    if not mounts:
        raise _wrong(source, lines, (*at, "nameservices"), "is empty")
    most = cluster.max_concurrency if 0 < cluster.max_concurrency <= 10_000 else None
    return Alias(tuple(mounts.items()), f"{source}: cluster {cluster.name}", concurrency=most)


def _with_port(url: str) -> str:
    """An address as pywhdfs asks there: at the web's own port where it names none, not at a NameNode's."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    port = {"http": ":80", "https": ":443"}.get(scheme, "")
    return url if re.search(r":\d+\Z", authority) else f"{scheme}://{authority}{port}{slash}{path}"


def _wrong(source: str, lines: Mapping[_Path, int], path: _Path, why: str) -> UsageError:
    """About a field, or about the nearest thing around it that is written down."""
    written = path
    while written and written not in lines:
        written = written[:-1]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    told = f"`{field}`: {why}" if field else why
    return UsageError(
        f"{source}: line {lines.get(written, 1)}: {told}",
        hint="correct the file; docs/configuration.md tells what its fields mean",
    )


def _path(field: str) -> _Path:
    """From msgspec's ``.clusters[0].name`` (it writes ``[...]`` where any element is meant)."""
    parts = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", field)
    return tuple(int(index) if index else key for key, index in parts)


def _lines(text: str) -> dict[_Path, int]:
    """The line on which each field and each element of a JSON text, which is known to be one, begins."""
    found: dict[_Path, int] = {}
    outside: tuple[str, list[str | int | None]] = ("", [None])
    levels: list[tuple[str, list[str | int | None]]] = []  # opening bracket, and the key or index one is at

    def here() -> _Path:
        return tuple(at[0] for _, at in levels if at[0] is not None)

    for match in _WORDS.finditer(text):
        word = match[0]
        bracket, at = levels[-1] if levels else outside
        if word in "}]":
            levels.pop()
        elif word == ",":
            at[0] = None if not isinstance(at[0], int) else at[0] + 1
        elif word != ":":
            if bracket == "{" and at[0] is None:
                at[0] = json.loads(word)
                found[here()] = text.count("\n", 0, match.start()) + 1
                continue
            found.setdefault(here(), text.count("\n", 0, match.start()) + 1)
            if word in "{[":
                levels.append((word, [None if word == "{" else 0]))
    return found
