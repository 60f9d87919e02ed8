"""The operations of a simulated HDFS that change it (as seen on Hadoop 3.5.0).

Worth knowing: a DataNode closes the file of a body that was cut off, so that a shorter file stays behind; RENAME with
``renameoptions`` answers nothing, without it a boolean; CONCAT wants all files in one directory and none of them empty.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web

from asynccopy.simulators.faults import Call
from asynccopy.simulators.namespace import Inode, TreeNamespace
from asynccopy.simulators.server import Reply
from asynccopy.simulators.webhdfs_messages import Query, RemoteException, illegal, io_error, json, missing, traced

METHODS = {"CREATE": "PUT", "MKDIRS": "PUT", "RENAME": "PUT", "CONCAT": "POST", "DELETE": "DELETE"} | dict.fromkeys(
    ("SETOWNER", "SETPERMISSION", "SETTIMES"), "PUT"
)
"""The operations, which are no GET."""

_LONGEST = 255


def write_operations(tree: TreeNamespace) -> dict[str, Callable[[str, Query], Reply]]:
    """What answers each operation at the NameNode, but for CREATE's redirect."""
    return {
        "MKDIRS": partial(_mkdirs, tree),
        "RENAME": partial(_rename, tree),
        "CONCAT": partial(_concat, tree),
        "DELETE": partial(_delete, tree),
        "SETOWNER": partial(_set_owner, tree),
        "SETPERMISSION": partial(_set_permission, tree),
        "SETTIMES": partial(_set_times, tree),
    }


async def create(tree: TreeNamespace, request: web.BaseRequest, path: str, query: Query, call: Call) -> Reply:
    """CREATE at the DataNode. Of a body that ends early, what came becomes the file, unless that was deleted."""
    directory = tree.status(_parent(path))
    if directory is None and query.get("createparent", "true") == "false":
        raise missing(traced(f"Parent directory doesn't exist: {_parent(path)}"))
    _passable(tree, path)
    there = tree.status(path)
    if there is not None and (there.is_directory or query.get("overwrite", "false") != "true"):
        raise RemoteException(403, "org.apache.hadoop.fs.FileAlreadyExistsException", traced(f"{path} already exists"))
    begun = tree.put(path, b"", block_size=query.number("blocksize", tree.block_size))
    tree.set_attributes(
        path, permission=int(query.get("permission", "644"), 8), replication=query.number("replication", 1)
    )
    body = bytearray()
    try:
        async for piece in request.content.iter_any():
            body += piece
    finally:
        now = tree.status(path)
        kept = now is not None and now.file_id == begun.file_id
        if kept:
            tree.append(path, bytes(body))
    if not kept:
        raise missing(
            traced(f"File does not exist: {path} (inode {begun.file_id}) Holder does not have any open files.")
        )
    return Reply(201, close=True)


def _mkdirs(tree: TreeNamespace, path: str, query: Query) -> Reply:
    _passable(tree, path)
    there = tree.status(path)
    if there is not None and not there.is_directory:
        raise RemoteException(
            403, "org.apache.hadoop.fs.FileAlreadyExistsException", f"{path} already exists as a file"
        )
    tree.mkdir(path)
    return json({"boolean": True})


def _rename(tree: TreeNamespace, path: str, query: Query) -> Reply:
    to, options = query["destination"], query.get("renameoptions", "")
    there, taken, directory = tree.status(path), tree.status(to), tree.status(_parent(to))
    if not options:
        possible = there is not None and taken is None and directory is not None and directory.is_directory
        if possible:
            tree.rename(path, to)
        return json({"boolean": possible})
    if there is None:
        raise missing(f"rename source {path} is not found.")
    if taken is not None:
        _replaceable(there, taken, path, to)
    _passable(tree, to)
    if directory is None:
        raise missing(f"rename destination parent {to} not found.")
    if taken is not None:
        if options != "OVERWRITE":
            raise RemoteException(403, "org.apache.hadoop.fs.FileAlreadyExistsException", f"{to} already exists")
        tree.delete(to)
    tree.rename(path, to)
    return Reply(200, headers={"Content-Type": "application/octet-stream"})


def _replaceable(source: Inode, target: Inode, path: str, to: str) -> None:
    if source.is_directory != target.is_directory:
        raise io_error(f"Source {path} and destination {to} must both be directories")
    if target.children:
        raise io_error(f"rename destination directory is not empty: {to}")


def _concat(tree: TreeNamespace, path: str, query: Query) -> Reply:
    target = tree.status(path)
    if target is None:
        raise missing(f"File does not exist: {path}")
    sources = query["sources"].split(",")
    for source in sources:
        if source.startswith("/.reserved/"):
            raise io_error(f"Concat operation doesn't support .reserved relative path : {source}")
        file = tree.status(source)
        if file is None:
            raise missing(f"File does not exist: {source}")
        if _parent(source) != _parent(path):
            raise _impossible(f"Source file {source} is not in the same directory with the target {path}")
        if not file.length or not target.length:
            raise _impossible(f"concat: source file {source} is empty or target file {path} is")
    tree.concat(path, sources)
    return Reply(200, headers={"Content-Type": "application/octet-stream"})


def _delete(tree: TreeNamespace, path: str, query: Query) -> Reply:
    there = tree.status(path)
    if there is None or path == "/":
        return json({"boolean": False})
    if there.children and query.get("recursive", "false") != "true":
        message = f"`{path} is non empty': Directory is not empty"
        raise RemoteException(403, "org.apache.hadoop.fs.PathIsNotEmptyDirectoryException", message)
    tree.delete(path)
    return json({"boolean": True})


def _set_owner(tree: TreeNamespace, path: str, query: Query) -> Reply:
    given = {key: query[key] for key in ("owner", "group") if key in query}
    return _set(tree, path, given)


def _set_permission(tree: TreeNamespace, path: str, query: Query) -> Reply:
    return _set(tree, path, {"permission": int(query["permission"], 8)})


def _set_times(tree: TreeNamespace, path: str, query: Query) -> Reply:
    given = {"modification_time": query.get("modificationtime", "-1"), "access_time": query.get("accesstime", "-1")}
    return _set(tree, path, {key: int(time) for key, time in given.items() if time != "-1"})


def _set(tree: TreeNamespace, path: str, attributes: dict[str, Any]) -> Reply:
    if tree.status(path) is None:
        raise missing(f"File does not exist: {path}")
    tree.set_attributes(path, **attributes)
    return Reply(200, headers={"Content-Type": "application/octet-stream"})


def _passable(tree: TreeNamespace, path: str) -> None:
    """All directories above are directories, and no name is too long."""
    above = path
    for name in path.split("/"):
        if len(name.encode()) > _LONGEST:
            message = f"The maximum path component name limit of {name} is exceeded: limit={_LONGEST}"
            raise RemoteException(403, "org.apache.hadoop.hdfs.protocol.FSLimitException$PathComponentTooLong", message)
        if ":" in name:
            raise illegal(f"Pathname {path} from {path} is not a valid DFS filename.")
    while above != "/":
        above = _parent(above)
        there = tree.status(above)
        if there is not None and not there.is_directory:
            message = f"{above} (is not a directory)"
            raise RemoteException(403, "org.apache.hadoop.fs.ParentNotDirectoryException", message)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _impossible(message: str) -> RemoteException:
    return RemoteException(400, "org.apache.hadoop.HadoopIllegalArgumentException", message)
