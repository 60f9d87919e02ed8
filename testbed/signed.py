"""A small S3 client with its own Signature Version 4: what a store holds is read back without the product's code."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Credentials(Protocol):
    @property
    def endpoint(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def region(self) -> str: ...


class Reply(NamedTuple):
    """Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class S3Refused(RuntimeError):
    """A request failed that had to succeed."""


class S3Client:
    """Path-style requests, one connection each. Raises OSError when nobody answers."""

    def __init__(self, store: Credentials) -> None:
        self._store = store
        url = urlsplit(store.endpoint)
        self._host = url.netloc
        self._connection = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection

    def request(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """One request, whatever its outcome."""
        connection, reply = self._open(method, bucket, key, query or {}, headers or {}, body)
        try:
            return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def head(self, method: str, bucket: str, key: str, query: Mapping[str, str], length: int) -> bytes:
        """A request's head, for who sends the body himself. The signature does not cover the body."""
        target, headers = self._request(method, bucket, key, query, {}, "UNSIGNED-PAYLOAD")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {target} HTTP/1.1\r\n{lines}content-length: {length}\r\n\r\n".encode()

    def digest(self, bucket: str, key: str) -> tuple[int, str]:
        """Size and SHA-256 of an object, read in pieces. Raises S3Refused."""
        connection, reply = self._open("GET", bucket, key, {}, {}, b"")
        try:
            if reply.status != 200:
                raise S3Refused(f"GET {key!r}: {reply.status} {reply.read()[:300]!r}")
            size, sha256 = 0, hashlib.sha256()
            while piece := reply.read(1 << 20):
                size += len(piece)
                sha256.update(piece)
            return size, sha256.hexdigest()
        finally:
            connection.close()

    def keys(self, bucket: str, prefix: str = "") -> Iterator[str]:
        """All keys below a prefix (ListObjectsV2)."""
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        while True:
            page = self._list(bucket, query)
            # A store may leave encoding-type unheeded, and says so by not repeating it.
            encoded = page.findtext("EncodingType") == "url"
            for found in page.iterfind("Contents/Key"):
                yield unquote(found.text or "") if encoded else found.text or ""
            if page.findtext("IsTruncated") != "true":
                return
            query["continuation-token"] = page.findtext("NextContinuationToken") or ""

    def uploads(self, bucket: str) -> list[tuple[str, str]]:
        """(key, upload id) of the multipart uploads nobody completed or aborted: the first page, up to 1,000."""
        page = self._list(bucket, {"uploads": ""})
        return [(found.findtext("Key") or "", found.findtext("UploadId") or "") for found in page.iterfind("Upload")]

    def _list(self, bucket: str, query: Mapping[str, str]) -> ET.Element:
        reply = self.request("GET", bucket, query=query)
        if reply.status != 200:
            raise S3Refused(f"listing {bucket}: {reply.status} {reply.body[:300]!r}")
        root = ET.fromstring(reply.body)
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    def _open(
        self, method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        digest = hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
        target, signed = self._request(method, bucket, key, query, headers, digest)
        connection = self._connection(self._host, timeout=60)
        connection.request(method, target, body=body or None, headers=signed)
        return connection, connection.getresponse()

    def _request(
        self, method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], digest: str
    ) -> tuple[str, dict[str, str]]:
        """The target on the wire and the signed headers."""
        path = "/" + quote(f"{bucket}/{key}" if key else bucket, safe="/-._~")
        ordered = "&".join(f"{quote(name, safe='-._~')}={quote(query[name], safe='-._~')}" for name in sorted(query))
        return f"{path}?{ordered}" if ordered else path, self._sign(method, path, ordered, headers, digest)

    def _sign(self, method: str, path: str, query: str, headers: Mapping[str, str], digest: str) -> dict[str, str]:
        """The headers with the four of Signature Version 4 (AWS, "Create a signed AWS API request")."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{moment[:8]}/{self._store.region}/s3/aws4_request"
        signed = {name.lower(): value for name, value in headers.items()}
        signed |= {"host": self._host, "x-amz-date": moment, "x-amz-content-sha256": digest}
        names = sorted(signed)
        lines = "".join(f"{name}:{signed[name].strip()}\n" for name in names)
        canonical = "\n".join([method, path, query, lines, ";".join(names), digest])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        secret = f"AWS4{self._store.secret_key}".encode()
        for word in scope.split("/"):
            secret = hmac.digest(secret, word.encode(), "sha256")
        signature = hmac.digest(secret, to_sign.encode(), "sha256").hex()
        credential = f"{self._store.access_key}/{scope}"
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return signed
