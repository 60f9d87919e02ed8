"""Alibaba Cloud OSS by its own API, written to as a ``Destination`` and read as a ``Source``."""

from asynccopy.storage.oss.destination import OssDestination
from asynccopy.storage.oss.settings import OssSettings
from asynccopy.storage.oss.source import OssSource

__all__ = ["OssDestination", "OssSettings", "OssSource"]
