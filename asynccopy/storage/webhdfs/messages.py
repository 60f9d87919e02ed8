"""WebHDFS on the wire <-> model. Pure.

What is said here of the server's behaviour was seen on Hadoop 3.5.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from asynccopy.errors import (
    AsyncCopyError,
    CredentialsRefused,
    NameRefused,
    NotFound,
    PermissionDenied,
    Refused,
    ServerTrouble,
    SnapshotGone,
    SourceChanged,
    WrongServer,
)
from asynccopy.logs import redact
from asynccopy.model import Change, FileChecksum, FileStatus, ListPage
from asynccopy.storage.http import Response
from asynccopy.storage.webhdfs.entries import Entry, status_of


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


class _Snapshot(Struct, rename="camel"):
    dir_status: Entry
    deletion_status: str = "ACTIVE"


class _SnapshotsAnswer(Struct):
    snapshots: list[_Snapshot] = field(name="SnapshotList")


class _Snapshottable(Struct, rename="camel"):
    dir_status: Entry
    parent_full_path: str


class _SnapshottableAnswer(Struct):
    directories: list[_Snapshottable] = field(name="SnapshottableDirectoryList")


class _DiffLine(Struct, rename="camel", gc=False):
    type: Literal["CREATE", "MODIFY", "DELETE", "RENAME"]
    source_path: str
    target_path: str | None = None


class _Diff(Struct, rename="camel"):
    diff_list: list[_DiffLine]


class _DiffAnswer(Struct):
    report: _Diff = field(name="SnapshotDiffReport")


class DiffEntry(Struct, rename="camel", gc=False):
    """An entry of a raw diff. ``is_reference``: the inode was renamed once since it came into a snapshot."""

    source_path: str
    file_id: int
    is_reference: bool = False
    target_path: str | None = None


class DiffPage(Struct, rename="camel"):
    """A page of a raw diff, and where the next one begins (``last_path`` "" and ``last_index`` -1: nowhere)."""

    modify_list: list[DiffEntry]
    create_list: list[DiffEntry]
    delete_list: list[DiffEntry]
    last_path: str
    last_index: int


class _DiffPageAnswer(Struct):
    page: DiffPage = field(name="SnapshotDiffReportListing")


class _Answer(Struct):
    boolean: bool


class _Remote(Struct):
    exception: str
    text: str | None = field(name="message", default=None)

    @property
    def message(self) -> str:
        return self.text or ""


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
_snapshots = msgspec.json.Decoder(_SnapshotsAnswer)
_snapshottable = msgspec.json.Decoder(_SnapshottableAnswer)
_diff = msgspec.json.Decoder(_DiffAnswer)
_diff_page = msgspec.json.Decoder(_DiffPageAnswer)
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


def snapshot_names(response: Response, asked: str) -> list[str]:
    """GETSNAPSHOTLIST; without those that only wait for older ones to be deleted."""
    found = _decode(_snapshots, response, asked).snapshots
    return [each.dir_status.path_suffix for each in found if each.deletion_status != "DELETED"]


def snapshottable(response: Response, asked: str) -> list[str]:
    """GETSNAPSHOTTABLEDIRECTORYLIST: the absolute paths of those that are the user's."""
    found = _decode(_snapshottable, response, asked).directories
    return [f"{each.parent_full_path.rstrip('/')}/{each.dir_status.path_suffix}" for each in found]


_KINDS: Final[dict[str, Literal["create", "modify", "delete", "rename"]]] = {
    "CREATE": "create",
    "MODIFY": "modify",
    "DELETE": "delete",
    "RENAME": "rename",
}


def diff_whole(response: Response, asked: str) -> list[Change]:
    """GETSNAPSHOTDIFF: all in one answer."""
    lines = _decode(_diff, response, asked).report.diff_list
    return [Change(_KINDS[line.type], line.source_path, line.target_path or "") for line in lines]


def diff_page(response: Response, asked: str) -> DiffPage:
    """GETSNAPSHOTDIFFLISTING."""
    return _decode(_diff_page, response, asked).page


_TROUBLE = ("StandbyException", "RetriableException", "SafeModeException", "ObserverRetryOnActiveException")
_CREDENTIALS = ("SecurityException", "AuthenticationException", "AuthorizationException", "InvalidToken")
_IN_THE_WAY = ("ParentNotDirectoryException", "FileAlreadyExistsException", "PathComponentTooLongException")
_PERMANENT = (
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


def failure(response: Response, asked: str) -> AsyncCopyError:
    """What an answer that is not a success means. The status says little (403 has many meanings): the exception
    decides.
    """
    try:
        remote = _remote.decode(response.body).remote
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _unnamed_failure(response, asked)
    name = remote.exception
    text = redact(f"{asked}: {name}: {remote.message.splitlines()[0][:300] if remote.message else 'no message'}")
    if name == "FileNotFoundException":
        return NotFound(text)
    if name == "AccessControlException":
        return PermissionDenied(text)
    if name in _TROUBLE or "StandbyException" in remote.message:
        return ServerTrouble(text)
    if "not allowed to impersonate" in remote.message:
        return CredentialsRefused(
            text, hint="the NameNode must allow it: hadoop.proxyuser.USER.hosts, and .users or .groups"
        )
    if name in _CREDENTIALS:
        return CredentialsRefused(text)
    if "Cannot find the snapshot of" in remote.message:
        return SnapshotGone(text)
    if name in _IN_THE_WAY or "must both be" in remote.message:  # RENAME of a file to a directory's name
        return NameRefused(text)
    if name in _PERMANENT:
        return UnknownOperation(text) if '"op"' in remote.message else Refused(text)
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
