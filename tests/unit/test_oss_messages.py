"""What OSS says and what it means: refusals, delays, keys, checksums, completions."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

import pytest

from asynccopy.errors import (
    AsyncCopyError,
    ChecksumMismatch,
    ConnectionLost,
    CredentialsRefused,
    NameRefused,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    ServerTrouble,
    SideError,
    Throttled,
    Unavailable,
    UploadGone,
    WrongServer,
)
from asynccopy.model import PartReceipt, PartReply, etag_with_crc64
from asynccopy.storage.documents import Completion, PreconditionFailed, read_page, write_completion
from asynccopy.storage.oss.destination import DIALECT
from asynccopy.storage.oss.messages import (
    AlreadyThere,
    check_oss_key,
    read_completion,
    read_crc64,
    refusal,
)


def _error(code: str, message: str = "told so", extra: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (403, "AccessDenied", PermissionDenied),
        (400, "BadDigest", ChecksumMismatch),
        (400, "EntityTooSmall", Refused),
        (409, "FileAlreadyExists", AlreadyThere),
        (409, "FileImmutable", Refused),
        (400, "IncompleteBody", ConnectionLost),
        (500, "InternalError", ServerTrouble),
        (403, "InvalidAccessKeyId", CredentialsRefused),
        (400, "InvalidDigest", ChecksumMismatch),
        (400, "InvalidObjectName", NameRefused),
        (403, "InvalidObjectState", Refused),
        (400, "InvalidPart", Refused),
        (404, "NoSuchBucket", NotThere),
        (404, "NoSuchKey", NotFound),
        (404, "NoSuchUpload", UploadGone),
        (412, "PreconditionFailed", PreconditionFailed),
        (403, "QuotaExceeded", SideError),
        (403, "RequestTimeTooSkewed", ServerTrouble),
        (403, "SecondLevelDomainForbidden", WrongServer),
        (403, "SecurityTokenExpired", CredentialsRefused),
        (403, "SignatureDoesNotMatch", CredentialsRefused),
        (403, "UserDisable", CredentialsRefused),
        (301, "", WrongServer),
        (401, "", CredentialsRefused),
        (404, "", NotFound),
        (408, "", ServerTrouble),
        (429, "", Throttled),
        (501, "NotImplemented", Refused),
        (502, "", ServerTrouble),
        (503, "", Unavailable),
        (200, "", ServerTrouble),
    ],
)
def test_what_a_refusal_means(status: int, code: str, meaning: type[AsyncCopyError]) -> None:
    error = refusal(status, {}, _error(code) if code else b"", "oss://b/k")
    assert type(error) is meaning
    assert str(error).startswith(f"oss://b/k: {status} {code or 'without an error code'}")


@pytest.mark.parametrize(
    "code",
    [
        *["QpsLimitExceeded", "TotalQpsLimitExceeded", "PartitionQpsLimitted", "MetaOperationQpsLimitExceeded"],
        *["ActiveRequestLimitExceeded", "UploadTrafficRateLimitExceeded", "DownloadTrafficRateLimitExceeded"],
        *["ServiceUnavailable", "CpuLimitExceeded"],
    ],
)
def test_throttling_carries_the_delay_asked_for(code: str) -> None:
    for headers, delay in (
        ({"x-oss-qos-delay-time": "250"}, 0.25),
        ({"retry-after": "3"}, 3.0),
        ({"x-oss-qos-delay-time": "soon"}, None),
        ({}, None),
    ):
        error = refusal(503, headers, _error(code), "s")
        assert isinstance(error, Throttled)
        assert error.delay == delay


def test_the_answer_to_a_head_says_it_in_a_header() -> None:
    told = base64.b64encode(_error("NoSuchBucket", extra="<EC>0015-00000101</EC>")).decode()
    error = refusal(404, {"x-oss-err": told}, b"", "s")
    assert isinstance(error, NotThere)
    assert "0015-00000101" in str(error)
    assert isinstance(refusal(404, {"x-oss-err": "%%%"}, b"", "s"), NotFound)


def test_a_bucket_elsewhere_names_its_endpoint() -> None:
    elsewhere = "<Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>"
    error = refusal(403, {}, _error("AccessDenied", "must be addressed using", elsewhere), "s")
    assert isinstance(error, WrongServer)
    assert error.hint == "set the endpoint to oss-cn-beijing.aliyuncs.com"
    error = refusal(400, {}, _error("InvalidArgument", "Invalid signing region in Authorization header."), "s")
    assert isinstance(error, WrongServer)
    assert "OSS_REGION" in error.hint


def test_refused_signatures_are_not_quoted() -> None:
    body = _error("SignatureDoesNotMatch", "canary", "<StringToSign>canary</StringToSign><EC>0002</EC>")
    error = refusal(403, {}, body, "s")
    assert "canary" not in f"{error} {error.hint}"
    body = _error("SecurityTokenExpired", "canary", "<SecurityToken>canary</SecurityToken>")
    assert "canary" not in str(refusal(403, {}, body, "s"))


@pytest.mark.parametrize("key", ["/a", "\\a", "", "é" * 512, "\udcff"])
def test_keys_that_oss_cannot_hold(key: str) -> None:
    with pytest.raises(NameRefused):
        check_oss_key(key, 1023)


@pytest.mark.parametrize("key", ["a/", "a\\", "é" * 511 + "x", " ", ".", "a//b"])
def test_keys_that_oss_can_hold(key: str) -> None:
    check_oss_key(key, 1023)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), (str((1 << 64) - 1), (1 << 64) - 1), (str(1 << 64), None), ("", None), ("-1", None)]
)
def test_crc64_in_decimal(text: str, value: int | None) -> None:
    assert read_crc64({"x-oss-hash-crc64ecma": text}) == value
    assert read_crc64({}) is None


def test_a_completion_lists_plain_etags() -> None:
    reply = PartReply(etag_with_crc64("A1", 7), None)
    parts = [PartReceipt(1, 0, 5, reply.etag, 0), PartReceipt(2, 5, 5, "B2", 0)]
    root = ET.fromstring(write_completion(parts))
    assert [(entry.findtext("PartNumber"), entry.findtext("ETag")) for entry in root] == [("1", '"A1"'), ("2", '"B2"')]
    assert (parts[0].crc64, parts[1].crc64) == (7, None)


@pytest.mark.parametrize("etag", ["", "A1", "a;crc64=", "a;crc64=xyz", "a;crc64=00000000000000FF", 'W/"x"'])
def test_an_etag_without_a_crc64_is_left_alone(etag: str) -> None:
    part = PartReceipt(1, 0, 5, etag, 0)
    assert (part.plain_etag, part.crc64) == (etag, None)
    kept = PartReceipt(1, 0, 5, etag_with_crc64(etag, (1 << 64) - 1), 0)
    assert (kept.plain_etag, kept.crc64) == (etag, (1 << 64) - 1)


def test_the_end_of_an_upload() -> None:
    body = b'<CompleteMultipartUploadResult><ETag>"A-2"</ETag></CompleteMultipartUploadResult>'
    assert read_completion({"x-oss-hash-crc64ecma": "5"}, body, "s") == Completion("A-2", crc64=5)
    assert read_completion({}, body, "s") == Completion("A-2")
    with pytest.raises(ServerTrouble):
        read_completion({}, body[:-5], "s")
    with pytest.raises(UploadGone):
        read_completion({}, _error("NoSuchUpload"), "s")


def test_oss_encodes_the_token_of_the_next_page_too() -> None:
    entry = "<Contents><Key>a%20%2B+%C3%A9</Key><Size>1</Size></Contents>"
    page = f"""<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
        <NextContinuationToken>a%3D%3D</NextContinuationToken>{entry}</ListBucketResult>""".encode()
    read = read_page(page, "s", DIALECT.decode, encoded_token=DIALECT.encoded_token)
    assert (read.objects[0].key, read.after) == ("a ++é", "a==")


@pytest.mark.parametrize(
    ("code", "crowded"),
    [
        ("ActiveRequestLimitExceeded", True),
        ("DownloadTrafficRateLimitExceeded", True),
        ("MetaOperationQpsLimitExceeded", False),
        ("PartitionQpsLimitted", False),
        ("QpsLimitExceeded", False),
        ("TotalQpsLimitExceeded", False),
        ("UploadTrafficRateLimitExceeded", True),
    ],
)
def test_too_much_at_once_is_told_from_too_often(code: str, crowded: bool) -> None:
    error = refusal(503, {"x-oss-qos-delay-time": "250"}, _error(code), "s")
    assert isinstance(error, Throttled)
    assert (error.crowded, error.delay) == (crowded, 0.25)


def test_a_503_in_a_load_balancer_s_words_is_a_server_that_is_down() -> None:
    assert isinstance(refusal(503, {}, b"<html><body>no server is available</body></html>", "s"), ServerTrouble)
