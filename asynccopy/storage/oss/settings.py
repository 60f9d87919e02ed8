"""Where a bucket is: as given, else as the variables say that OSS tools read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final, Self
from urllib.parse import urlsplit

from msgspec import Struct

from asynccopy.config.hadoop import hadoop_configuration
from asynccopy.config.hadoop_stores import oss_variables
from asynccopy.errors import UsageError
from asynccopy.storage.client import split_endpoint
from asynccopy.storage.oss.credentials import CredentialChain
from asynccopy.storage.pool import Origin
from asynccopy.storage.settings import Settings, bucket_of, environment

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_ADDRESS: Final = re.compile(r"[0-9.]+|.*:.*")
_REGION: Final = re.compile(r"[a-z0-9-]+")
_REGIONAL: Final = re.compile(r"oss-(?!accelerate)([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com")


class OssSettings(Struct, frozen=True):
    """How to talk to OSS. Holds no secret.

    ``endpoint``: of a region (public, ``-internal``, a VPC's), or the accelerated one; an http or https URL.
    ``custom_domain``: it is a domain that is bound to the bucket, so the bucket's name is not put before it.
    ``connections``: so many at most.
    """

    endpoint: str
    region: str
    custom_domain: bool = False
    connections: int = 1024

    @classmethod
    def from_environment(
        cls,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        custom_domain: bool = False,
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
            connections=connections,
        )


def known(url: str, given: Settings) -> tuple[OssSettings, CredentialChain]:
    """What is given, the environment and Hadoop's configuration say of a bucket. Raises UsageError."""
    environ = environment(hadoop_configuration(), bucket_of(url), oss_variables)
    settings = OssSettings.from_environment(
        endpoint=given.oss_endpoint,
        region=given.oss_region,
        custom_domain=given.oss_custom_domain,
        connections=given.connections,
        environ=environ,
    )
    return settings, CredentialChain(environ)


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
    advice = "the OSS endpoint must be a URL like https://oss-cn-hangzhou.aliyuncs.com, with no path"
    origin, path = split_endpoint(settings.endpoint, advice)
    if path:
        raise UsageError(advice)
    if settings.custom_domain:
        return origin
    if _ADDRESS.fullmatch(origin.host):
        raise UsageError(
            f"OSS endpoint {origin.host}: OSS wants the bucket's name in the host, and an address has no room for it",
            hint="write the endpoint's name",
        )
    return Origin(origin.scheme, f"{bucket}.{origin.host}", origin.port)
