"""Delegation tokens as Hadoop writes them: in URLs, and in token files (``HADOOP_TOKEN_FILE_LOCATION``). Pure.

Both formats of Hadoop's ``Credentials`` are read, 0 (Writables) and 1 (protocol buffers). A file may come from
anywhere: whatever is wrong in it is a ValueError that shows none of its bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from msgspec import Struct

MAGIC: Final = b"HDTS"
LARGEST: Final = 16 << 20
"""Bytes of a token file. Real ones have some hundred per token."""

KINDS: Final = ("WEBHDFS delegation", "SWEBHDFS delegation", "HDFS_DELEGATION_TOKEN")
"""A NameNode's web server takes all of them: it looks at the identifier alone."""


class Token(Struct, frozen=True):
    """``kind``: what it opens; ``service``: where, as ``host:port`` or ``ha-hdfs:nameservice``, "" for not said.

    Identifier and password are the secret.
    """

    identifier: bytes
    password: bytes
    kind: str
    service: str

    def __repr__(self) -> str:
        return f"Token({self.kind!r}, {self.service!r})"

    @property
    def text(self) -> str:
        """As the value of ``delegation=``."""
        pieces = (self.identifier, self.password, self.kind.encode(), self.service.encode())
        raw = b"".join(_vint(len(piece)) + piece for piece in pieces)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Life(Struct, frozen=True):
    """Milliseconds by the NameNode's clock: when it was issued, and beyond what it cannot be renewed."""

    issued: int
    most: int


def parse_text(text: str) -> Token:
    """The value of ``delegation=``. Raises ValueError."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no delegation token: not base64") from None
    reader = _Reader(raw)
    token = _token(reader)
    reader.end()
    return token


def life(token: Token) -> Life:
    """Raises ValueError for an identifier that is no HDFS delegation token's."""
    reader = _identifier(token)
    for _ in range(3):  # owner, renewer, real user
        reader.piece()
    return Life(reader.vint(), reader.vint())


def owner(token: Token) -> str:
    """As whom a server takes its holder, without a realm: who asked for it, or for whom a proxy user did. Raises as
    ``life``.
    """
    return re.split("[/@]", _identifier(token).text())[0]


def _identifier(token: Token) -> _Reader:
    reader = _Reader(token.identifier)
    if reader.take(1) != b"\0":
        raise ValueError("an unknown version of the identifier")
    return reader


def parse_file(data: bytes) -> list[Token]:
    """All tokens of a token file; of a text file, the one whose ``delegation=`` it holds. Raises ValueError."""
    if not data.startswith(MAGIC):
        try:
            return [parse_text(data.decode("ascii").strip())]
        except (UnicodeDecodeError, ValueError):
            raise ValueError("is neither a Hadoop token file nor the text of a token") from None
    reader = _Reader(data[len(MAGIC) :])
    version = reader.take(1)[0]
    if version == 0:
        return list(_writables(reader))
    if version == 1:
        return list(_messages(reader.piece(signed=False)))
    raise ValueError(f"is a Hadoop token file of the unknown format {version}")


def choose(tokens: Sequence[Token], services: Collection[str], *, meant: bool = False) -> Token | None:
    """The token for a cluster, None when there is none or it cannot be told which.

    ``services``: what the cluster is called, in lower case: ``host:port`` of its web servers, by name and by address,
    and ``ha-hdfs:nameservice``. Tokens mostly name the RPC port, which is not known here, so a token of the host will
    do if it is the only one. ``meant``: the file was given for this very cluster, and its only token is the one.
    """
    fitting = [token for token in tokens if token.kind in KINDS]
    hosts = {service.rpartition(":")[0] for service in services if not service.startswith("ha-hdfs:")}
    for found in (
        [token for token in fitting if token.service.lower() in services],
        [token for token in fitting if token.service.lower().rpartition(":")[0] in hosts],
        [token for token in fitting if meant or not token.service],
    ):
        if found:
            return found[0] if len({token.identifier for token in found}) == 1 else None
    return None


# --- wire ---------------------------------------------------------------------------------------------------------


class _Reader:
    """Takes pieces off the front. Every length is checked before anything is taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def end(self) -> None:
        if self.more:
            raise ValueError("holds more than a delegation token")

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._data) - self._at:
            raise ValueError("is cut off, or is no delegation token")
        self._at += count
        return self._data[self._at - count : self._at]

    def vint(self) -> int:
        """Hadoop's WritableUtils: one byte from -112 to 127, else a byte that says sign and count, then the number."""
        first = int.from_bytes(self.take(1), "big", signed=True)
        if first >= -112:
            return first
        negative = first < -120
        number = int.from_bytes(self.take(-(first + (120 if negative else 112))), "big")
        return ~number if negative else number

    def varint(self) -> int:
        """A protocol buffer's."""
        number = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("is damaged: a number without end")

    def piece(self, *, signed: bool = True) -> bytes:
        return self.take(self.vint() if signed else self.varint())

    def text(self) -> str:
        return _text(self.piece())


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is damaged: a name that is no text") from None


def _vint(number: int) -> bytes:
    if number <= 127:
        return bytes([number])
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([256 - 112 - len(raw)]) + raw


def _token(reader: _Reader) -> Token:
    return Token(reader.piece(), reader.piece(), reader.text(), reader.text())


def _writables(reader: _Reader) -> Iterator[Token]:
    for _ in range(_count(reader.vint())):
        reader.text()  # the alias it was stored under
        yield _token(reader)
    # secrets follow, which are none of ours


def _count(number: int) -> int:
    if not 0 <= number <= 10_000:
        raise ValueError("is damaged: an impossible number of tokens")
    return number


def _messages(data: bytes) -> Iterator[Token]:
    """``CredentialsProto``: tokens in field 1, each an alias (1) and a token (2) of four fields."""
    for number, entry in _fields(data):
        if number != 1:
            continue
        for inner, body in _fields(entry):
            if inner == 2:
                parts = dict(_fields(body))
                found = [parts.get(each, b"") for each in (1, 2, 3, 4)]
                yield Token(found[0], found[1], _text(found[2]), _text(found[3]))


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message by number; others are passed over."""
    reader = _Reader(data)
    while reader.more:
        key = reader.varint()
        match key & 7:
            case 0:
                reader.varint()
            case 1:
                reader.take(8)
            case 2:
                yield key >> 3, reader.piece(signed=False)
            case 5:
                reader.take(4)
            case _:
                raise ValueError("is damaged: a field of an unknown type")
