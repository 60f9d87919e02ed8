"""A plain directory, read as a file system or written as a store."""

from asynccopy.storage.local.destination import LocalDestination
from asynccopy.storage.local.source import LocalSource

__all__ = ["LocalDestination", "LocalSource"]
