"""The endpoints: clusters, buckets, and the aliases of pywhdfs' file.

Errors as in ``tables``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final, Literal

from msgspec import Struct

from asynccopy.config.cluster import FILES, Access, Cluster, place
from asynccopy.config.objects import ObjectOptions, Store
from asynccopy.config.tables import Ranges, Table
from asynccopy.errors import UsageError
from asynccopy.timetable import Timetable

_ADDRESS: Final = re.compile(r"([a-z]+)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?/?\Z", re.ASCII)
_GATEWAY: Final = re.compile(
    _ADDRESS.pattern.removesuffix(r"/?\Z") + r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)*/?\Z", re.ASCII
)


class WebHdfsEndpoint(Table, Access, frozen=True, tag_field="type", tag="webhdfs"):
    """A cluster by its NameNodes' HTTP addresses, or by its gateways'. ``user``: None is HADOOP_USER_NAME.

    ``bandwidth`` and ``concurrency`` are caps for all mirrors together that name this endpoint.
    """

    # its own fields are not kw_only: so `url` comes first where a message lists the keys
    url: str | None = None
    urls: tuple[str, ...] = ()
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
        for key in ("user", "doas", "principal", "ccache", *FILES):
            if getattr(self, key) == "":
                raise ValueError(f"`{key}` is empty: leave it out")
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
        told = {name: getattr(self, name) for name in Access.__struct_fields__}
        return {"cluster": Cluster(servers=self.addresses, **told)}


class _Bucket(Table, frozen=True, kw_only=True):
    """A bucket, and what objects are to be like that are written to it: see ``ObjectOptions``.

    What is None comes from the environment, or is left to the bucket. ``bandwidth`` and ``concurrency`` as of a
    cluster.
    """

    _scheme: ClassVar[Store]
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

    _scheme: ClassVar[Store] = "s3"
    addressing: Literal["path", "virtual"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.endpoint is not None:
            _check_address(self.endpoint, ("http", "https"))

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

    _scheme: ClassVar[Store] = "oss"
    custom_domain: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.endpoint is not None:
            _check_address(self.endpoint if "://" in self.endpoint else f"https://{self.endpoint}", ("https", "http"))
        if self.custom_domain and self.endpoint is None:
            raise ValueError("`custom_domain` needs the `endpoint` that it is")

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


def _check_address(url: str, schemes: tuple[str, ...], *, gateway: bool = False) -> None:
    """``gateway``: a path may follow, as in https://knox:8443/gateway/default."""
    found = (_GATEWAY if gateway else _ADDRESS).match(url)
    if found is None or found[1] not in schemes or url.rstrip("/").endswith("/webhdfs/v1"):
        without = "query or /webhdfs/v1" if gateway else "path or query"
        raise ValueError(f"{url!r} must look like {schemes[0]}://host:port, without user, password, {without}")
    if found[3] and not 0 < int(found[3][1:]) < 65536:
        raise ValueError(f"{url!r}: port {found[3][1:]} does not exist")


def webhdfs_address(url: str) -> str:
    """A NameNode's or gateway's URL as ``webhdfs://host:port`` or ``swebhdfs://host:port``. Raises ValueError."""
    _check_address(url, ("webhdfs", "swebhdfs", "http", "https"), gateway=True)
    return re.sub(r"\Ahttp(s?)://", r"\1webhdfs://", url).rstrip("/")


def _is_secure(url: str) -> bool:
    return url.startswith(("https://", "swebhdfs://"))
