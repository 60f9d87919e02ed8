"""What is told of a side besides its URL, in plain values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from asynccopy.config.cluster import Cluster
from asynccopy.config.hadoop import HadoopConfiguration
from asynccopy.config.hadoop_stores import Warn
from asynccopy.config.objects import ObjectOptions
from asynccopy.logs import log
from asynccopy.model import Preserved
from asynccopy.storage.interface import Capabilities

Variables = Callable[[HadoopConfiguration, str, Mapping[str, str], Warn], dict[str, str]]
"""What a store's keys in Hadoop's configuration stand for, see ``config.hadoop_stores``."""

Latency = Callable[[float], None]
"""Told in seconds how long a request took."""


class Settings(Struct, frozen=True):
    """What a URL does not say. ``bandwidth``: bytes per second, None for no limit. ``objects``: what a store is to make
    of them. ``preserve``: what an HDFS keeps of another one's files; ``file_checksums``: it tells the checksums of what
    it wrote, see ``model.ObjectMeta``. ``capabilities``: of the destination, where another process has probed it
    already.
    """

    sign_payload: bool = False
    bandwidth: float | None = None
    concurrency: int = 64
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_addressing: Literal["path", "virtual"] | None = None
    oss_endpoint: str | None = None
    oss_region: str | None = None
    oss_custom_domain: bool = False
    objects: ObjectOptions = ObjectOptions()
    cluster: Cluster = Cluster()
    preserve: tuple[Preserved, ...] = ()
    file_checksums: bool = False
    capabilities: Capabilities | None = None

    @property
    def connections(self) -> int:
        """So many at most to one side."""
        return max(16, 2 * self.concurrency)


class Place(Struct, frozen=True):
    """One side, in plain values: as another process can open it."""

    url: str
    settings: Settings


def environment(conf: HadoopConfiguration | None, bucket: str, variables: Variables) -> Mapping[str, str]:
    """The environment, and what Hadoop's configuration adds for a bucket."""
    return os.environ if conf is None else variables(conf, bucket, os.environ, _warn) | os.environ


def _warn(told: str) -> None:
    log.warning("hadoop_credentials", reason=told)


def bucket_of(url: str) -> str:
    """The bucket that a URL names."""
    return url.partition("://")[2].partition("/")[0]
