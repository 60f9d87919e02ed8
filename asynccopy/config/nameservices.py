"""``hdfs://`` and ``viewfs://``: which servers they mean, by Hadoop's configuration. Pure."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from asynccopy.config.cluster import Cluster
from asynccopy.config.hadoop import HadoopConfiguration
from asynccopy.errors import UsageError

_URL: Final = re.compile(r"(hdfs|viewfs|webhdfs|swebhdfs)://([^/]*)(.*)\Z", re.DOTALL | re.IGNORECASE)
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+|\*)(?::(\d{1,5}))?\Z", re.ASCII)
_WILDCARDS: Final = ("0.0.0.0", "[::]", "*")  # noqa: S104 - nothing is bound
RPC: Final = 8020
WEB: Final = {"http": 9870, "https": 9871}
"""The default ports of a NameNode."""


_LOGICAL: Final = re.compile(r"(?:(?:hdfs|viewfs)://|s?webhdfs://[^/:]*(?:/|\Z))", re.IGNORECASE)


def is_logical(url: str) -> bool:
    """Whether it takes Hadoop's configuration to say where this is."""
    return _LOGICAL.match(url) is not None


class _NameNode(Struct, frozen=True):
    """``suffix``: what its keys end in, ``.NAMESERVICE.ID`` or less; ``nameservice``: "" where it has no name."""

    nameservice: str
    suffix: str
    rpc: str


def located(url: str, conf: HadoopConfiguration | None) -> tuple[str, Cluster] | None:
    """The URL of the nameservice that ``hdfs://``, ``viewfs://`` or a nameservice's ``webhdfs://`` means, and the web
    addresses of its NameNodes; None for a URL that says itself where it is. Raises UsageError.

    The URL names the nameservice, or the NameNode's RPC address where that has none; never a web address.
    """
    found = _URL.match(url)
    if found is None:
        return None
    scheme, authority, path = found[1].lower(), found[2], found[3]
    if scheme in ("webhdfs", "swebhdfs") and (conf is None or authority not in _names(conf)):
        return None
    if conf is None:
        raise UsageError(
            f"{url}: no address of its NameNodes", hint="set HADOOP_CONF_DIR, or write webhdfs://namenode:9870/path"
        )
    if not authority:
        authority, scheme = _default(url, scheme, conf)
    if scheme == "viewfs":
        return located(_mounted(url, authority, path, conf), conf)
    if "@" in authority:
        raise UsageError(f"{scheme}://...: no user or password in the URL", hint="set HADOOP_USER_NAME")
    web = {"webhdfs": "http", "swebhdfs": "https"}.get(scheme) or _scheme(conf)
    name, servers = _servers(url, authority, web, conf)
    return f"hdfs://{name}{path or '/'}", Cluster(servers=servers)  # who to be there is found out by asking


def _default(url: str, scheme: str, conf: HadoopConfiguration) -> tuple[str, str]:
    """Authority and scheme of what ``hdfs:///path`` and ``viewfs:///path`` leave out."""
    default = conf.get("fs.defaultFS")
    found = _URL.match(default)
    if found is not None and found[2] and (scheme == "hdfs" or found[1].lower() == scheme):
        return found[2], found[1].lower()
    if scheme == "viewfs":
        return conf.get("fs.viewfs.mounttable.default.name.key", "default"), scheme
    raise UsageError(
        f"{url}: names no cluster, and `fs.defaultFS` in {conf.where} is {default or 'not set'}",
        hint="write hdfs://nameservice/path",
    )


def _names(conf: HadoopConfiguration) -> tuple[str, ...]:
    return conf.list("dfs.nameservices")


def _scheme(conf: HadoopConfiguration) -> str:
    """As Hadoop's own clients choose (DFSUtil.getHttpClientScheme)."""
    return "https" if conf.get("dfs.http.policy", "HTTP_ONLY").upper() == "HTTPS_ONLY" else "http"


def _servers(url: str, authority: str, web: str, conf: HadoopConfiguration) -> tuple[str, tuple[str, ...]]:
    """The cluster's name in URLs, and the web addresses of its NameNodes."""
    known = list(_namenodes(conf))
    if authority in _names(conf):
        return authority, tuple(_web(each, web, conf) for each in known if each.nameservice == authority)
    match = _ADDRESS.match(authority)
    if match is None or not 0 < int(match[2] or RPC) < 65536:
        raise UsageError(f"{url}: no nameservice or NameNode host", hint="write hdfs://nameservice/path")
    address = f"{match[1].lower()}:{match[2] or RPC}"
    one = next((each for each in known if _with_port(each.rpc) == address), None)
    if one is None:
        if match[2] is None and "." not in authority and _names(conf):
            hint = f"nameservices there: {', '.join(_names(conf))}; else write the NameNode's RPC port too"
            raise UsageError(f"{url}: {conf.where} has no nameservice {authority}", hint=hint)
        return address, (_url(web, match[1], WEB[web]),)
    if one.nameservice:
        return one.nameservice, tuple(_web(each, web, conf) for each in known if each.nameservice == one.nameservice)
    return address, (_web(one, web, conf),)


def _namenodes(conf: HadoopConfiguration) -> list[_NameNode]:
    """All that the configuration knows, in its order."""
    found = [
        _NameNode(name, suffix, conf.get(f"dfs.namenode.rpc-address{suffix}"))
        for name in _names(conf)
        for suffix in [f".{name}.{id}" for id in conf.list(f"dfs.ha.namenodes.{name}")] or [f".{name}"]
    ]
    default = _URL.match(conf.get("fs.defaultFS"))
    rpc = conf.get("dfs.namenode.rpc-address") or (default[2] if default is not None and not found else "")
    return [*found, _NameNode("", "", rpc)] if rpc else found


def _web(namenode: _NameNode, web: str, conf: HadoopConfiguration) -> str:
    """The address at which its web server answers: a wildcard, or no host at all, is the RPC server's."""
    key = f"dfs.namenode.{web}-address{namenode.suffix}"
    told = conf.get(key)
    match = _ADDRESS.match(told)
    if told and (match is None or not 0 < int(match[2] or WEB[web]) < 65536):
        raise UsageError(f"{conf.where}: `{key}`: {told!r} is no host:port", hint="correct hdfs-site.xml")
    host, port = (match[1], match[2]) if match is not None else ("", None)
    if not host or host in _WILDCARDS:
        rpc = _ADDRESS.match(namenode.rpc)
        if rpc is None or rpc[1] in _WILDCARDS:
            raise UsageError(
                f"{conf.where}: neither `{key}` nor `dfs.namenode.rpc-address{namenode.suffix}` has an address",
                hint="set one of them in hdfs-site.xml, as the NameNode has it",
            )
        host = rpc[1]
    return _url(web, host, port or WEB[web])


def _url(web: str, host: str, port: str | int) -> str:
    return f"{'swebhdfs' if web == 'https' else 'webhdfs'}://{host}:{port}"


def _with_port(address: str) -> str:
    match = _ADDRESS.match(address)
    return f"{match[1].lower()}:{match[2] or RPC}" if match is not None else ""


def _mounted(url: str, table: str, path: str, conf: HadoopConfiguration) -> str:
    """What a path of a mount table means: the longest link that leads to it decides."""
    prefix = f"fs.viewfs.mounttable.{table}."
    said = conf.below(prefix)
    links = {
        _components(name.removeprefix("link.")): target for name, target in said.items() if name.startswith("link./")
    }
    if "linkMergeSlash" in said:
        links[()] = said["linkMergeSlash"]
    if not links and "linkFallback" not in said:
        raise UsageError(f"{url}: {conf.where} has no mount table {table}", hint=f"set {prefix}link./PATH")
    wanted = _components(path)
    if within := sorted("/" + "/".join(link) for link in links if link[: len(wanted)] == wanted and link != wanted):
        raise UsageError(
            f"{url}: spans the mounts {', '.join(within)}, which lie in different places",
            hint="copy or mirror each of them by itself",
        )
    best = max((link for link in links if wanted[: len(link)] == link), key=len, default=None)
    target = said.get("linkFallback") if best is None else links[best]
    if target is None:
        mounts = ", ".join(sorted("/" + "/".join(link) for link in links))
        raise UsageError(f"{url}: is below no mount of {table}", hint=f"its mounts are: {mounts}")
    if target.lower().startswith("viewfs:"):
        raise UsageError(f"{conf.where}: `{prefix}link.`: {target}: a mount leads to a mount", hint="name the cluster")
    rest = wanted[len(best or ()) :]
    return "/".join((target.rstrip("/"), *rest)) if rest else target


def _components(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)
