"""Both sides in memory, for tests: strict about what the contracts say, and quick."""

from asynccopy.storage.memory.destination import MemoryDestination
from asynccopy.storage.memory.source import MemorySource

__all__ = ["MemoryDestination", "MemorySource"]
