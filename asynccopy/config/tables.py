"""The tables of the configuration file as frozen structs, in bytes, seconds and shares of 1.

A ValueError of theirs names its key in backquotes; who reads the file adds file and table.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from asynccopy.config.cluster import FILES, Auth, Cluster, place
from asynccopy.config.objects import ObjectOptions, Store
from asynccopy.errors import UsageError
from asynccopy.logs import HIDDEN
from asynccopy.model import MIB, Preserved
from asynccopy.timetable import Timetable
from asynccopy.units import Cap

_ADDRESS: Final = re.compile(r"([a-z]+)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?/?\Z", re.ASCII)
_GATEWAY: Final = re.compile(
    _ADDRESS.pattern.removesuffix(r"/?\Z") + r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)*/?\Z", re.ASCII
)
_LISTEN: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})\Z", re.ASCII)


class Seconds(float):
    """Written as ``30s``, ``1h30m``."""


class Size(int):
    """Bytes, written as ``64MiB``."""


class Moment(int):
    """Milliseconds since the epoch, written as ``2026-01-31``."""


class Secret:
    """A text that is not shown; ``reveal`` is for the one who must know it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


Ranges = Annotated[int, Meta(ge=1, le=10_000)]
"""Ranges in flight."""


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class WebHdfsEndpoint(_Table, frozen=True, kw_only=True, tag_field="type", tag="webhdfs"):
    """A cluster by its NameNodes' HTTP addresses, or by its gateways'. ``user``: who to be there; None is
    HADOOP_USER_NAME. The keys from ``doas`` to ``redirects`` are those of ``Cluster``.

    ``bandwidth`` and ``concurrency`` are caps for all mirrors together that name this endpoint.
    """

    url: str | None = None
    urls: tuple[str, ...] = ()
    user: str | None = None
    doas: str | None = None
    auth: Auth | None = None
    principal: str | None = None
    keytab: str | None = None
    ccache: str | None = None
    mutual: bool = False
    token_file: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    redirects: tuple[str, ...] = ()
    bandwidth: Timetable | None = None
    concurrency: Ranges | None = None

    def __post_init__(self) -> None:
        for text in self.redirects:
            try:
                place(text)
            except ValueError as error:
                raise ValueError(f"`redirects`: {text!r}: {error}") from error
        if (self.url is None) == (not self.urls):
            raise ValueError("exactly one of `url` and `urls` is needed")
        for url in self.urls or (self.url or "",):
            webhdfs_address(url)
        for text in ("user", "doas", "principal", "ccache", *FILES):
            if getattr(self, text) == "":
                raise ValueError(f"`{text}` is empty: leave it out")
        self._check_who()
        self._check_tls()

    def _check_who(self) -> None:
        for key, auth in (
            ("principal", "kerberos"),
            ("keytab", "kerberos"),
            ("ccache", "kerberos"),
            ("mutual", "kerberos"),
            ("token_file", "token"),
            ("password_file", "password"),
        ):
            if getattr(self, key) and self.auth not in (None, auth):
                raise ValueError(f'`{key}` is for `auth` = "{auth}"')
        if self.keytab is not None and self.principal is None:
            raise ValueError("`keytab` needs the `principal` whose keys it holds")
        if self.keytab is not None and self.ccache is not None:
            raise ValueError("`keytab` and `ccache`: only one of them, tickets of a keytab are kept in memory")
        if self.auth == "password" and self.password_file is None:
            raise ValueError('`auth` = "password" needs a `password_file`')
        if self.password_file is not None:
            if self.user is None:
                raise ValueError("`password_file` needs the `user` whose password it is")
            if not self._secure:
                raise ValueError("`password_file` needs https:// addresses: without TLS anyone on the way can read it")

    def _check_tls(self) -> None:
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("`client_key` needs a `client_certificate`")
        for key in ("ca_file", "client_certificate"):
            if getattr(self, key) is not None and not any(_is_secure(url) for url in self.addresses):
                raise ValueError(f"`{key}` needs an https:// or swebhdfs:// address")

    @property
    def _secure(self) -> bool:
        return all(_is_secure(url) for url in self.addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of them, as ``webhdfs://host:port`` or ``swebhdfs://host:port``."""
        return tuple(webhdfs_address(url) for url in self.urls or (self.url or "",))

    def location(self, path: str) -> str:
        """The full URL of a path on this endpoint."""
        return f"{self.addresses[0]}/{path.lstrip('/')}"

    @property
    def settings(self) -> Mapping[str, object]:
        told = {name: getattr(self, name) for name in Cluster.__struct_fields__ if name in self.__struct_fields__}
        return {"cluster": Cluster(servers=self.addresses, **told)}


class _Bucket(_Table, frozen=True, kw_only=True):
    """A bucket, and what objects are to be like that are written to it: see ``ObjectOptions``.

    What is None comes from the environment, or is left to the bucket. ``bandwidth`` and ``concurrency`` as of a
    cluster.
    """

    bucket: str
    endpoint: str | None = None
    region: str | None = None
    storage_class: str | None = None
    encryption: str | None = None
    kms_key: str | None = None
    forbid_overwrite: bool = False
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    file_metadata: bool = True
    bandwidth: Timetable | None = None
    concurrency: Ranges | None = None

    def __post_init__(self) -> None:
        if not self.bucket or "/" in self.bucket:
            raise ValueError("`bucket` is a bucket's name alone; the prefix follows the endpoint's name: NAME:/prefix")
        self.objects.check(self._scheme)

    @property
    def _scheme(self) -> Store:
        raise NotImplementedError

    @property
    def addresses(self) -> tuple[str, ...]:
        return () if self.endpoint is None else (self.endpoint,)

    def location(self, path: str) -> str:
        """The full URL of a prefix in this bucket."""
        return f"{self._scheme}://{self.bucket}/{path.lstrip('/')}"

    @property
    def objects(self) -> ObjectOptions:
        return ObjectOptions(
            storage_class=self.storage_class,
            encryption=self.encryption,
            kms_key=self.kms_key,
            forbid_overwrite=self.forbid_overwrite,
            tags=tuple(self.tags.items()),
            metadata=tuple(self.metadata.items()),
            file_metadata=self.file_metadata,
        )


class S3Endpoint(_Bucket, frozen=True, kw_only=True, tag_field="type", tag="s3"):
    """A bucket of an S3 store. What is None comes from the AWS configuration that the machine already has."""

    addressing: Literal["path", "virtual"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.endpoint is not None:
            _check_address(self.endpoint, ("http", "https"))

    @property
    def _scheme(self) -> Store:
        return "s3"

    @property
    def settings(self) -> Mapping[str, object]:
        return {
            "s3_endpoint": self.endpoint,
            "s3_region": self.region,
            "s3_addressing": self.addressing,
            "objects": self.objects,
        }


class OssEndpoint(_Bucket, frozen=True, kw_only=True, tag_field="type", tag="oss"):
    """A bucket of Alibaba Cloud OSS."""

    custom_domain: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.endpoint is not None:
            _check_address(self.endpoint if "://" in self.endpoint else f"https://{self.endpoint}", ("https", "http"))
        if self.custom_domain and self.endpoint is None:
            raise ValueError("`custom_domain` needs the `endpoint` that it is")

    @property
    def _scheme(self) -> Store:
        return "oss"

    @property
    def settings(self) -> Mapping[str, object]:
        return {
            "oss_endpoint": self.endpoint,
            "oss_region": self.region,
            "oss_custom_domain": self.custom_domain or None,
            "objects": self.objects,
        }


class Alias(Struct, frozen=True):
    """A cluster of pywhdfs' file: nameservices by the paths that they are mounted at, of which the longest decides.

    ``source``: where it is written, for messages.
    """

    mounts: tuple[tuple[str, Cluster], ...]
    source: str
    bandwidth: Timetable | None = None
    concurrency: Ranges | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each for _, cluster in self.mounts for each in cluster.servers))

    def holding(self, path: str) -> Cluster:
        """The nameservice on which a path is. Raises UsageError for a path on none, or with several below it."""
        wanted = _names(path)
        mounts = {_names(mount): cluster for mount, cluster in self.mounts}
        best = max((mount for mount in mounts if wanted[: len(mount)] == mount), key=len, default=None)
        told = ", ".join(mount for mount, _ in self.mounts)
        if best is None:
            raise UsageError(
                f"{self.source}: /{path.lstrip('/')} is below none of its mounts", hint=f"they are: {told}"
            )
        below = [mount for mount in mounts if mount[: len(wanted)] == wanted and mounts[mount] != mounts[best]]
        if below:
            spanned = ", ".join("/" + "/".join(mount) for mount in below)
            raise UsageError(
                f"{self.source}: /{path.lstrip('/')} spans the mounts {spanned}, which lie on other nameservices",
                hint="copy or mirror each of them by itself",
            )
        return mounts[best]


def _names(path: str) -> tuple[str, ...]:
    return tuple(name for name in path.split("/") if name)


Endpoint = WebHdfsEndpoint | S3Endpoint | OssEndpoint | Alias


class Daemon(_Table, frozen=True, kw_only=True):
    """The process. ``bandwidth`` and ``concurrency`` are for all mirrors together."""

    state: str = ""
    """The directory of journals and ledgers; "" before the default is found."""
    socket: str = ""
    """As ``state``."""
    listen: str | None = None
    token_file: str | None = None
    """As ``read_secret`` takes it."""
    log: Literal["auto", "json", "text"] = "auto"
    """auto: text where stderr is a terminal, else JSON."""
    file_events: bool = False
    concurrency: Ranges | Literal["auto"] = "auto"
    bandwidth: Timetable | None = None

    def __post_init__(self) -> None:
        for key in ("state", "socket"):
            path = getattr(self, key)
            if path and not path.startswith("/"):
                raise ValueError(f"`{key}` must be an absolute path, such as /var/lib/asynccopy")
        address = self.address
        if address is not None and not _is_loopback(address[0]) and not self.token_file:
            raise ValueError("`listen` on an address that others reach needs a `token_file`; or write 127.0.0.1:8787")

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of ``listen``."""
        if self.listen is None:
            return None
        found = _LISTEN.match(self.listen)
        if found is None or int(found[3]) > 65535:
            raise ValueError('`listen` must be "host:port", such as "127.0.0.1:8787" or "[::1]:8787"')
        return found[1] or found[2], int(found[3])


class MirrorConfig(_Table, frozen=True, kw_only=True):
    """A source tree kept equal at a destination prefix."""

    source: str
    destination: str
    watch: Literal["auto", "snapshots", "scan", "off"] = "auto"
    interval: Seconds = Seconds(30)
    full_scan_interval: Seconds = Seconds(6 * 3600)
    settle: Seconds = Seconds(10)
    deletions: Literal["keep", "delete", "trash"] = "keep"
    trash: str = ".asynccopy-trash/"
    max_delete: Cap = Cap(share=Fraction(5, 100))
    verify: Literal["checksum", "size", "none"] = "checksum"
    bandwidth: Timetable | None = None
    concurrency: Ranges | Literal["auto"] = "auto"
    part_size: Size | None = None
    order: Literal["auto", "listing", "spread", "oldest", "newest", "smallest", "largest"] = "auto"
    priority: Annotated[int, Meta(ge=1, le=10)] = 5
    lag_alert: Seconds | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ("**/_temporary/**", "*._COPYING_")
    """What Hadoop's own tools write under before they rename it."""
    include_regex: tuple[str, ...] = ()
    exclude_regex: tuple[str, ...] = ()
    min_size: Size | None = None
    max_size: Size | None = None
    newer_than: Moment | None = None
    older_than: Moment | None = None
    empty_directories: bool = True
    preserve: tuple[Preserved, ...] = ()

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError("`interval` must be at least 1s")
        if self.full_scan_interval < self.interval:
            raise ValueError("`full_scan_interval` must not be below `interval`")
        if self.lag_alert is not None and not self.lag_alert:
            raise ValueError("`lag_alert` must be above 0s")
        if self.part_size is not None and (not self.part_size or self.part_size % MIB):
            raise ValueError('`part_size` must be whole MiB, such as "64MiB"')
        if self.trash.startswith("/") or not set(self.trash.rstrip("/").split("/")).isdisjoint({"", ".", ".."}):
            raise ValueError('`trash` must be a prefix such as ".asynccopy-trash/", without a leading /')
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise ValueError("`min_size` is above `max_size`")
        if self.newer_than is not None and self.older_than is not None and self.newer_than >= self.older_than:
            raise ValueError("`newer_than` is not before `older_than`")
        for key in ("include_regex", "exclude_regex"):
            for regex in getattr(self, key):
                try:
                    re.compile(regex)
                except (re.error, OverflowError, RecursionError) as error:
                    raise ValueError(f"`{key}`: {regex!r}: {error}") from None


class WebhookConfig(_Table, frozen=True, kw_only=True):
    """Who is told of what happens. ``url_file`` as ``read_secret`` takes it."""

    url: Secret | None = None
    url_file: str | None = None
    shape: Literal["json", "dingtalk", "slack"] = "json"
    on: tuple[Literal["failure", "completion", "lag"], ...] = ("failure", "completion", "lag")

    def __post_init__(self) -> None:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("exactly one of `url_file` and `url` is needed")
        if self.url is not None and not re.match(r"https?://[A-Za-z0-9\[]", self.url.reveal()):
            raise ValueError("`url` must be an https:// or http:// address")
        if self.url_file == "":
            raise ValueError("`url_file` is empty: write a file's name")
        if not self.on:
            raise ValueError('`on` is empty: write for example ["failure"]')


def _check_address(url: str, schemes: tuple[str, ...], *, gateway: bool = False) -> None:
    """``gateway``: a path may follow, as in https://knox:8443/gateway/default."""
    found = (_GATEWAY if gateway else _ADDRESS).match(url)
    if found is None or found[1] not in schemes or url.rstrip("/").endswith("/webhdfs/v1"):
        without = "query or /webhdfs/v1" if gateway else "path or query"
        raise ValueError(f"{url!r} must look like {schemes[0]}://host:port, without user, password, {without}")


def webhdfs_address(url: str) -> str:
    """A NameNode's or gateway's URL as ``webhdfs://host:port`` or ``swebhdfs://host:port``. Raises ValueError."""
    _check_address(url, ("webhdfs", "swebhdfs", "http", "https"), gateway=True)
    port = _GATEWAY.match(url)[3]  # type: ignore[index]  # it matched
    if port is not None and not 0 < int(port[1:]) < 65536:
        raise ValueError(f"{url!r}: port {port[1:]} does not exist")
    return re.sub(r"\Ahttp(s?)://", r"\1webhdfs://", url).rstrip("/")


def _is_secure(url: str) -> bool:
    return url.startswith(("https://", "swebhdfs://"))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
