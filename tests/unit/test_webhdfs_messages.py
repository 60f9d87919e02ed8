"""WebHDFS answers and what they mean, the hostile ones included."""

from __future__ import annotations

import json
import unicodedata
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccopy.errors import (
    AsyncCopyError,
    CredentialsRefused,
    NameRefused,
    NoActiveNameNode,
    NotFound,
    PermissionDenied,
    Refused,
    ServerTrouble,
    SourceChanged,
    WrongServer,
)
from asynccopy.model import Attributes, FileChecksum
from asynccopy.storage.http import Response
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs import messages, redirects

NAMENODE = Origin("http", "nn", 9870)
JSON = {"content-type": "application/json;charset=utf-8"}


def answer(document: Any, status: int = 200, headers: dict[str, str] = JSON) -> Response:
    return Response(status, headers, document if isinstance(document, bytes) else json.dumps(document).encode())


def remote(exception: str, message: str = "", status: int = 403) -> Response:
    return answer(
        {"RemoteException": {"exception": exception, "javaClassName": "x." + exception, "message": message}}, status
    )


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "exception", "message", "kind"),
    [
        (404, "FileNotFoundException", "File does not exist: /a", NotFound),
        (404, "FileNotFoundException", "File /a not found.", NotFound),
        (404, "FileNotFoundException", "Path is not a file: /a\n\tat org.apache...", NotFound),
        (403, "AccessControlException", "Permission denied: user=me", PermissionDenied),
        (403, "StandbyException", "Operation category READ is not supported in state standby", NoActiveNameNode),
        (403, "RemoteException", "org.apache.hadoop.ipc.StandbyException: no", NoActiveNameNode),
        (
            403,
            "SecurityException",
            "Failed to obtain ...SecretManager$InvalidToken: StandbyException",
            NoActiveNameNode,
        ),
        (
            403,
            "SecurityException",
            "Failed ...: org.apache.hadoop.ipc.RetriableException: ...SecretManager$InvalidToken: token can't be found",
            NoActiveNameNode,
        ),
        (403, "IOException", "Offset=3 out of the range [0, 3); OPEN, path=/StandbyException", SourceChanged),
        (403, "RetriableException", "NameNode still not started", NoActiveNameNode),
        (403, "RetriableException", "Namenode is in startup mode", NoActiveNameNode),
        (403, "RetriableException", "Server too busy", ServerTrouble),
        (403, "SafeModeException", "Cannot do it. Name node is in safe mode.", NoActiveNameNode),
        (403, "RetriableException", "...SafeModeException: Zero blocklocations. NN is in safe mode", NoActiveNameNode),
        (500, "ConnectException", "Call From dn to nn:8020 failed on connection exception", NoActiveNameNode),
        (403, "IOException", "No active and not excluded nodes contain this block", ServerTrouble),
        (403, "IOException", "Specified block size 512 is less than configured minimum value", Refused),
        (403, "IOException", "Requested replication factor of 600 is greater than the allowed maximum", Refused),
        (403, "IOException", "Access time for hdfs is not configured.", Refused),
        (403, "IOException", "Offset=3000000 out of the range [0, 3000000); OPEN, path=/a", SourceChanged),
        (403, "EOFException", "Cannot seek after EOF", SourceChanged),
        (403, "IOException", "Fail to get checksum, since file /a is under construction.", SourceChanged),
        (403, "SecurityException", "Failed to obtain user group information: InvalidToken", CredentialsRefused),
        (403, "AuthorizationException", "User: a is not allowed to impersonate b", CredentialsRefused),
        (403, "InvalidToken", "token is expired", CredentialsRefused),
        (
            400,
            "IllegalArgumentException",
            'Invalid value for webhdfs parameter "op": No enum',
            messages.UnknownOperation,
        ),
        (400, "UnsupportedOperationException", "op=LISTSTATUS_BATCH is not supported", messages.UnknownOperation),
        (
            500,
            "QueryParamException",
            "java.lang.IllegalArgumentException: No enum constant ...HttpFSFileSystem.Operation.NOSUCH",
            messages.UnknownOperation,
        ),
        (400, "IllegalArgumentException", "Failed to parse offset", Refused),
        (500, "RemoteException", "java.lang.IllegalArgumentException", Refused),
        (500, "RemoteException", "org.apache.hadoop.security.AccessControlException: no", PermissionDenied),
        (400, "UnsupportedOperationException", "op is null", Refused),
        (403, "InvalidPathException", "Invalid path name Invalid file name: /a:b", Refused),
        (500, "NullPointerException", "", ServerTrouble),
    ],
)
def test_every_error_seen(status: int, exception: str, message: str, kind: type[AsyncCopyError]) -> None:
    error = messages.failure(remote(exception, message, status), "nn OPEN /a")
    assert type(error) is kind
    assert "\n" not in str(error)
    assert "nn OPEN /a" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"<html>Authentication required</html>", CredentialsRefused),
        (500, b"<html>oops</html>", ServerTrouble),
        (503, b"", ServerTrouble),
        (502, b"\xff\xfe", ServerTrouble),
        (404, b"It looks like you are making an HTTP request to a Hadoop IPC port.", WrongServer),
        (404, b"<html>not found</html>", WrongServer),
        (403, b"[]", WrongServer),
        (403, b'{"RemoteException": []}', WrongServer),
        (302, b"", WrongServer),
    ],
)
def test_answers_without_an_exception(status: int, body: bytes, kind: type[AsyncCopyError]) -> None:
    assert type(messages.failure(answer(body, status, {}), "x")) is kind


def test_a_message_of_any_length_stays_one_short_line() -> None:
    error = messages.failure(remote("IOException", "a" * 10_000 + "\n\tat java"), "x")
    assert len(str(error)) < 400


# --- redirects ----------------------------------------------------------------------------------------------------


def redirected(location: Any, asking: Origin = NAMENODE) -> redirects.Redirect:
    in_header = (
        redirects.redirect(Response(307, {"location": location}, b""), asking, "asked")
        if isinstance(location, str)
        else None
    )
    in_body = redirects.redirect(answer({"Location": location}), asking, "asked")
    assert in_header in (None, in_body)
    return in_body


def test_a_redirect_gives_host_port_and_query_but_not_the_path() -> None:
    found = redirected("http://dn1:9864/webhdfs/v1/caf%C3%A9?op=OPEN&user.name=me&namenoderpcaddress=nn:8020&offset=0")
    assert found.origin == Origin("http", "dn1", 9864)
    assert found.query == "op=OPEN&user.name=me&namenoderpcaddress=nn:8020&offset=0"
    assert redirected("http://dn1:9864/webhdfs/v1/caf\u00e9?op=OPEN").query == "op=OPEN"
    assert redirected("https://dn1:9865/x?op=OPEN").origin == Origin("https", "dn1", 9865)
    assert redirected("https://dn1/x?op=OPEN").origin.port == 443
    assert redirected("http://[2001:db8::5]:9864/x?op=OPEN").origin == Origin("http", "2001:db8::5", 9864)
    assert redirected("http://10.1.2.3:9864/x?op=OPEN").origin.host == "10.1.2.3"
    assert redirected("http://data_node-1.example.com:9864/x?op=OPEN").origin.host == "data_node-1.example.com"


@pytest.mark.parametrize(
    "location",
    [
        "",
        "dn1:9864/x",
        "/webhdfs/v1/x?op=OPEN",
        "//dn1:9864/x",
        "file:///etc/passwd",
        "file://dn1/etc/passwd",
        "ftp://dn1/x",
        "gopher://dn1/x",
        "javascript:alert(1)",
        "http://",
        "http:///x",
        "http://169.254.169.254/latest/meta-data",
        "http://169.254.169.254.:80/x",
        "http://169.254.170.2/x",
        "http://100.100.100.200/latest/meta-data",
        "http://2852039166/x",
        "http://0xa9fea9fe/x",
        "http://0251.0376.0251.0376/x",
        "http://169.16689662/x",
        "http://[fe80::1]/x",
        "http://[FE80::1]/x",
        "http://[febf::1]/x",
        "http://[fe80::1%25eth0]/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://[::ffff:a9fe:a9fe]/x",
        "http://[::ffff:100.100.100.200]/x",
        "http://[fd00:ec2::254]/x",
        "http://0.0.0.0/x",
        "http://[::]/x",
        "http://224.0.0.1/x",
        "http://user@dn1:9864/x",
        "http://user:password@dn1:9864/x",
        "http://@dn1:9864/x",
        "http://dn1:port/x",
        "http://dn1:0/x",
        "http://dn1:65536/x",
        "http://dn1:-1/x",
        "http://dn1:\u0661/x",
        "http://dn 1/x",
        "http://dn1/x?op=OPEN\r\nHost: evil",
        "http://dn1/x?op=OPEN HTTP/1.1",
        "http://dn1/x?op=\u00e9",
        "http://dn1/x?op=\x00",
        "http://dn1\\@evil/x",
        "http://d\u00e9/x",
        "http://[::1/x",
    ],
)
def test_hostile_redirects(location: str) -> None:
    with pytest.raises(WrongServer):
        redirects.redirect(answer({"Location": location}), NAMENODE, "asked")
    if "\n" not in location:
        with pytest.raises(WrongServer):
            redirects.redirect(Response(307, {"location": location}, b""), NAMENODE, "asked")


def test_no_way_back_from_tls() -> None:
    with pytest.raises(WrongServer):
        redirected("http://dn1:9864/x?op=OPEN", Origin("https", "nn", 9871))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"Location": 5}', b'{"Location": null}', b"[1", b"\xff"])
def test_a_redirect_that_is_none(body: bytes) -> None:
    for headers, kind in ((JSON, ServerTrouble), ({"content-type": "text/html"}, WrongServer)):
        with pytest.raises(kind):
            redirects.redirect(Response(200, headers, body), NAMENODE, "asked")


@given(st.text(max_size=40))
def test_no_redirect_can_break_the_request_line(text: str) -> None:
    try:
        found = redirects.redirect(answer({"Location": f"http://dn1/x?{text}"}), NAMENODE, "asked")
    except WrongServer:
        return
    assert found.query.isascii()
    assert not any(ord(character) <= 32 or ord(character) == 127 for character in found.query)


# --- names --------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_every_name_is_escaped_and_comes_back(name: str) -> None:
    text = messages.encoded(f"/{name}")
    assert unquote(text, errors="strict") == f"/{name}"
    assert text.isascii()
    assert not set(text) & set(" +?#;%\r\n&=\\") - {"%"}


def test_normal_forms_stay_apart() -> None:
    assert messages.encoded(unicodedata.normalize("NFC", "/e\u0301")) != messages.encoded("/e\u0301")


def test_what_is_no_unicode_is_refused_by_name() -> None:
    with pytest.raises(NameRefused):
        messages.encoded("/\udc80")


# --- listings -----------------------------------------------------------------------------------------------------


def entry(name: str, kind: str = "FILE", **more: Any) -> dict[str, Any]:
    return {
        "pathSuffix": name,
        "type": kind,
        "length": 5,
        "modificationTime": 7,
        "blockSize": 512,
        "fileId": 9,
        "owner": "me",
    } | more


def batch(entries: list[dict[str, Any]], remaining: int) -> Response:
    listing = {"partialListing": {"FileStatuses": {"FileStatus": entries}}, "remainingEntries": remaining}
    return answer({"DirectoryListing": listing})


def test_pages() -> None:
    page = messages.list_page(batch([entry("a"), entry("b", "DIRECTORY")], 3), "x/y", "asked")
    assert [e.path for e in page.entries] == ["x/y/a", "x/y/b"]
    assert [e.is_directory for e in page.entries] == [False, True]
    assert page.after == "b"
    assert (page.entries[0].length, page.entries[0].modification_time, page.entries[0].block_size) == (5, 7, 512)
    assert page.entries[0].file_id == 9
    assert messages.list_page(batch([entry("a")], 0), "", "asked").after is None
    assert messages.list_page(batch([], 0), "", "asked").entries == []


def test_attributes() -> None:
    """A server that tells no permission, or none that can be one, tells of no attributes."""
    rows = [
        entry("all", group="g", permission="1750", accessTime=8, replication=3),
        entry("directory", "DIRECTORY", group="g", permission="0", accessTime=0, replication=0),
        entry("coded", permission="644", replication=1, ecBit=True),
        entry("none"),
        *(entry(f"odd {text}", permission=text) for text in ("", "9", "rwx", "7777", "-1", "0x1", "\u0667")),
    ]
    found = {status.path: status.attributes for status in messages.list_page(batch(rows, 0), "", "asked").entries}
    assert found.pop("all") == Attributes("me", "g", 0o1750, 8, 3)
    assert found.pop("directory") == Attributes("me", "g", 0, 0, 0)
    assert found.pop("coded") == Attributes("me", "", 0o644, 0, 0)  # one copy is no wish
    assert set(found.values()) == {None}


def test_an_empty_page_that_is_not_the_last_is_no_listing() -> None:
    """Taken for the end it would make an incomplete listing look complete, and deletions rest on that."""
    with pytest.raises(ServerTrouble):
        messages.list_page(batch([], 5), "", "asked")


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "../x", "/etc/passwd", "a/"])
def test_impossible_names(name: str) -> None:
    with pytest.raises(WrongServer, match="impossible name"):
        messages.list_page(batch([entry("fine"), entry(name)], 0), "x", "asked")
    whole = answer({"FileStatuses": {"FileStatus": [entry("fine"), entry(name)]}})
    with pytest.raises(WrongServer, match="impossible name"):
        messages.list_whole(whole, "x", "asked")


@pytest.mark.parametrize("name", ["...", ".a", "a b", "a\nb", "\\", "%2F", "é", "e\u0301", "🙂", " ", "~", "*"])
def test_possible_names(name: str) -> None:
    assert messages.list_page(batch([entry(name)], 0), "", "asked").entries[0].path == name


@pytest.mark.parametrize(
    ("body", "headers", "kind"),
    [
        (b'{"FileStatuses":{"FileStatus":[{"pathSuffix":"a","ty', JSON, ServerTrouble),
        (b'{"FileStatuses":{"FileStatus":[{"pathSuffix":"a"}]}}', JSON, ServerTrouble),
        (b"<html>", {"content-type": "text/html"}, WrongServer),
        (b"", {}, WrongServer),
    ],
)
def test_unreadable_answers(body: bytes, headers: dict[str, str], kind: type[AsyncCopyError]) -> None:
    with pytest.raises(kind):
        messages.list_whole(Response(200, headers, body), "", "asked")


def test_checksums() -> None:
    md5 = "0123456789ABCDEF" * 2
    document = {
        "FileChecksum": {
            "algorithm": "MD5-of-0MD5-of-512CRC32C",
            "bytes": "00000200" + "0" * 16 + md5 + "00" * 4,
            "length": 28,
        }
    }
    assert messages.file_checksum(answer(document), "x") == FileChecksum("MD5-of-0MD5-of-512CRC32C", md5.lower())
    document["FileChecksum"] |= {"algorithm": "COMPOSITE-CRC32C", "bytes": "DEADBEEF"}
    assert messages.file_checksum(answer(document), "x") == FileChecksum("COMPOSITE-CRC32C", "deadbeef")
