"""Amazon S3 and every store that speaks its protocol, written to as a ``Destination`` and read as a ``Source``."""

from asynccopy.storage.s3.destination import S3Destination
from asynccopy.storage.s3.settings import S3Settings
from asynccopy.storage.s3.source import S3Source

__all__ = ["S3Destination", "S3Settings", "S3Source"]
