"""Alibaba Cloud OSS by its own API, written to as a ``Destination``."""

from asynccopy.storage.oss.destination import OssDestination
from asynccopy.storage.oss.settings import OssSettings

__all__ = ["OssDestination", "OssSettings"]
