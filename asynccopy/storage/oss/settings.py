"""Where a bucket is, and what its objects are to be like: as given, else as the variables say that OSS tools read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final, Self
from urllib.parse import quote, urlsplit

from msgspec import Struct

from asynccopy.errors import UsageError
from asynccopy.storage.pool import Origin

Headers = list[tuple[str, str]]

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_ADDRESS: Final = re.compile(r"[0-9.]+|.*:.*")
_REGION: Final = re.compile(r"[a-z0-9-]+")
_REGIONAL: Final = re.compile(r"oss-(?!accelerate)([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com")


class ObjectOptions(Struct, frozen=True):
    """What is asked for every object that is written.

    ``storage_class`` (Standard, IA, Archive, ColdArchive, DeepColdArchive) and ``encryption`` (AES256, KMS): None
    leaves it to the bucket. ``kms_key``: the id of a key for KMS, None for the default one. ``forbid_overwrite``: what
    is there already is never replaced by other bytes.
    ``tags``, ``metadata``: names and values.
    """

    storage_class: str | None = None
    encryption: str | None = None
    kms_key: str | None = None
    forbid_overwrite: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def kept(self) -> Headers:
        """Of an object's own: to be said when it is put or copied, or its upload is begun."""
        headers: Headers = []
        if self.storage_class is not None:
            headers.append(("x-oss-storage-class", self.storage_class))
        if self.encryption is not None:
            headers.append(("x-oss-server-side-encryption", self.encryption))
        if self.kms_key is not None:
            headers.append(("x-oss-server-side-encryption-key-id", self.kms_key))
        return headers

    @property
    def described(self) -> Headers:
        """Tags and metadata. Where there are none, a copy takes over its original's."""
        headers = [(f"x-oss-meta-{name.lower()}", quote(value, safe=" /:=+,;@")) for name, value in self.metadata]
        if self.tags:
            pairs = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in self.tags]
            headers.append(("x-oss-tagging", "&".join(pairs)))
        return headers

    @property
    def condition(self) -> Headers:
        """To be said by the request that makes an object visible."""
        return [("x-oss-forbid-overwrite", "true")] if self.forbid_overwrite else []


class OssSettings(Struct, frozen=True):
    """How to talk to OSS. Holds no secret.

    ``endpoint``: of a region (public, ``-internal``, a VPC's), or the accelerated one; an http or https URL.
    ``custom_domain``: it is a domain that is bound to the bucket, so the bucket's name is not put before it.
    ``connections``: so many at most.
    """

    endpoint: str
    region: str
    custom_domain: bool = False
    objects: ObjectOptions = ObjectOptions()
    connections: int = 1024

    @classmethod
    def from_environment(
        cls,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        custom_domain: bool = False,
        objects: ObjectOptions | None = None,
        connections: int = 1024,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """What is not given comes from OSS_ENDPOINT and OSS_REGION; the endpoint of a region names that, and the region
        has a public endpoint. Raises UsageError when neither is known, or the region cannot be.
        """
        endpoint = endpoint or environ.get("OSS_ENDPOINT")
        if endpoint and "://" not in endpoint:
            endpoint = f"https://{endpoint}"
        region = (region or environ.get("OSS_REGION") or _region(endpoint)).removeprefix("oss-")
        if not _REGION.fullmatch(region):
            raise UsageError(
                f"OSS region {region!r}: not a region" if region else "the region of the OSS bucket is not known",
                hint="set OSS_REGION, such as cn-hangzhou",
            )
        return cls(
            endpoint=endpoint or f"https://oss-{region}.aliyuncs.com",
            region=region,
            custom_domain=custom_domain,
            objects=objects or ObjectOptions(),
            connections=connections,
        )


def place(settings: OssSettings) -> str:
    """Which store it is, whatever the bucket."""
    return f"{settings.endpoint} {settings.region}"


def _region(endpoint: str | None) -> str:
    found = _REGIONAL.fullmatch(urlsplit(endpoint or "").hostname or "")
    return found[1] if found else ""


def origin_of(bucket: str, settings: OssSettings) -> Origin:
    """Where the requests for a bucket go. OSS wants its name in the host.

    Raises UsageError for an endpoint or a bucket name that cannot be one.
    """
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"oss://{bucket}: not a bucket name", hint="3 to 63 of a-z, 0-9 and -, no - at either end")
    url = urlsplit(settings.endpoint)
    try:
        port = url.port
    except ValueError:
        port = 0
    plain = url.path in ("", "/") and not url.query and "@" not in url.netloc
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or not plain:
        raise UsageError("the OSS endpoint must be a URL like https://oss-cn-hangzhou.aliyuncs.com, with no path")
    host = url.hostname
    if not settings.custom_domain:
        if _ADDRESS.fullmatch(host):
            raise UsageError(
                f"OSS endpoint {host}: OSS wants the bucket's name in the host, and an address has no room for it",
                hint="write the endpoint's name",
            )
        host = f"{bucket}.{host}"
    return Origin(url.scheme, host, port or (443 if url.scheme == "https" else 80))
