"""The configuration file: TOML into frozen structs, one per table.

It names endpoints, so that a command can say ``dc1:/warehouse`` for a server's whole address. Secrets have no place in
it: they come from where the AWS and Hadoop tools look for them too. An unknown key or a wrong type is a UsageError that
names file, table and key.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import tomli
from msgspec import Struct

from asynccopy.errors import UsageError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_SCHEMES = frozenset({"file", "hdfs", "memory", "oss", "s3", "swebhdfs", "webhdfs"})


class WebHdfsEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="webhdfs"):
    """A NameNode's HTTP address, as ``webhdfs://host:port``. ``user``: who to be there; None is HADOOP_USER_NAME."""

    url: str | None = None
    urls: tuple[str, ...] = ()
    user: str | None = None

    def __post_init__(self) -> None:
        if (self.url is None) == (not self.urls):
            raise ValueError("exactly one of `url` and `urls` is needed")
        for url in self.urls or (self.url or "",):
            _check_address(url, ("webhdfs", "swebhdfs"))

    def location(self, path: str) -> str:
        """The full URL of a path on this endpoint."""
        address = self.urls[0] if self.url is None else self.url
        return f"{address.rstrip('/')}/{path.lstrip('/')}"


class S3Endpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="s3"):
    """A bucket of an S3 store. What is None comes from the AWS configuration that the machine already has."""

    bucket: str
    endpoint: str | None = None
    region: str | None = None
    addressing: Literal["path", "virtual"] | None = None

    def __post_init__(self) -> None:
        if not self.bucket or "/" in self.bucket:
            raise ValueError(
                "`bucket` is a bucket's name alone; the prefix follows the endpoint's name on the command line"
            )
        if self.endpoint is not None:
            _check_address(self.endpoint, ("http", "https"))

    def location(self, path: str) -> str:
        """The full URL of a prefix in this bucket."""
        return f"s3://{self.bucket}/{path.lstrip('/')}"


Endpoint = WebHdfsEndpoint | S3Endpoint


class Config(Struct, frozen=True):
    """The whole file. ``source`` is the file it came from, for messages."""

    endpoints: dict[str, Endpoint] = {}
    source: str = ""

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of this name. Raises UsageError."""
        found = self.endpoints.get(name)
        if found is None:
            known = ", ".join(sorted(self.endpoints)) or "none"
            raise UsageError(f"{self.source}: there is no [endpoints.{name}]", hint=f"endpoints in this file: {known}")
        return found


def load(path: Path) -> Config:
    """Read a configuration file. Raises UsageError naming file, table and key."""
    try:
        document = tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="check the path given to --config"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except tomli.TOMLDecodeError as error:
        raise UsageError(f"{path}: is not TOML: {error}") from error
    return parse(document, str(path))


def parse(document: dict[str, Any], source: str) -> Config:
    """A parsed TOML document as a Config. Raises UsageError."""
    for key in document:
        if key != "endpoints":
            raise UsageError(f"{source}: unknown key or table `{key}`", hint="the tables are: [endpoints.NAME]")
    tables = document.get("endpoints", {})
    if not isinstance(tables, dict):
        raise UsageError(f"{source}: `endpoints` must be a table", hint="write [endpoints.NAME]")
    return Config({name: _endpoint(name, table, source) for name, table in tables.items()}, source)


def _endpoint(name: str, table: Any, source: str) -> Endpoint:
    where = f"{source}: [endpoints.{name}]"
    if not _NAME.match(name):
        raise UsageError(f"{where}: a name is a letter, then letters, digits, - and _")
    if name.lower() in _SCHEMES:
        raise UsageError(f"{where}: this name is a URL scheme", hint="choose another name")
    try:
        return msgspec.convert(table, Endpoint)  # type: ignore[no-any-return]  # a union is a legal type here
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_explain(str(error))}", hint="config.example.toml shows every key") from error


def _explain(reason: str) -> str:
    """msgspec's reason with the key in front, in TOML's words."""
    reason, _, path = reason.partition(" - at `$")
    reason = reason.replace("Object contains unknown field", "unknown key").replace(
        "Object missing required field", "missing key"
    )
    key = path.rstrip("`").lstrip(".")
    return f"`{key}`: {reason}" if key else reason


def _check_address(url: str, schemes: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"`{_without_userinfo(url)}` must look like {schemes[0]}://host:port")
    if parts.username or parts.password or parts.query:
        raise ValueError(f"`{_without_userinfo(url)}`: an address carries no user, password or query")


def _without_userinfo(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])
