"""Hadoop's own configuration files, with Hadoop's rules: what ``Configuration.java`` of 3.x makes of them.

Only texts come in, what they include too, by ``fetch``; a DTD, with which a text can blow itself up, is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from msgspec import Struct

from asynccopy.config.cluster import user_name
from asynccopy.errors import UsageError

Fetch = Callable[[Path], bytes]
"""The bytes of a file. Raises FileNotFoundError, and other OSErrors."""

DEPTH: Final = 20
"""Variables replaced in one value (Configuration.MAX_SUBST), and files that include each other."""
RESOURCES: Final = ("core-site.xml", "hdfs-site.xml")
"""In the order in which they override each other."""
DEPRECATED: Final = {
    "fs.default.name": "fs.defaultFS",
    "dfs.federation.nameservices": "dfs.nameservices",
    "dfs.federation.nameservice.id": "dfs.nameservice.id",
    "dfs.http.address": "dfs.namenode.http-address",
    "dfs.https.address": "dfs.namenode.https-address",
}
_INCLUDE: Final = "{http://www.w3.org/2001/XInclude}include"
_FALLBACK: Final = "{http://www.w3.org/2001/XInclude}fallback"
_VARIABLE: Final = re.compile(r"\$\{([^\}\$\s]+)\}")
_ENVIRONMENT: Final = re.compile(r"env\.(?P<name>.*?)(?:(?P<rule>:?-)(?P<default>.*))?\Z", re.DOTALL)


class Property(Struct, frozen=True):
    name: str
    value: str
    final: bool = False


class HadoopConfiguration:
    """What all resources together say. ``where`` is for messages: the directory that they lie in."""

    def __init__(self, properties: Iterator[Property], where: str, environ: Mapping[str, str]) -> None:
        self.where = where
        self._environ = environ
        self._raw: dict[str, str] = {}
        final: set[str] = set()
        for each in properties:
            name = DEPRECATED.get(each.name, each.name)
            if name not in final:
                self._raw[name] = each.value
            if each.final:
                final.add(name)

    def get(self, name: str, default: str = "") -> str:
        """The value, trimmed, its variables replaced; one that nobody set stays as it is written. Raises UsageError."""
        return self._expanded(name, self._raw.get(name, default)).strip()

    def list(self, name: str) -> tuple[str, ...]:
        """A value with commas, as Hadoop's getTrimmedStringCollection has it."""
        return tuple(part for part in (each.strip() for each in self.get(name).split(",")) if part)

    def below(self, prefix: str) -> dict[str, str]:
        """The names that begin with ``prefix``, without it, and their values."""
        return {name.removeprefix(prefix): self.get(name) for name in self._raw if name.startswith(prefix)}

    def _expanded(self, name: str, value: str) -> str:
        seen: set[str] = set()
        for _ in range(DEPTH):
            found = _VARIABLE.search(value)
            if found is None:
                return value
            variable = found[1]
            replacement = self._variable(variable)
            if replacement is None or variable in seen:
                return value
            seen.add(variable)
            value = value[: found.start()] + replacement + value[found.end() :]
        if _VARIABLE.search(value) is None:
            return value
        raise UsageError(f"{self.where}: `{name}`: more than {DEPTH} variables are replaced in it")

    def _variable(self, variable: str) -> str | None:
        if (found := _ENVIRONMENT.match(variable)) is not None:
            value = self._environ.get(found["name"])
            if found["rule"] is None or value or (value is not None and found["rule"] == "-"):
                return value
            return found["default"]
        return _SYSTEM.get(variable, lambda: self._raw.get(DEPRECATED.get(variable, variable)))()


_SYSTEM: Final[dict[str, Callable[[], str | None]]] = {
    "user.name": user_name,
    "user.home": lambda: os.path.expanduser("~"),  # noqa: PTH111 - Path.home() raises where there is none
    "java.io.tmpdir": lambda: "/tmp",  # noqa: S108 - Java says so, and nothing is written there
}
"""The system properties of Java that stand in such files."""


def hadoop_configuration(environ: Mapping[str, str] = os.environ) -> HadoopConfiguration | None:
    """What core-site.xml and hdfs-site.xml in $HADOOP_CONF_DIR say; None without the variable. Raises UsageError."""
    folder = environ.get("HADOOP_CONF_DIR", "")
    if not folder:
        return None
    return HadoopConfiguration(_of_directory(Path(folder)), folder, environ)


def _of_directory(folder: Path) -> Iterator[Property]:
    for name in RESOURCES:
        path = folder / name
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            continue  # Hadoop does without
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be read: {error.strerror}", hint="check HADOOP_CONF_DIR and the file's owner"
            ) from error
        yield from properties(text, path, Path.read_bytes)


def properties(text: bytes, path: Path, fetch: Fetch) -> Iterator[Property]:
    """The properties of one resource, those of the files that it includes in their place. Raises UsageError."""
    yield from _configuration(_parsed(text, path), path, fetch, 0)


class _WithoutDtd(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise _Dtd


class _Dtd(Exception):
    pass


def _parsed(text: bytes, path: Path) -> ET.Element:
    try:
        parser = ET.XMLParser(target=_WithoutDtd())  # noqa: S314 - the attacks are all made of DTDs
        root = ET.fromstring(text, parser)  # noqa: S314
    except _Dtd:
        raise UsageError(
            f"{path}: has a DTD (<!DOCTYPE ...>), which is not read", hint="write its entities out"
        ) from None
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two: its encoding
        raise UsageError(f"{path}: is not XML: {error}", hint="correct the file, or unset HADOOP_CONF_DIR") from None
    if root.tag != "configuration":
        raise UsageError(f"{path}: begins with <{root.tag}>, not with <configuration>", hint="is it Hadoop's?")
    return root


def _configuration(element: ET.Element, path: Path, fetch: Fetch, depth: int) -> Iterator[Property]:
    for child in element:
        if child.tag == "property":
            yield from _property(child)
        elif child.tag == "configuration":
            yield from _configuration(child, path, fetch, depth)
        elif child.tag == _INCLUDE:
            yield from _included(child, path, fetch, depth)


def _property(element: ET.Element) -> Iterator[Property]:
    """``<name>`` and its like, or attributes of the same names. Without a value it says nothing."""
    said = dict(element.attrib)
    said |= {child.tag: "".join(child.itertext()) for child in element if child.tag in ("name", "value", "final")}
    if said.get("name", "").strip() and "value" in said:
        yield Property(said["name"].strip(), said["value"], said.get("final", "").strip().lower() == "true")


def _included(element: ET.Element, path: Path, fetch: Fetch, depth: int) -> Iterator[Property]:
    href = element.get("href", "")
    if depth >= DEPTH:
        raise UsageError(f"{path}: more than {DEPTH} files include each other", hint="does one include itself?")
    if not href or re.match(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*:", href) or element.get("parse", "xml") != "xml":
        raise UsageError(f"{path}: includes {href!r}: only local XML files can be", hint="name a file")
    target = path.parent / re.sub(r"\Afile:(//(?=/))?", "", href)
    try:
        text = fetch(target)
    except OSError as error:
        fallback = element.find(_FALLBACK)
        if fallback is None:
            raise UsageError(f"{path}: includes {target}, which cannot be read: {error.strerror}") from error
        yield from _configuration(fallback, path, fetch, depth + 1)
        return
    yield from _configuration(_parsed(text, target), target, fetch, depth + 1)
