"""WebHDFS on the wire <-> model. Pure.

What is said here of the server's behaviour was seen on Hadoop 3.5.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from asynccopy.errors import (
    AsyncCopyError,
    CredentialsRefused,
    NameRefused,
    NoActiveNameNode,
    NotFound,
    PermissionDenied,
    Refused,
    ServerTrouble,
    SnapshotGone,
    SourceChanged,
    WrongServer,
)
from asynccopy.logs import redact
from asynccopy.model import FileChecksum, FileStatus, ListPage
from asynccopy.storage.http import Response
from asynccopy.storage.webhdfs.entries import Entry, status_of

PREFIX = "/webhdfs/v1"
"""What precedes an HDFS path in a URL."""

_WRAPPED = re.compile(r"(?:[a-z]\w*\.)+([A-Z]\w*)(?![.\w])")


class _Entries(Struct):
    entries: list[Entry] = field(name="FileStatus")


class _Statuses(Struct):
    statuses: _Entries = field(name="FileStatuses")


class _Batch(Struct):
    partial: _Statuses = field(name="partialListing")
    remaining: int = field(name="remainingEntries")


class _Listing(Struct):
    listing: _Batch = field(name="DirectoryListing")


class _Status(Struct):
    status: Entry = field(name="FileStatus")


class _Coding(Struct, rename="camel"):
    ec_bit: bool = False
    enc_bit: bool = False


class _CodingAnswer(Struct):
    status: _Coding = field(name="FileStatus")


class _Location(Struct):
    location: str = field(name="Location")


class _Checksum(Struct):
    algorithm: str
    bytes: str


class _ChecksumAnswer(Struct):
    checksum: _Checksum = field(name="FileChecksum")


class DataNode(Struct, rename="camel"):
    """Where a DataNode says it is: web addresses (0: none) and transfer address."""

    ip_addr: str
    host_name: str
    info_port: int
    xfer_port: int
    info_secure_port: int = 0


class _ExtendedBlock(Struct, rename="camel"):
    num_bytes: int


class LocatedBlock(Struct, rename="camel"):
    block: _ExtendedBlock
    start_offset: int
    locations: list[DataNode]


class _LocatedBlocks(Struct, rename="camel"):
    located_blocks: list[LocatedBlock]


class _LocatedBlocksAnswer(Struct):
    blocks: _LocatedBlocks = field(name="LocatedBlocks")


class _Writing(Struct, rename="camel"):
    is_under_construction: bool = False


class _WritingAnswer(Struct):
    blocks: _Writing = field(name="LocatedBlocks")


class _Answer(Struct):
    boolean: bool


class _Remote(Struct):
    exception: str
    text: str | None = field(name="message", default=None)

    @property
    def message(self) -> str:
        return self.text or ""

    @property
    def kind(self) -> str:
        """The class without its package. HttpFS says of what the NameNode threw only in the message what it was."""
        wrapped = _WRAPPED.match(self.message) if self.exception == "RemoteException" else None
        return wrapped[1] if wrapped else self.exception


class _RemoteAnswer(Struct):
    remote: _Remote = field(name="RemoteException")


T = TypeVar("T")

_listing = msgspec.json.Decoder(_Listing)
_statuses = msgspec.json.Decoder(_Statuses)
_status = msgspec.json.Decoder(_Status)
_coding = msgspec.json.Decoder(_CodingAnswer)
_location = msgspec.json.Decoder(_Location)
_checksum = msgspec.json.Decoder(_ChecksumAnswer)
_blocks = msgspec.json.Decoder(_LocatedBlocksAnswer)
_writing = msgspec.json.Decoder(_WritingAnswer)
_answer = msgspec.json.Decoder(_Answer)
_remote = msgspec.json.Decoder(_RemoteAnswer)


@lru_cache(maxsize=4096)
def encoded(path: str) -> str:
    """An absolute HDFS path as it goes into a URL: every byte that is not unreserved is escaped, ``/`` is not.

    A raw ``+`` would mean a space, and a raw ``%2F`` acts as a separator on the server. Remembered: a file has several
    requests.
    """
    try:
        return quote(path, safe="/")
    except UnicodeEncodeError:
        raise NameRefused(f"{path!r}: not valid Unicode") from None


def _decode(decoder: msgspec.json.Decoder[T], response: Response, asked: str) -> T:
    try:
        return decoder.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # A NameNode that fails in the middle of LISTSTATUS leaves truncated JSON after a 200.
        kind = response.headers.get("content-type", "")
        if kind.startswith("application/json"):
            raise ServerTrouble(f"{asked}: unreadable answer: {error}") from error
        raise WrongServer(f"{asked}: the answer is not JSON but {kind or 'unknown'}: this is no WebHDFS") from error


def file_status(response: Response, path: str, asked: str) -> FileStatus:
    return status_of(_decode(_status, response, asked).status, path)


def coded(response: Response, asked: str) -> bool:
    """GETFILESTATUS: whether what HDFS stores, and takes its checksum of, is other than the file's bytes in a row: the
    stripes of an erasure-coded file (seen), or what an encryption zone makes of them.
    """
    status = _decode(_coding, response, asked).status
    return status.ec_bit or status.enc_bit


def list_page(response: Response, path: str, asked: str) -> ListPage:
    """LISTSTATUS_BATCH: one page, and the name to go on after."""
    batch = _decode(_listing, response, asked).listing
    entries = batch.partial.statuses.entries
    if batch.remaining > 0 and not entries:
        raise ServerTrouble(f"{asked}: an empty page, though {batch.remaining} entries follow")
    return ListPage(_children(entries, path, asked), entries[-1].path_suffix if batch.remaining > 0 else None)


def list_whole(response: Response, path: str, asked: str) -> ListPage:
    """LISTSTATUS: the directory in one answer."""
    return ListPage(_children(_decode(_statuses, response, asked).statuses.entries, path, asked), None)


def _children(entries: list[Entry], path: str, asked: str) -> list[FileStatus]:
    prefix = path + "/" if path else ""
    if len(entries) == 1 and not entries[0].path_suffix:
        raise NotFound(f"{asked}: not a directory")  # but a file, which lists itself under no name
    found = []
    for entry in entries:
        name = entry.path_suffix
        # The name becomes part of a key or of a local path: a server must not be able to point elsewhere.
        if not name or "/" in name or name in (".", ".."):
            raise WrongServer(f"{asked}: the server lists an impossible name: {name!r}")
        found.append(status_of(entry, prefix + name))
    return found


def location(response: Response, asked: str) -> str:
    """Where the NameNode sends us: from a 307's header, or from the JSON that ``noredirect=true`` gives."""
    text = response.headers.get("location") if 300 <= response.status < 400 else None
    return _decode(_location, response, asked).location if text is None else text


def file_checksum(response: Response, asked: str) -> FileChecksum:
    """The hex text is 64 digits long though 28 bytes count: 4 bytesPerCRC, 8 crcPerBlock, 16 MD5."""
    answer = _decode(_checksum, response, asked).checksum
    if answer.algorithm.startswith("MD5-of-"):
        return FileChecksum(answer.algorithm, answer.bytes[24:56].lower())
    return FileChecksum(answer.algorithm, answer.bytes.lower())


def located_blocks(response: Response, asked: str) -> Sequence[LocatedBlock]:
    return _decode(_blocks, response, asked).blocks.located_blocks


def under_construction(response: Response, asked: str) -> bool:
    """GET_BLOCK_LOCATIONS: whether the file is being written."""
    return _decode(_writing, response, asked).blocks.is_under_construction


def boolean(response: Response, asked: str) -> bool:
    """MKDIRS, DELETE, and RENAME without options: whether it was done."""
    return _decode(_answer, response, asked).boolean


_STANDBY = re.compile(r"(?:^|[\s:.$])(?:StandbyException|ObserverRetryOnActiveException)(?:$|[\s:])")
"""Also as the cause that another exception's message names, but not as a part of a path."""
_LEARNING = re.compile(r"(?:^|[\s.])RetriableException: \S*InvalidToken")
"""One that is becoming active, and has not yet read which tokens there are (FSNamesystem.verifyToken)."""
_UNREACHED = ("ConnectException", "NoRouteToHostException", "ConnectTimeoutException", "UnknownHostException")
_CREDENTIALS = ("SecurityException", "AuthenticationException", "AuthorizationException", "InvalidToken")
_IN_THE_WAY = ("ParentNotDirectoryException", "FileAlreadyExistsException", "PathComponentTooLongException")
_UNKNOWN = re.compile(r'"op"|\Aop=[A-Z_]+ is not supported|No enum constant .*\.Operation\.')
"""As a NameNode says it, a Router, and HttpFS."""
_PERMANENT = (
    "QueryParamException",
    "IllegalArgumentException",
    "HadoopIllegalArgumentException",
    "InvalidPathException",
    "UnsupportedOperationException",
    "PathIsNotDirectoryException",
    "SnapshotException",
    "PathIsNotEmptyDirectoryException",
    "NSQuotaExceededException",
    "DSQuotaExceededException",
    "QuotaByStorageTypeExceededException",
    "MaxDirectoryItemsExceededException",
)


_IMPOSSIBLE = ("Specified block size", "replication factor of", "ccess time for hdfs is not configured")
"""What an IOException says of attributes that the cluster gives no file."""
_NO_REPLICA = ("nodes contain this block", "Could not obtain block", "BlockMissingException")


class UnknownOperation(Refused):
    """The server does not know the operation."""


def passive(response: Response) -> str:
    """Why a NameNode that answers is not the one to ask now, "" if it is: it is standby, starting, or in safe mode."""
    if response.status < 400:
        return ""
    try:
        remote = _remote.decode(response.body).remote
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return _passive(remote.kind, remote.message)


def _passive(name: str, message: str) -> str:
    if name in ("FileNotFoundException", "AccessControlException"):
        return ""
    if _STANDBY.search(f"{name} {message.partition(chr(10))[0]}"):
        return "is standby"
    if _LEARNING.search(f"{name}: {message}"):
        return "is becoming active"
    if name == "SafeModeException" or (name == "RetriableException" and "in safe mode" in message):
        return "is in safe mode"
    if name == "RetriableException" and ("startup mode" in message or "still not started" in message):
        return "is starting"
    return ""


def failure(response: Response, asked: str) -> AsyncCopyError:
    """What an answer that is not a success means. The status says little (403 has many meanings): the exception
    decides.
    """
    try:
        remote = _remote.decode(response.body).remote
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _unnamed_failure(response, asked)
    name = remote.kind
    text = redact(f"{asked}: {name}: {remote.message.splitlines()[0][:300] if remote.message else 'no message'}")
    if name == "FileNotFoundException":
        return NotFound(text)
    if name == "AccessControlException":
        return PermissionDenied(text)
    if _passive(name, remote.message) or name in _UNREACHED:  # a DataNode or a gateway that finds no NameNode
        return NoActiveNameNode(text)
    if name == "RetriableException":
        return ServerTrouble(text)
    if "not allowed to impersonate" in remote.message:
        return CredentialsRefused(
            text, hint="the server must allow it: hadoop.proxyuser.USER.hosts (HttpFS: httpfs.), and .users or .groups"
        )
    if name in _CREDENTIALS:
        return CredentialsRefused(text)
    if "Cannot find the snapshot of" in remote.message:
        return SnapshotGone(text)
    if name in _IN_THE_WAY or "must both be" in remote.message:  # RENAME of a file to a directory's name
        return NameRefused(text)
    if name in _PERMANENT:
        return UnknownOperation(text) if _UNKNOWN.search(remote.message) else Refused(text)
    if "out of the range" in remote.message or "Cannot seek after EOF" in remote.message:
        return SourceChanged(f"{asked}: the file is shorter than it was when it was listed")
    if any(text in remote.message for text in _IMPOSSIBLE):
        return Refused(text)
    if "under construction" in remote.message:
        return SourceChanged(f"{asked}: the file is still being written")
    if any(words in remote.message for words in _NO_REPLICA):
        return ServerTrouble(
            text, hint="no live DataNode has a block of it: see `hdfs fsck PATH -files -blocks -locations`"
        )
    return ServerTrouble(text)  # some IOException: dead DataNodes, a NameNode going down


def _unnamed_failure(response: Response, asked: str) -> AsyncCopyError:
    """No RemoteException: a servlet container, a proxy, or no WebHDFS at all."""
    if response.status == 401:
        return CredentialsRefused(
            f"{asked}: authentication required (HTTP 401)", hint="this cluster wants Kerberos or a token"
        )
    if response.status >= 500 or response.status == 429:  # a gateway's limit, too
        return ServerTrouble(f"{asked}: HTTP {response.status}")
    if b"Hadoop IPC port" in response.body:
        return WrongServer(
            f"{asked}: this is the NameNode's RPC port", hint="use its HTTP port (dfs.namenode.http-address, 9870)"
        )
    return WrongServer(f"{asked}: HTTP {response.status} without a RemoteException: this is no WebHDFS")
