"""Where a bucket is and how it is addressed: as given, else as the variables and files say that AWS tools read."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self

from msgspec import Struct

from asynccopy.config.hadoop import hadoop_configuration
from asynccopy.config.hadoop_stores import s3_addressing, s3_variables
from asynccopy.errors import UsageError
from asynccopy.storage.client import split_endpoint
from asynccopy.storage.pool import Origin
from asynccopy.storage.s3.credentials import CredentialChain
from asynccopy.storage.settings import Settings, bucket_of, environment

Addressing = Literal["auto", "path", "virtual"]

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_HOST_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class S3Settings(Struct, frozen=True):
    """How to talk to a store. Holds no secret.

    ``endpoint``: an http or https URL, None for AWS itself. ``addressing``: where the bucket's name goes, into the path
    or the host; ``auto`` is the path for a custom endpoint and the host for AWS. ``sign_payload``: let the signature
    cover the body too, at the price of a SHA-256; else a checksum alone protects it. ``connections``: so many at most.
    ``ca_file``: PEM certificates to trust instead of the system's.
    """

    endpoint: str | None = None
    region: str = "us-east-1"
    addressing: Addressing = "auto"
    sign_payload: bool = False
    connections: int = 1024
    ca_file: str | None = None

    @classmethod
    def from_environment(
        cls,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        addressing: Addressing = "auto",
        sign_payload: bool = False,
        connections: int = 1024,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """What is not given comes from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_REGION or AWS_DEFAULT_REGION,
        AWS_CA_BUNDLE, else from the profile. Raises UsageError for a configuration file that cannot be read.
        """
        profile = _profile(environ)
        return cls(
            endpoint=endpoint
            or environ.get("AWS_ENDPOINT_URL_S3")
            or environ.get("AWS_ENDPOINT_URL")
            or profile.get("endpoint_url"),
            region=region
            or environ.get("AWS_REGION")
            or environ.get("AWS_DEFAULT_REGION")
            or profile.get("region")
            or "us-east-1",
            addressing=addressing,
            sign_payload=sign_payload,
            connections=connections,
            ca_file=environ.get("AWS_CA_BUNDLE") or profile.get("ca_bundle"),
        )


def known(url: str, given: Settings) -> tuple[S3Settings, CredentialChain]:
    """What is given, the environment and Hadoop's configuration say of a bucket. Raises UsageError."""
    conf, bucket = hadoop_configuration(), bucket_of(url)
    environ = environment(conf, bucket, s3_variables)
    settings = S3Settings.from_environment(
        endpoint=given.s3_endpoint,
        region=given.s3_region,
        addressing=given.s3_addressing or (conf and s3_addressing(conf, bucket)) or "auto",
        sign_payload=given.sign_payload,
        connections=given.connections,
        environ=environ,
    )
    return settings, CredentialChain(environ)


def _profile(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The chosen profile's section of the AWS configuration file, empty when there is none."""
    path = Path(os.path.expanduser(environ.get("AWS_CONFIG_FILE", "~/.aws/config")))  # noqa: PTH111 - Path's raises
    name = environ.get("AWS_PROFILE", "default")
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a readable AWS configuration file") from error
    for section in (f"profile {name}", name):
        if parser.has_section(section):
            return dict(parser.items(section))
    return {}


def place(settings: S3Settings) -> str:
    """Which store it is, whatever the bucket. Raises UsageError for an endpoint that cannot be one."""
    origin, path = _endpoint(settings)
    return f"{origin}{path} {settings.region}"


class Address(Struct, frozen=True):
    """Where the requests for one bucket go: the server, and what precedes each key in the path."""

    origin: Origin
    root: str

    @classmethod
    def of(cls, bucket: str, settings: S3Settings) -> Self:
        """Raises UsageError for an endpoint or a bucket name that cannot be one."""
        if not _BUCKET.fullmatch(bucket):
            raise UsageError(f"s3://{bucket}: not a bucket name")
        origin, path = _endpoint(settings)
        in_host = settings.addressing == "virtual"
        if settings.addressing == "auto":
            # A dot in the name would not match the certificate's wildcard, an upper-case letter no host name.
            in_host = settings.endpoint is None and _HOST_LABEL.fullmatch(bucket) is not None
        if in_host:
            return cls(Origin(origin.scheme, f"{bucket}.{origin.host}", origin.port), f"{path}/")
        return cls(origin, f"{path}/{bucket}/")


def _endpoint(settings: S3Settings) -> tuple[Origin, str]:
    if settings.endpoint is None:
        suffix = "amazonaws.com.cn" if settings.region.startswith("cn-") else "amazonaws.com"
        return Origin("https", f"s3.{settings.region}.{suffix}", 443), ""
    return split_endpoint(
        settings.endpoint, "the S3 endpoint must be a URL like https://host:port, without credentials or query"
    )
