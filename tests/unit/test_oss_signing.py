"""Our signatures are the official SDK's, bit for bit."""

from __future__ import annotations

import datetime as dt
import random

import pytest

from asynccopy.storage.oss.signing import Signer, encode_query
from asynccopy.storage.signing import Credentials, encode_path

oss = pytest.importorskip("alibabacloud_oss_v2", reason="the official SDK is not installed (the group oss-test)")

NOW = dt.datetime(2026, 3, 1, 23, 59, 58, 700_000, tzinfo=dt.UTC)
PIECES = [
    *" %+#?;&'\"<>=:@!$,()*[]{}|^`~\\\n\t\r\x01\x7f",
    *["a", "Z", "0", "-", "_", ".", "/", "//", "/./", "/../", "%2F", "%25", "é", "e\u0301", "日本", "😀", "\u00a0"],
]
QUERIES = ["uploads", "uploadId", "partNumber", "prefix", "key-marker", "list-type", "A", "a-b", "x-oss-process", "é"]
HEADERS = [
    *["x-oss-storage-class", "x-oss-meta-owner", "x-oss-meta-a-b", "x-oss-forbid-overwrite", "x-oss-tagging"],
    *["x-oss-copy-source", "x-oss-server-side-encryption", "content-type", "content-md5", "range", "if-match"],
]


def _text(chance: random.Random, most: int) -> str:
    return "".join(chance.choices(PIECES, k=chance.randint(1, most)))


def _value(chance: random.Random) -> str:
    return "".join(chance.choices(["a", "B", " ", "  ", "=", "/", "+", ";", ",", "%20"], k=chance.randint(0, 12)))


def _of_the_sdk(
    credentials: Credentials, method: str, bucket: str, key: str | None, url: str, headers: dict[str, str]
) -> dict[str, str]:
    from alibabacloud_oss_v2 import credentials as theirs
    from alibabacloud_oss_v2.signer.v4 import SignerV4
    from alibabacloud_oss_v2.types import HttpRequest, SigningContext

    request = HttpRequest(method, url, headers=headers)
    context = SigningContext(
        product="oss",
        region="cn-hangzhou",
        bucket=bucket,
        key=key,
        request=request,
        credentials=theirs.Credentials(credentials.access_key, credentials.secret_key, credentials.token),
        signing_time=NOW,
    )
    SignerV4().sign(context)
    return {name.lower(): value for name, value in request.headers.items()}


def test_a_thousand_odd_requests_are_signed_as_the_sdk_signs_them() -> None:
    chance = random.Random(20260301)
    ours = Signer("cn-hangzhou")
    for _ in range(1000):
        token = _value(chance).strip() + "T/+=" if chance.random() < 0.4 else None
        credentials = Credentials(f"AK{chance.randint(0, 3)}", f"secret/{chance.randint(0, 3)}", token)
        method = chance.choice(["GET", "PUT", "POST", "DELETE", "HEAD"])
        bucket = chance.choice(["lake", "a-1-b"])
        key = _text(chance, 20) if chance.random() < 0.8 else None
        names = chance.sample(QUERIES, k=chance.randint(0, 5))
        query = encode_query([(name, _text(chance, 6) if chance.random() < 0.7 else "") for name in names])
        headers = {name: _value(chance) for name in chance.sample(HEADERS, k=chance.randint(0, 6))}
        url = f"https://{bucket}.oss-cn-hangzhou.aliyuncs.com/{encode_path(key or '')}" + (f"?{query}" if query else "")

        resource = encode_path(f"/{bucket}/{key or ''}")
        signed = dict(ours.sign(credentials, method, resource, query, list(headers.items()), NOW.timestamp()))

        expected = _of_the_sdk(credentials, method, bucket, key, url, dict(headers))
        assert signed == {name: expected[name] for name in signed}, (method, url, headers)
        assert set(expected) - set(signed) - set(headers) == {"date"}  # which OSS takes from x-oss-date


def test_a_parameter_without_a_value_is_its_bare_name() -> None:
    pairs = [("uploads", ""), ("prefix", "a b/ü"), ("key-marker", "")]
    assert encode_query(pairs) == "key-marker&prefix=a%20b%2F%C3%BC&uploads"


def test_the_key_of_a_day_is_not_used_for_the_next() -> None:
    kept = Signer("cn-hangzhou")
    for moment in (86_399.9, 86_400.0, 86_401.0):
        for secret in ("one", "another"):
            credentials = Credentials("AK", secret)
            fresh = Signer("cn-hangzhou").sign(credentials, "GET", "/b/", "", (), moment)
            assert kept.sign(credentials, "GET", "/b/", "", (), moment) == fresh
