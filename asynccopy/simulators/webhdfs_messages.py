"""The JSON of a simulated NameNode and DataNode, and the parameters that come in."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote

import msgspec
from aiohttp import web
from msgspec import Struct

from asynccopy.simulators.namespace import Inode
from asynccopy.simulators.server import Reply

ROOT = "/webhdfs/v1"
JSON = {"Content-Type": "application/json"}
_JAVA_PATH = "/!'()*,;:$&+=@"  # what java.net.URI leaves as it is in a path, beside the unreserved
_encode = msgspec.json.Encoder().encode


class RemoteException(Exception):
    """An error as the servers tell it: status, Java class and message."""

    def __init__(self, status: int, java_class: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = remote_exception(java_class, message)


def remote_exception(java_class: str, message: str) -> bytes:
    """The JSON body of an error; ``java_class`` in full. For ``Status`` faults, too."""
    name = java_class.rpartition(".")[2]
    return _encode({"RemoteException": {"exception": name, "javaClassName": java_class, "message": message}})


class FileStatus(Struct, rename="camel"):
    access_time: int
    block_size: int
    children_num: int
    file_id: int
    group: str
    length: int
    modification_time: int
    owner: str
    path_suffix: str
    permission: str
    replication: int
    storage_policy: int
    type: str
    ec_bit: bool | msgspec.UnsetType = msgspec.UNSET
    enc_bit: bool | msgspec.UnsetType = msgspec.UNSET


def file_status(inode: Inode, suffix: str) -> FileStatus:
    directory = inode.is_directory
    return FileStatus(
        access_time=0 if directory else inode.access_time or inode.modification_time,
        block_size=inode.block_size,
        children_num=inode.children,
        file_id=inode.file_id,
        group=inode.group,
        length=inode.length,
        modification_time=inode.modification_time,
        owner=inode.owner,
        path_suffix=suffix,
        permission=f"{inode.permission:o}",
        replication=0 if directory else inode.replication,
        storage_policy=0,
        type="DIRECTORY" if directory else "FILE",
        ec_bit=inode.coding == "erasure" or msgspec.UNSET,
        enc_bit=inode.coding == "encryption" or msgspec.UNSET,
    )


class Query(dict[str, str]):
    """A request's parameters. Names are case-sensitive; ``+`` is a space."""

    def op(self) -> str:
        """The operation; its case does not matter. Raises RemoteException (400) where there is none."""
        if "op" not in self:
            raise RemoteException(400, "java.lang.UnsupportedOperationException", "op = null is not supported")
        return self["op"].upper()

    def number(self, name: str, default: int) -> int:
        """Raises RemoteException (400) for what is no number or negative."""
        text = self.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit()):
            raise illegal(f'Invalid value for webhdfs parameter "{name}": "{text}" is not a number')
        return int(text)


def illegal(message: str) -> RemoteException:
    return RemoteException(400, "java.lang.IllegalArgumentException", message)


def missing(message: str) -> RemoteException:
    return RemoteException(404, "java.io.FileNotFoundException", message)


def io_error(message: str) -> RemoteException:
    return RemoteException(403, "java.io.IOException", message)


def traced(message: str) -> str:
    """DataNodes put the whole Java stack trace into the message."""
    return f"{message}\n\tat org.apache.hadoop.hdfs.server.namenode.FSDirStatAndListingOp.getBlockLocations(:158)\n"


def parse(request: web.BaseRequest) -> tuple[str, Query]:
    """The HDFS path and the parameters, from the bytes on the wire: aiohttp's own URL would be normalised."""
    raw, _, query = request.raw_path.partition("?")
    if not raw.startswith(ROOT):
        raise missing(f"not a WebHDFS address: {raw}")
    names = [name for name in unquote(raw[len(ROOT) :]).split("/") if name]
    return "/" + "/".join(names), Query(parse_qsl(query, keep_blank_values=True))


def within(inode: Inode, query: Query) -> list[tuple[int, int]]:
    """The blocks that the asked range touches."""
    start = query.number("offset", 0)
    end = start + query.number("length", 1 << 62)
    return [(at, length) for at, length in inode.blocks() if at < end and at + length > start]


def location_path(path: str, *, ascii_only: bool) -> str:
    """Percent-encode a path as java.net.URI does, which leaves what is not ASCII unless it is asked for ASCII."""
    if ascii_only:
        return quote(path, safe=_JAVA_PATH)
    return "".join(char if ord(char) > 127 else quote(char, safe=_JAVA_PATH) for char in path)


def json(document: object) -> Reply:
    return Reply(200, _encode(document), JSON)
