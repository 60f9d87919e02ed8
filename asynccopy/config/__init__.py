"""The configuration file: endpoints, mirrors, the daemon, webhooks.

Secrets have no place in it but for a webhook's URL, which no message and no repr shows.
"""

from __future__ import annotations

from asynccopy.config.changes import LIVE, Changes, changed
from asynccopy.config.endpoints import Endpoint, OssEndpoint, S3Endpoint, WebHdfsEndpoint
from asynccopy.config.file import Config, load, parse, read_secret, state_directory
from asynccopy.config.places import split_place
from asynccopy.config.tables import Daemon, MirrorConfig, Secret, WebhookConfig

__all__ = [
    "LIVE",
    "Changes",
    "Config",
    "Daemon",
    "Endpoint",
    "MirrorConfig",
    "OssEndpoint",
    "S3Endpoint",
    "Secret",
    "WebHdfsEndpoint",
    "WebhookConfig",
    "changed",
    "load",
    "parse",
    "read_secret",
    "split_place",
    "state_directory",
]
