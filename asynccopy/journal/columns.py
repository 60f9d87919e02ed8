"""Many finished files as few bytes: their rows column by column, MessagePack in zlib. Pure.

Most of what is kept of a file is random, and no compression helps: 16 bytes of the source's checksum, 4 of the
object's, 16 of the ETag, what a name has of a UUID. So texts are split at their hexadecimal digits, which are kept as
bytes. Numbers are kept as their distance from the least of the column, all their lowest bytes first: the higher ones
are mostly zeros then, and vanish.

A pack has two halves. What a listing is compared with can be read without the evidence.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from asynccopy.errors import JournalDamaged

T = TypeVar("T")

_HEX = re.compile(r"(.*?)((?:[0-9a-f]{2}){4,})(.*)", re.DOTALL)
_UUID = re.compile("-".join(f"[0-9a-f]{{{digits}}}" for digits in (8, 4, 4, 4, 12)))
_WIDTHS = ((1 << 8, "B"), (1 << 16, "H"), (1 << 32, "I"), (1 << 64, "Q"))


class Known(NamedTuple):
    """A file as a listing is compared with it."""

    id: int
    name: str
    length: int
    modification_time: int
    file_id: int
    block_size: int


class Proof(NamedTuple):
    """What its row in ``files`` says besides, when it is done."""

    method: str
    source_checksum: str
    object_checksum: str
    etag: str
    done_at: int


class _Numbers(Struct, frozen=True, array_like=True):
    """``planes``: first the lowest byte of each number, then the next ones; ``code`` as ``struct`` names the width."""

    least: int
    code: str
    planes: bytes


class _Texts(Struct, frozen=True, array_like=True):
    """A text is its shape's beginning, so many bytes in hexadecimal digits, and its shape's end."""

    shapes: list[tuple[str, int, str]]
    which: _Numbers
    raw: bytes


class _Names(Struct, frozen=True, array_like=True):
    """``stems``: the names with a "/" where ``uuids`` has the 16 bytes of a UUID. No name has a "/" of its own."""

    stems: list[str]
    uuids: bytes


class _Versions(Struct, frozen=True, array_like=True):
    names: _Names
    numbers: tuple[_Numbers, _Numbers, _Numbers, _Numbers, _Numbers]


class _Evidence(Struct, frozen=True, array_like=True):
    texts: tuple[_Texts, _Texts, _Texts, _Texts]
    done_at: _Numbers


_encode = msgspec.msgpack.Encoder().encode
_versions = msgspec.msgpack.Decoder(_Versions)
_evidence = msgspec.msgpack.Decoder(_Evidence)


def pack_versions(files: Sequence[Known]) -> bytes:
    ids, names, *numbers = zip(*files, strict=True)
    first, *others = (_pack_numbers(column) for column in (ids, *numbers))
    return _squeeze((_pack_names(names), (first, *others)))


def pack_proofs(proofs: Sequence[Proof]) -> bytes:
    *texts, done_at = zip(*proofs, strict=True)
    return _squeeze(([_pack_texts(column) for column in texts], _pack_numbers(done_at)))


def unpack_versions(packed: bytes) -> list[Known]:
    """Raises JournalDamaged."""
    versions = _unsqueeze(packed, _versions)
    ids, *numbers = map(_unpack_numbers, versions.numbers)
    return list(map(Known._make, zip(ids, _unpack_names(versions.names), *numbers, strict=True)))


def unpack_proofs(packed: bytes) -> list[Proof]:
    """Raises JournalDamaged."""
    evidence = _unsqueeze(packed, _evidence)
    columns = [*map(_unpack_texts, evidence.texts), _unpack_numbers(evidence.done_at)]
    return list(map(Proof._make, zip(*columns, strict=True)))


def _squeeze(value: object) -> bytes:
    return zlib.compress(_encode(value), 6)


def _unsqueeze(packed: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        return decoder.decode(zlib.decompress(packed))
    except (zlib.error, msgspec.DecodeError) as error:
        raise JournalDamaged(f"packed rows in the journal cannot be read: {error}") from error


def _pack_numbers(numbers: Sequence[int]) -> _Numbers:
    least = min(numbers)
    most = max(numbers) - least
    code = next(code for limit, code in _WIDTHS if most < limit)
    data = struct.pack(f"<{len(numbers)}{code}", *(number - least for number in numbers))
    width = struct.calcsize(code)
    return _Numbers(least, code, b"".join(data[plane::width] for plane in range(width)))


def _unpack_numbers(packed: _Numbers) -> list[int]:
    count, width = len(packed.planes) // struct.calcsize(packed.code), struct.calcsize(packed.code)
    data = bytearray(len(packed.planes))
    for plane in range(width):
        data[plane::width] = packed.planes[plane * count : (plane + 1) * count]
    least = packed.least
    return [least + number for number in struct.unpack(f"<{count}{packed.code}", data)]


def _pack_names(names: Sequence[str]) -> _Names:
    stems = []
    uuids = bytearray()
    for name in names:
        found = _UUID.search(name)
        stems.append(name if found is None else f"{name[: found.start()]}/{name[found.end() :]}")
        if found is not None:
            uuids += bytes.fromhex(found[0].replace("-", ""))
    return _Names(stems, bytes(uuids))


def _unpack_names(packed: _Names) -> list[str]:
    names = []
    at = 0
    for stem in packed.stems:
        before, slash, behind = stem.partition("/")
        if slash:
            uuid = packed.uuids[at : at + 16].hex()
            stem = f"{before}{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}{behind}"
            at += 16
        names.append(stem)
    return names


def _pack_texts(texts: Sequence[str]) -> _Texts:
    shapes: dict[tuple[str, int, str], int] = {}
    which = []
    raw = bytearray()
    for text in texts:
        found = _HEX.fullmatch(text)
        before, digits, behind = found.groups() if found else (text, "", "")
        which.append(shapes.setdefault((before, len(digits) // 2, behind), len(shapes)))
        raw += bytes.fromhex(digits)
    return _Texts(list(shapes), _pack_numbers(which), bytes(raw))


def _unpack_texts(packed: _Texts) -> list[str]:
    texts = []
    at = 0
    for which in _unpack_numbers(packed.which):
        before, size, behind = packed.shapes[which]
        texts.append(f"{before}{packed.raw[at : at + size].hex()}{behind}")
        at += size
    return texts
