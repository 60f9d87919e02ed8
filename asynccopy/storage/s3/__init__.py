"""Amazon S3 and every store that speaks its protocol, written to as a ``Destination``."""

from asynccopy.storage.s3.destination import S3Destination
from asynccopy.storage.s3.settings import S3Settings

__all__ = ["S3Destination", "S3Settings"]
