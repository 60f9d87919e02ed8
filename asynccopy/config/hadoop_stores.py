"""``fs.s3a.*`` and ``fs.oss.*`` of Hadoop's configuration, as the variables that other tools of these stores read.

A variable that is set already goes before them, and one that names other credentials before the keys. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

from asynccopy.config.hadoop import HadoopConfiguration

_S3_CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_OSS_CREDENTIALS: Final = (
    "OSS_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "OSS_CREDENTIAL_PROCESS",
    "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
    "ALIBABA_CLOUD_CREDENTIALS_URI",
    "ALIBABA_CLOUD_ECS_METADATA",
)
_AWS_HOST: Final = re.compile(r"(?:https?://)?s3(?:[.-](?P<region>[a-z]{2}-[a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?/?\Z")

Warn = Callable[[str], None]
"""Told in a sentence what of the configuration cannot be used."""


def s3_variables(conf: HadoopConfiguration, bucket: str, environ: Mapping[str, str], warn: Warn) -> dict[str, str]:
    """The variables that S3A's keys stand for and ``environ`` does not say, by bucket where the keys are."""
    said = _Keys(conf, "s3a", bucket)
    found: dict[str, str] = {}
    endpoint, region = said("endpoint"), said("endpoint.region")
    aws = _AWS_HOST.match(endpoint)
    if aws is not None:
        region = region or aws["region"] or ""
    elif endpoint and not any(environ.get(each) for each in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")):
        plain = said("connection.ssl.enabled").lower() == "false"
        found["AWS_ENDPOINT_URL_S3"] = endpoint if "://" in endpoint else f"http{'' if plain else 's'}://{endpoint}"
    if region and not any(environ.get(each) for each in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        found["AWS_REGION"] = region
    if not any(environ.get(each) for each in _S3_CREDENTIALS):
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        found |= said.credentials(names, ("access.key", "secret.key", "session.token"), warn)
    return found


def s3_addressing(conf: HadoopConfiguration, bucket: str) -> Literal["path", "virtual"] | None:
    """What ``path.style.access`` asks for, None where it is not set."""
    told = _Keys(conf, "s3a", bucket)("path.style.access").lower()
    return {"true": "path", "false": "virtual"}.get(told)  # type: ignore[return-value]  # these two it is


def oss_variables(conf: HadoopConfiguration, bucket: str, environ: Mapping[str, str], warn: Warn) -> dict[str, str]:
    """The same of OSS, whose keys EMR has by bucket too."""
    said = _Keys(conf, "oss", bucket)
    found = {
        name: value
        for name, key in (("OSS_ENDPOINT", "endpoint"), ("OSS_REGION", "region"))
        if (value := said(key)) and not environ.get(name)
    }
    if environ.get("OSS_REGION"):
        found.pop("OSS_ENDPOINT", None)  # the region has one of its own, and the other may be another region's
    if not any(environ.get(each) for each in _OSS_CREDENTIALS):
        names = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN")
        found |= said.credentials(names, ("accessKeyId", "accessKeySecret", "securityToken"), warn)
    return found


class _Keys:
    """``fs.s3a.bucket.B.NAME``, else ``fs.s3a.NAME``."""

    def __init__(self, conf: HadoopConfiguration, store: str, bucket: str) -> None:
        self._conf, self._prefixes = conf, (f"fs.{store}.bucket.{bucket}.", f"fs.{store}.")
        self._store = store

    def __call__(self, key: str) -> str:
        for prefix in self._prefixes:
            if value := self._conf.get(prefix + key):
                return value
        return ""

    def credentials(self, names: tuple[str, ...], keys: tuple[str, ...], warn: Warn) -> dict[str, str]:
        """Key, secret and token where the first two are there."""
        values = [self(key) for key in keys]
        if values[0] and values[1]:
            return {name: value for name, value in zip(names, values, strict=True) if value}
        kept = self("security.credential.provider.path") or self._conf.get("hadoop.security.credential.provider.path")
        java = self("aws.credentials.provider" if self._store == "s3a" else "credentials.provider")
        instead = f"set {names[0]} and {names[1]}, or another way to get credentials, if the default ones do not do"
        if kept:
            warn(
                f"{self._conf.where}: keys of fs.{self._store}.* in {kept}, a Java key store, cannot be read: {instead}"
            )
        elif java:
            warn(f"{self._conf.where}: fs.{self._store}: the Java class {java} is not run here: {instead}")
        return {}
