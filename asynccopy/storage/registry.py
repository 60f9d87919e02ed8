"""URL -> backend. The only place that names them; each is imported when it is first needed."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from asynccopy.config.cluster import Cluster
from asynccopy.config.objects import ObjectOptions
from asynccopy.errors import UsageError
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.limited import Bandwidth, LimitedSource, Share
from asynccopy.storage.pacing import Pacing
from asynccopy.storage.pool import Origin
from asynccopy.storage.settings import Latency, Place, Settings

if TYPE_CHECKING:
    from ssl import SSLContext

    from asynccopy.storage.webhdfs.allowance import Allowance
    from asynccopy.storage.webhdfs.auth import Auth, Shared
    from asynccopy.storage.webhdfs.client import WebHdfsClient
    from asynccopy.storage.webhdfs.nameservice import Nameservice, Server

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?")
_KNOWN = (
    "webhdfs://namenode:9870/path, swebhdfs://, s3://bucket/prefix, oss://bucket/prefix, file:///path or a plain path"
)


class NameNodes:
    """Has the sides that are opened with it share what each nameservice bears, which serves them all, and the cluster;
    which of its NameNodes is active; and who they are there: one delegation token serves them all. Those that have one
    server in common are on one nameservice. ``ask``: who knows who they are, where another process does.
    """

    def __init__(self, ask: Callable[[Place, str, Origin | None, bool], Awaitable[str]] | None = None) -> None:
        self._allowances: dict[Origin, Allowance] = {}
        self._identities: dict[object, Shared] = {}
        self._ask = ask
        self._nameservices: dict[frozenset[Server], Nameservice] = {}

    def join(self, client: WebHdfsClient) -> None:
        origins = client.nameservice.origins
        shared = next((self._allowances[each] for each in origins if each in self._allowances), client.allowance)
        for each in origins:
            self._allowances.setdefault(each, shared)
        shared.widen(client.allowance.most)
        client.share(shared, self._nameservices.setdefault(frozenset(client.nameservice.servers), client.nameservice))

    def identity(self, base: str, settings: Settings, nameservice: Nameservice) -> Shared:
        """Who we are at a cluster, to be joined and closed by a side."""
        from asynccopy.storage.webhdfs.auth import Lent, Shared
        from asynccopy.storage.webhdfs.identity import identity

        cluster = settings.cluster
        key = (nameservice.servers, structs.replace(cluster, servers=()))
        if key not in self._identities:
            if self._ask is not None and cluster.auth != "password":
                auth: Auth = Lent(partial(self._ask, Place(base, settings)))
            else:
                tls = _tls(cluster.ca_file, cluster.client_certificate, cluster.client_key)
                auth = identity(cluster, base, nameservice, os.environ, tls)
            self._identities[key] = Shared(auth)
        return self._identities[key]

    async def lend(self, place: Place, refused: str = "", at: Origin | None = None, ticket: bool = False) -> str:
        """What another process is to say of who we are there, in each request to that NameNode, or to the gateway
        ``at``; ``refused``: what it said, and was refused. Or a ``ticket`` for the server ``at``. Raises
        CredentialsRefused, Unreachable.
        """
        base, _ = _namenode(place.url, _scheme(place.url), place.settings.cluster)
        shared = self.identity(base, place.settings, _nameservice(base, place.settings))
        return await (shared.ticket(at) if ticket and at is not None else shared.lend(refused, at))


class Stores:
    """Has the sides that are opened with it, or with one ``beside`` it, share what each store allows that throttles.

    Those that read share, and those that write: see ``Pacing``.
    """

    def __init__(self, beside: Stores | None = None) -> None:
        self._shared: dict[tuple[Origin, bool], Pacing] = {} if beside is None else beside._shared
        self._mine: dict[tuple[Origin, bool], Pacing] = {}

    def reading(self, origin: Origin) -> Pacing:
        return self._join(origin, True)

    def writing(self, origin: Origin) -> Pacing:
        return self._join(origin, False)

    @property
    def warning(self) -> str:
        """What the stores of these sides throttle, in one line; "" while none does."""
        return "; ".join([text for pacing in self._mine.values() if (text := pacing.warning)])

    def _join(self, origin: Origin, reads: bool) -> Pacing:
        pacing = self._shared.setdefault((origin, reads), Pacing(origin))
        return self._mine.setdefault((origin, reads), pacing)


def open_source(
    url: str,
    settings: Settings,
    bandwidths: Sequence[Bandwidth | Share] = (),
    *,
    latency: Latency | None = None,
    namenodes: NameNodes | None = None,
    stores: Stores | None = None,
) -> Source:
    """The Source that a URL names; nothing is contacted yet. Raises UsageError.

    ``bandwidths``: what its reads share with others, beside the settings' own. ``latency`` is told how long each
    request to the NameNode or the store took.
    """
    scheme = _scheme(url)
    _check_preserve(url, scheme, settings)
    pacing = Pacing if stores is None else stores.reading
    if scheme in ("webhdfs", "swebhdfs") or _located(scheme, settings):
        source = _webhdfs(url, scheme, settings, latency, namenodes)
    elif scheme == "file":
        from asynccopy.storage.local.source import LocalSource

        source = LocalSource(url)
    elif scheme == "s3":
        from asynccopy.storage.s3.settings import known as known_s3
        from asynccopy.storage.s3.source import S3Source

        source = S3Source(url, *known_s3(url, settings), latency=latency, pacing=pacing)
    elif scheme == "oss":
        from asynccopy.storage.oss.settings import known as known_oss
        from asynccopy.storage.oss.source import OssSource

        source = OssSource(url, *known_oss(url, settings), latency=latency, pacing=pacing)
    else:
        raise _unknown(url, scheme)
    own = () if settings.bandwidth is None else (Bandwidth(settings.bandwidth),)
    return LimitedSource(source, (*own, *bandwidths)) if own or bandwidths else source


def open_destination(
    url: str,
    settings: Settings,
    *,
    latency: Latency | None = None,
    namenodes: NameNodes | None = None,
    stores: Stores | None = None,
) -> Destination:
    """The Destination that a URL names; nothing is contacted yet. ``latency`` is told of requests to a store.

    Raises UsageError.
    """
    scheme = _scheme(url)
    _check_preserve(url, scheme, settings)
    _check_objects(url, scheme, settings.objects)
    pacing = Pacing if stores is None else stores.writing
    if scheme == "s3":
        from asynccopy.storage.s3.destination import S3Destination
        from asynccopy.storage.s3.settings import known as known_s3

        objects, able = settings.objects, settings.capabilities
        return S3Destination(url, *known_s3(url, settings), objects, able, latency=latency, pacing=pacing)
    if scheme == "oss":
        from asynccopy.storage.oss.destination import OssDestination
        from asynccopy.storage.oss.settings import known as known_oss

        objects, able = settings.objects, settings.capabilities
        return OssDestination(url, *known_oss(url, settings), objects, able, latency=latency, pacing=pacing)
    if scheme == "file":
        from asynccopy.storage.local.destination import LocalDestination

        return LocalDestination(url)
    if scheme in ("webhdfs", "swebhdfs") or _located(scheme, settings):
        return _webhdfs_destination(url, scheme, settings, latency, namenodes)
    raise _unknown(url, scheme)


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else "file"


def _located(scheme: str, settings: Settings) -> bool:
    """Whether it is ``hdfs://``, and the Hadoop configuration has told where that is (``config.nameservices``)."""
    return scheme == "hdfs" and bool(settings.cluster.servers)


def _check_preserve(url: str, scheme: str, settings: Settings) -> None:
    if settings.preserve and scheme not in ("webhdfs", "swebhdfs", "hdfs"):
        raise UsageError(
            f"{url}: preserve ({', '.join(settings.preserve)}) is for copies from HDFS to HDFS",
            hint="leave --preserve (in a mirror: `preserve`) out: only HDFS has and keeps these attributes",
        )


def _check_objects(url: str, scheme: str, objects: ObjectOptions) -> None:
    if scheme in ("s3", "oss"):
        try:
            objects.check(scheme)  # type: ignore[arg-type]  # these two it is
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from error
    elif objects.storage_class is not None:
        raise UsageError(f"{url}: only s3:// and oss:// have storage classes", hint="leave out --storage-class")


def _unknown(url: str, scheme: str) -> UsageError:
    if scheme == "hdfs":
        return UsageError(
            f"{url}: no address of its NameNodes", hint="set HADOOP_CONF_DIR, or write webhdfs://namenode:9870/path"
        )
    return UsageError(f"{url}: unknown scheme {scheme}://", hint=f"known are {_KNOWN}")


def _webhdfs(url: str, scheme: str, settings: Settings, latency: Latency | None, namenodes: NameNodes | None) -> Source:
    from asynccopy.storage.webhdfs.source import WebHdfsSource

    base, root = _namenode(url, scheme, settings.cluster)
    return WebHdfsSource(_webhdfs_client(base, settings, latency, namenodes), base, root)


def _webhdfs_client(
    base: str, settings: Settings, latency: Latency | None, namenodes: NameNodes | None
) -> WebHdfsClient:
    from asynccopy.storage.webhdfs.client import WebHdfsClient

    given = settings.cluster
    shared = namenodes or NameNodes()
    nameservice = _nameservice(base, settings)
    who = shared.identity(base, settings, nameservice)
    tls = _tls(given.ca_file, given.client_certificate, given.client_key)
    client = WebHdfsClient(nameservice, who, connections=settings.connections, tls=tls, redirects=given.redirects)
    who.join()
    client.latency = latency
    if namenodes is not None:
        namenodes.join(client)
    return client


def _nameservice(base: str, settings: Settings) -> Nameservice:
    from asynccopy.storage.webhdfs.nameservice import Nameservice, servers

    return Nameservice(servers(settings.cluster.servers or (base,)))


def _tls(ca_file: str | None, certificate: str | None = None, key: str | None = None) -> SSLContext | None:
    """None for what is usual, which is made with the first connection that needs it."""
    if ca_file is None and certificate is None:
        return None
    from asynccopy.storage.tls import context

    return context(ca_file, certificate, key)


def _webhdfs_destination(
    url: str, scheme: str, settings: Settings, latency: Latency | None, namenodes: NameNodes | None
) -> Destination:
    from asynccopy.storage.webhdfs.destination import WebHdfsDestination

    base, root = _namenode(url, scheme, settings.cluster)
    if "," in root:  # CONCAT, which joins parts, has no way to write one
        raise UsageError(f"{url}: no comma in an HDFS destination", hint="choose another directory")
    return WebHdfsDestination(
        _webhdfs_client(base, settings, latency, namenodes),
        base,
        root,
        preserve=frozenset(settings.preserve),
        checksums=settings.file_checksums,
    )


def _namenode(url: str, scheme: str, cluster: Cluster) -> tuple[str, str]:
    """The cluster as URLs name it, and the absolute path on it, "" for ``/``. Raises UsageError.

    That is the NameNode's URL; a gateway's with the path before all HDFS paths; or ``hdfs://`` and a name that the
    Hadoop configuration gave to the cluster.
    """
    # Not urlsplit: an HDFS path may hold ? and #, and it is written as it is, as in `hdfs dfs`.
    authority, _, path = url[len(scheme) + 3 :].partition("/")
    if "@" in authority:
        raise UsageError(f"{scheme}://...: no user or password in the URL", hint="set HADOOP_USER_NAME")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise UsageError(f"{url}: no NameNode host", hint=f"write {scheme}://namenode:9870/path")
    secure = scheme == "swebhdfs"
    port = int(match["port"] or (9871 if secure else 9870))
    if not 0 < port < 65536:
        raise UsageError(f"{url}: port {port} does not exist")
    host = f"[{match['six']}]" if match["six"] else match["host"]
    base = f"hdfs://{authority}" if scheme == "hdfs" else f"{scheme}://{host}:{port}"
    for server in cluster.servers:
        if server.count("/") > 2 and f"{url}/".startswith(f"{server}/"):
            base, path = server, url[len(server) :]
    components = [component for component in path.split("/") if component]
    if "." in components or ".." in components:
        raise UsageError(f"{url}: . and .. are no HDFS names")
    return base, "/" + "/".join(components) if components else ""
