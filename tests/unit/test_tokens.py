"""Delegation tokens in Hadoop's formats: read, chosen, and refused when they are damaged."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccopy.storage.webhdfs.tokens import MAGIC, Life, Token, choose, life, parse_file, parse_text

SEEN = (
    "HgAFYWxpY2UFYWxpY2UAigGiAF_HQooBogBgsaIBAhQn_yELuYtg0Kr2Fh9H"
    "lPlcHmDh2RJXRUJIREZTIGRlbGVnYXRpb24PMTI3LjAuMC4xOjI3NjAz"
)
"""As Hadoop 3.5.0 gave it out, for a minute, on a test cluster."""


def vint(number: int) -> bytes:
    """WritableUtils.writeVLong, as its source has it."""
    if -112 <= number <= 127:
        return number.to_bytes(1, "big", signed=True)
    size, number = (-120, ~number) if number < 0 else (-112, number)
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return (size - len(raw)).to_bytes(1, "big", signed=True) + raw


def writable(*pieces: bytes) -> bytes:
    return b"".join(vint(len(piece)) + piece for piece in pieces)


def identifier(issued: int, most: int, owner: bytes = b"alice") -> bytes:
    return b"\0" + writable(owner, b"alice", b"") + vint(issued) + vint(most) + vint(7) + vint(2)


def token(service: str, kind: str = "HDFS_DELEGATION_TOKEN", owner: bytes = b"alice") -> Token:
    return Token(identifier(1, 2, owner), b"secret", kind, service)


def format_0(*found: Token) -> bytes:
    entries = [
        writable(each.service.encode())
        + writable(each.identifier, each.password, each.kind.encode(), each.service.encode())
        for each in found
    ]
    return MAGIC + b"\0" + vint(len(found)) + b"".join(entries) + vint(1) + writable(b"alias", b"another secret")


def format_1(*found: Token) -> bytes:
    def field(number: int, body: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(body)) + body

    def varint(number: int) -> bytes:
        return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)

    body = b""
    for each in found:
        parts = (each.identifier, each.password, each.kind.encode(), each.service.encode())
        body += field(1, field(1, b"alias") + field(2, b"".join(field(n, p) for n, p in enumerate(parts, 1))))
    body += field(2, field(1, b"alias") + field(3, b"another secret"))
    return MAGIC + b"\1" + varint(len(body)) + body


FOUND = (token("127.0.0.1:8020"), token("ha-hdfs:prod"), token("10.0.0.9:9870", "WEBHDFS delegation", b"b" * 300))


def test_the_text_of_a_token_is_read_and_written() -> None:
    found = parse_text(SEEN)
    assert (found.kind, found.service, found.text) == ("WEBHDFS delegation", "127.0.0.1:27603", SEEN)
    assert life(found).most - life(found).issued == 60_000
    for each in FOUND:
        assert parse_text(each.text) == each


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1))
def test_times_are_read_as_hadoop_writes_them(issued: int, most: int) -> None:
    assert life(Token(identifier(issued, most), b"", "", "")) == Life(issued, most)


@pytest.mark.parametrize("form", [format_0, format_1])
def test_both_formats_of_a_token_file_are_read(form: object) -> None:
    assert callable(form)
    assert parse_file(form(*FOUND)) == list(FOUND)
    assert parse_file(form()) == []


def test_a_text_file_holds_one_token() -> None:
    assert parse_file(f"{SEEN}\n".encode()) == [parse_text(SEEN)]


@pytest.mark.parametrize("form", [format_0, format_1])
def test_a_damaged_file_is_refused_without_showing_it(form: object) -> None:
    """Cut anywhere it is an error; changed anywhere it is one, or other tokens, but nothing else happens."""
    assert callable(form)
    whole, chance = form(*FOUND), random.Random(5)
    for end in range(len(whole) - 30):
        with pytest.raises(ValueError, match=r"token|damaged") as raised:
            parse_file(whole[:end])
        assert "secret" not in str(raised.value)
    for _ in range(3_000):
        changed = bytearray(whole)
        changed[chance.randrange(5, len(changed))] = chance.randrange(256)
        with suppress(ValueError):
            parse_file(bytes(changed))


@given(st.binary(max_size=200))
def test_whatever_a_file_holds_is_tokens_or_an_error(data: bytes) -> None:
    for start in (b"", MAGIC, MAGIC + b"\0", MAGIC + b"\1"):
        with suppress(ValueError):
            parse_file(start + data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither a Hadoop token file"),
        (b"\x7fELF\0\0", "neither a Hadoop token file"),
        (MAGIC + b"\2", "unknown format 2"),
        (MAGIC + b"\0" + vint(-1), "impossible number"),
        (MAGIC + b"\0" + vint(2**62), "impossible number"),
        (MAGIC + b"\0" + vint(1) + vint(2**62), "cut off"),
        (MAGIC + b"\1" + b"\xff" * 11, "number without end"),
        (MAGIC + b"\1\x02\x0b\x00", "unknown type"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_file(data)


@pytest.mark.parametrize(
    ("services", "found"),
    [
        ({"10.0.0.9:9870", "nn:9870"}, FOUND[2]),  # the web server's own
        ({"127.0.0.1:9870", "localhost:9870"}, FOUND[0]),  # tokens name the RPC port
        ({"nn1:9870", "ha-hdfs:prod"}, FOUND[1]),
        ({"other:9870"}, None),
        ({"ha-hdfs:other"}, None),
    ],
)
def test_the_token_of_the_cluster_is_chosen(services: set[str], found: Token | None) -> None:
    assert choose(FOUND, services) == found


def test_no_token_is_guessed() -> None:
    two = [token("127.0.0.1:8020", owner=b"alice"), token("127.0.0.1:8021", owner=b"bob")]
    assert choose(two, {"127.0.0.1:9870"}) is None
    assert choose([token("vip:8020")], {"127.0.0.1:9870"}) is None
    assert choose([token("vip:8020")], {"127.0.0.1:9870"}, meant=True) == token("vip:8020")
    assert choose([token("vip:8020"), token("b:8020", owner=b"b")], {"127.0.0.1:9870"}, meant=True) is None
    assert choose([token("127.0.0.1:8020", "YARN_AM_RM_TOKEN")], {"127.0.0.1:8020"}, meant=True) is None


def test_a_token_does_not_show_itself() -> None:
    assert "secret" not in repr(FOUND[0]) + str(FOUND[0])
