"""The wire and the model: listings, completions, checksums, keys, and the meaning of refusals."""

from __future__ import annotations

from xml.etree import ElementTree as ET

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
from asynccopy.model import PartReceipt
from asynccopy.storage import documents
from asynccopy.storage.documents import Completion, check_key, parse_xml
from asynccopy.storage.s3 import messages
from asynccopy.storage.s3.messages import refusal

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def _error(code: str, message: str = "told so", extra: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>".encode()


# --- XML ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>&undeclared;</a>",
        b"<a>",
        b"<a/><b/>",
        b"",
        b"<html><body>hello",
        b"\xff\xfe\x00",
        b"<a>" + b" " * (16 << 20) + b"</a>",
    ],
    ids=["entity", "external", "undeclared", "open", "two", "empty", "html", "bytes", "huge"],
)
def test_anything_but_plain_bounded_xml_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_xml(body)


def test_names_lose_their_namespace() -> None:
    assert parse_xml(f"<R {NS}><K>v</K></R>".encode()).findtext("K") == "v"


def _page(contents: str, rest: str) -> bytes:
    return f"<ListBucketResult {NS}>{rest}{contents}</ListBucketResult>".encode()


def test_a_listing_is_decoded_only_when_the_store_says_that_it_encoded_it() -> None:
    contents = (
        "<Contents><Key>a+b%2Bc</Key><Size>7</Size><ETag>&quot;e-1&quot;</ETag>"
        "<LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>"
    )
    raw = documents.read_page(_page(contents, "<IsTruncated>false</IsTruncated>"), "s")
    encoded = documents.read_page(_page(contents, "<EncodingType>url</EncodingType>"), "s")
    assert [entry.key for entry in raw.objects] == ["a+b%2Bc"]
    assert [entry.key for entry in encoded.objects] == ["a b+c"]
    assert (raw.objects[0].size, raw.objects[0].etag) == (7, "e-1")
    assert raw.objects[0].modification_time == 1_767_323_045_678
    assert raw.after is None


def test_a_raw_listing_keeps_spaces_and_line_ends() -> None:
    page = documents.read_page(_page("<Contents><Key> a&#xA;b&#x9;c </Key><Size>0</Size></Contents>", ""), "s")
    assert page.objects[0].key == " a\nb\tc "


def test_a_listing_goes_on_at_its_token() -> None:
    rest = "<IsTruncated>true</IsTruncated><NextContinuationToken>t/+=</NextContinuationToken>"
    assert documents.read_page(_page("", rest), "s").after == "t/+="
    with pytest.raises(WrongServer, match="no token"):
        documents.read_page(_page("", "<IsTruncated>true</IsTruncated>"), "s")


@pytest.mark.parametrize("body", [b"<html/>", b"{}", _page("<Contents><Key>a</Key></Contents>", "")])
def test_a_listing_that_is_none_is_a_wrong_server(body: bytes) -> None:
    with pytest.raises(WrongServer):
        documents.read_page(body, "s3://b")


def test_unfinished_uploads_page_by_key() -> None:
    entry = (
        "<Upload><Key>k%20{n}</Key><UploadId>u{n}</UploadId><Initiated>1970-01-01T00:00:0{n}.5Z</Initiated></Upload>"
    )
    listed = "<EncodingType>url</EncodingType>" + entry.format(n=1) + entry.format(n=2)
    body = "<ListMultipartUploadsResult>{}{}</ListMultipartUploadsResult>"
    more = "<IsTruncated>true</IsTruncated><NextKeyMarker>k%202</NextKeyMarker>"
    uploads = [("k 1", "u1", 1500), ("k 2", "u2", 2500)]
    assert documents.read_uploads(body.format(listed, "").encode(), "s") == (uploads, None)
    assert documents.read_uploads(body.format(listed, more).encode(), "s") == (uploads, "k 2")


def test_the_completion_lists_parts_with_their_checksums() -> None:
    parts = [PartReceipt(1, 0, 5, "e1", 0xE3069283), PartReceipt(2, 5, 1, "e2", 1)]
    root = ET.fromstring(messages.write_completion(parts, with_crc32c=True))
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    found = [[child.text for child in part] for part in root]
    assert root.tag == f"{space}CompleteMultipartUpload"
    assert found == [["1", '"e1"', "4waSgw=="], ["2", '"e2"', "AAAAAQ=="]]
    assert b"Checksum" not in messages.write_completion(parts, with_crc32c=False)


def test_an_answer_to_complete() -> None:
    body = "<CompleteMultipartUploadResult><ETag>&quot;e-2&quot;</ETag>{}</CompleteMultipartUploadResult>"
    whole = "<ChecksumCRC32C>4waSgw==</ChecksumCRC32C><ChecksumType>{}</ChecksumType>"
    assert messages.read_completion(body.format("").encode(), "s") == Completion("e-2", None)
    full = body.format(whole.format("FULL_OBJECT")).encode()
    # A store keeps a slow answer alive with white space before the document.
    assert messages.read_completion(b"  \n " + full, "s") == Completion("e-2", 0xE3069283)
    assert messages.read_completion(body.format(whole.format("COMPOSITE")).encode(), "s").crc32c is None
    with pytest.raises(ServerTrouble):
        messages.read_completion(full[:-5], "s")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("InternalError", ServerTrouble),
        ("SlowDown", Throttled),
        ("BadDigest", ChecksumMismatch),
        ("Odd", ServerTrouble),
    ],
)
def test_an_error_inside_a_success_is_an_error(code: str, expected: type[AsyncCopyError]) -> None:
    with pytest.raises(expected):
        messages.read_completion(b'<?xml version="1.0"?>\n' + _error(code), "s")


# --- checksums and keys -------------------------------------------------------------------------------------------


def test_crc32c_as_the_store_writes_it() -> None:
    assert messages.encode_crc32c(0xE3069283) == "4waSgw=="  # of 123456789, the check value of the algorithm
    for value in (0, 1, 0xE3069283, 0xFFFFFFFF):
        assert messages.decode_crc32c(messages.encode_crc32c(value)) == value
    for text in (None, "", "4waSgw==-3", "AAAA", "????"):
        assert messages.decode_crc32c(text) is None


def test_only_a_checksum_of_the_whole_object_counts() -> None:
    name = messages.CRC32C_HEADER
    assert messages.object_crc32c({name: "4waSgw=="}) == 0xE3069283
    assert messages.object_crc32c({name: "4waSgw==", messages.TYPE_HEADER: "FULL_OBJECT"}) == 0xE3069283
    assert messages.object_crc32c({name: "4waSgw==", messages.TYPE_HEADER: "COMPOSITE"}) is None


def test_keys_are_bounded_in_bytes() -> None:
    check_key("x" * 1024, 1024)
    check_key("é" * 512, 1024)
    for key in ("", "x" * 1025, "é" * 513, "lone\udc80surrogate"):
        with pytest.raises(NameRefused):
            check_key(key, 1024)


def test_a_key_in_a_message_stays_on_its_line() -> None:
    with pytest.raises(NameRefused) as caught:
        check_key("a\nb\u2028\udc80", 1024)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


# --- refusals -----------------------------------------------------------------------------------------------------

REFUSALS = [
    (503, "SlowDown", Throttled),
    (503, "", Unavailable),
    (503, "ServiceUnavailable", Unavailable),
    (429, "", Throttled),
    (400, "Throttling", Throttled),
    (500, "InternalError", ServerTrouble),
    (500, "BadDigest", ChecksumMismatch),
    (502, "", ServerTrouble),
    (504, "", ServerTrouble),
    (400, "RequestTimeout", ServerTrouble),
    (403, "RequestTimeTooSkewed", ServerTrouble),
    (409, "OperationAborted", ServerTrouble),
    (400, "IncompleteBody", ConnectionLost),
    (400, "BadDigest", ChecksumMismatch),
    (400, "XAmzContentSHA256Mismatch", ChecksumMismatch),
    (403, "InvalidAccessKeyId", CredentialsRefused),
    (404, "XAdminUserNotFound", CredentialsRefused),
    (403, "SignatureDoesNotMatch", CredentialsRefused),
    (400, "ExpiredToken", CredentialsRefused),
    (403, "UserSuspended", CredentialsRefused),
    (401, "", CredentialsRefused),
    (403, "AccessDenied", PermissionDenied),
    (403, "", PermissionDenied),
    (403, "QuotaExceeded", SideError),
    (404, "NoSuchBucket", NotThere),
    (404, "NoSuchUpload", UploadGone),
    (404, "NoSuchKey", NotFound),
    (404, "", NotFound),
    (400, "KeyTooLongError", NameRefused),
    (400, "InvalidObjectName", NameRefused),
    (409, "ObjectParentIsFile", NameRefused),
    (409, "ExistingObjectIsDirectory", NameRefused),
    (412, "PreconditionFailed", documents.PreconditionFailed),
    (409, "ConditionalRequestConflict", ServerTrouble),
    (403, "InvalidObjectState", Refused),
    (403, "ObjectNotInActiveTierError", Refused),
    (400, "InvalidStorageClass", Refused),
    (400, "MetadataTooLarge", Refused),
    (403, "PathStyleDomainForbidden", WrongServer),
    (400, "InvalidPart", Refused),
    (501, "NotImplemented", Refused),
    (301, "PermanentRedirect", WrongServer),
]


@pytest.mark.parametrize(("status", "code", "expected"), REFUSALS)
def test_what_a_refusal_means(status: int, code: str, expected: type[AsyncCopyError]) -> None:
    error = refusal(status, {}, _error(code) if code else b"", "s3://b/k")
    assert type(error) is expected
    assert str(error).startswith(f"s3://b/k: {status}")
    assert code in str(error)


def test_a_wish_to_wait_is_kept() -> None:
    error = refusal(503, {"retry-after": "7"}, _error("SlowDown"), "s")
    assert isinstance(error, Throttled)
    assert error.delay == 7.0
    dated = refusal(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"", "s")
    assert isinstance(dated, Throttled)
    assert dated.delay is None


def test_a_wrong_region_is_named() -> None:
    error = refusal(400, {}, _error("AuthorizationHeaderMalformed", extra="<Region>eu-west-3</Region>"), "s")
    assert "eu-west-3" in error.hint
    moved = refusal(301, {"x-amz-bucket-region": "eu-west-3"}, b"", "s")
    assert "eu-west-3" in moved.hint


def test_nothing_of_a_refused_signature_is_repeated() -> None:
    body = _error("SignatureDoesNotMatch", "you sent SIGNATURE", "<StringToSign>SIGNATURE</StringToSign>")
    assert "SIGNATURE" not in str(refusal(403, {}, body, "s"))


def test_a_long_message_is_cut_and_stays_on_one_line() -> None:
    error = refusal(400, {}, _error("Odd", "line\n\x85two " + "x" * 5000), "s")
    assert len(str(error)) < 300
    assert str(error).isprintable()


def test_a_503_in_a_load_balancer_s_words_is_a_server_that_is_down() -> None:
    assert isinstance(refusal(503, {}, b"<html><body>no server is available</body></html>", "s"), ServerTrouble)


def test_too_much_at_once_is_told_from_too_often() -> None:
    crowded = {}
    for code in ("SlowDown", "BandwidthLimitExceeded"):
        error = refusal(503, {}, f"<Error><Code>{code}</Code></Error>".encode(), "s")
        assert isinstance(error, Throttled)
        crowded[code] = error.crowded
    assert crowded == {"SlowDown": False, "BandwidthLimitExceeded": True}
