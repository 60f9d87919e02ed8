"""Our signatures are botocore's, bit for bit, and those of the examples that AWS publishes."""

from __future__ import annotations

import datetime as dt
import random
from hashlib import sha256

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from asynccopy.storage.s3.signing import (
    SIGNED_CHUNKS_TRAILER,
    UNSIGNED,
    ChunkSigner,
    Credentials,
    Signature,
    Signer,
    encode_query,
)
from asynccopy.storage.signing import encode_path

NOW = dt.datetime(2026, 3, 1, 23, 59, 58, 700_000, tzinfo=dt.UTC)
PIECES = [
    *" %+#?;&'\"<>=:@!$,()*[]{}|^`~\\\n\t\r\x01\x7f",
    *["a", "Z", "0", "-", "_", ".", "/", "//", "/./", "/../", "%2F", "%25", "é", "e\u0301", "日本", "😀", "\u00a0"],
]


def _text(chance: random.Random, most: int) -> str:
    return "".join(chance.choices(PIECES, k=chance.randint(1, most)))


def _value(chance: random.Random) -> str:
    return "".join(chance.choices(["a", "B", " ", "  ", "\t", "=", "/", "+", ";", ","], k=chance.randint(0, 12)))


def _of_botocore(
    monkeypatch: pytest.MonkeyPatch,
    credentials: Credentials,
    method: str,
    url: str,
    headers: dict[str, str],
    payload: str,
) -> str:
    monkeypatch.setattr(auth, "get_current_datetime", lambda: NOW)
    request = AWSRequest(method=method, url=url, headers=headers)
    signer = auth.S3SigV4Auth(
        BotoCredentials(credentials.access_key, credentials.secret_key, credentials.token), "s3", "eu-central-1"
    )
    monkeypatch.setattr(signer, "payload", lambda _: payload)
    signer.add_auth(request)
    return str(request.headers["Authorization"])


def test_a_thousand_odd_requests_are_signed_as_botocore_signs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(20260301)
    ours = Signer("eu-central-1")
    for _ in range(1000):
        token = _value(chance).strip() + "T/+=" if chance.random() < 0.4 else None
        credentials = Credentials(f"AK{chance.randint(0, 3)}", f"secret/{chance.randint(0, 3)}", token)
        method = chance.choice(["GET", "PUT", "POST", "DELETE", "HEAD"])
        host = chance.choice(["s3.example.com", "b.s3.example.com:9000", "127.0.0.1:7070"])
        path = encode_path("/bucket/" + _text(chance, 20))
        names = chance.sample(
            ["uploads", "uploadId", "partNumber", "prefix", "key-marker", "A", "a-b"], k=chance.randint(0, 4)
        )
        query = encode_query([(name, _text(chance, 6) if chance.random() < 0.8 else "") for name in names])
        kinds = ["x-amz-checksum-crc32c", "range", "content-type", "content-md5", "x-amz-meta-a", "content-encoding"]
        headers = {name: _value(chance) for name in chance.sample(kinds, k=chance.randint(0, 4))}
        payload = chance.choice([UNSIGNED, sha256(b"body").hexdigest(), SIGNED_CHUNKS_TRAILER])

        signed = ours.sign(credentials, method, host, path, query, list(headers.items()), payload, NOW.timestamp())

        url = f"http://{host}{path}" + (f"?{query}" if query else "")
        assert dict(signed.headers)["authorization"] == _of_botocore(
            monkeypatch, credentials, method, url, headers, payload
        ), (method, url, headers)
        assert dict(signed.headers).get("x-amz-security-token") == token


def test_the_key_of_a_day_is_not_used_for_the_next() -> None:
    kept = Signer("us-east-1")
    credentials = Credentials("AK", "secret")
    for moment in (86_399.9, 86_400.0, 86_401.0):
        fresh = Signer("us-east-1").sign(credentials, "GET", "h", "/", "", (), UNSIGNED, moment)
        assert kept.sign(credentials, "GET", "h", "/", "", (), UNSIGNED, moment).headers == fresh.headers
    other = Credentials("AK", "another")
    assert (
        kept.sign(other, "GET", "h", "/", "", (), UNSIGNED, 86_401.0).headers
        == Signer("us-east-1").sign(other, "GET", "h", "/", "", (), UNSIGNED, 86_401.0).headers
    )


# The examples of the S3 API reference, "Signature calculations: transferring a payload in multiple chunks" and its
# page on trailing headers: a PUT of 66,560 times the letter a, in chunks of 64 KiB and 1 KiB.
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
CHUNKS = [b"a" * 65_536, b"a" * 1024, b""]


def _example(seed: str) -> ChunkSigner:
    key = Signer("us-east-1").sign(EXAMPLE, "PUT", "h", "/", "", (), UNSIGNED, 1_369_353_600).key
    return ChunkSigner(Signature([], seed, "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", key))


def test_the_published_example_of_signed_chunks() -> None:
    headers = [
        ("content-encoding", "aws-chunked"),
        ("content-length", "66824"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ]
    request = Signer("us-east-1").sign(
        EXAMPLE,
        "PUT",
        "s3.amazonaws.com",
        "/examplebucket/chunkObject.txt",
        "",
        headers,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        1_369_353_600,
    )
    assert request.value == "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    signer = ChunkSigner(request)
    assert [signer.chunk(chunk) for chunk in CHUNKS] == [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]


def test_the_published_example_of_signed_chunks_with_a_trailer() -> None:
    signer = _example("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")
    assert [signer.chunk(chunk) for chunk in CHUNKS] == [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ]
    assert (
        signer.trailer("x-amz-checksum-crc32c:sOO8/Q==")
        == "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
    )


def test_secrets_do_not_show() -> None:
    credentials = Credentials("AK", "hidden-secret", "hidden-token")
    signed = Signer("us-east-1").sign(credentials, "GET", "h", "/", "", (), UNSIGNED, 1.0)
    shown = repr(credentials) + str(credentials) + repr(signed) + repr(Signer("x"))
    assert "hidden" not in shown
    assert signed.value not in shown
    assert repr(signed.key) not in shown
