"""What CopyObject and UploadPartCopy of the simulated S3 begin with: which object, on which condition, which bytes."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from asynccopy.simulators.s3_request import Request
from asynccopy.simulators.sigv4 import S3Error
from asynccopy.simulators.store import Body, Bucket, Incoming, Place, StoredObject, take


def original(request: Request, buckets: Mapping[str, Bucket], *, weak: bool) -> StoredObject:
    """The object that ``x-amz-copy-source`` names; ``weak``: whatever ``x-amz-copy-source-if-match`` says."""
    source = unquote(request.header("x-amz-copy-source"), errors="surrogateescape").removeprefix("/")
    bucket_name, _, key = source.partition("/")
    bucket = buckets.get(bucket_name)
    if bucket is None:
        raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
    stored = bucket.objects.get(key)
    if stored is None:
        raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
    if bucket_name == request.bucket_name and key == request.key:
        raise S3Error(400, "InvalidRequest", "This copy request is illegal because it copies an object to itself.")
    wanted = request.header("x-amz-copy-source-if-match")
    if wanted and not weak and wanted.strip('"') != stored.etag.strip('"'):
        raise S3Error(412, "PreconditionFailed", "At least one of the preconditions you specified did not hold.")
    return stored


async def copied(stored: StoredObject, start: int, stop: int, place: Place, *, md5: bool) -> Body:
    """The bytes of a range once more, with their digests."""
    if place.discard and stored.size:
        raise S3Error(501, "NotImplemented", "the simulator was told to discard bodies")
    return await take(Incoming(place, md5=md5), stored.read(start, stop - start), lambda body: None)


def described(
    request: Request, stored: StoredObject, headers: dict[str, str], tags: dict[str, str], own: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and tags of an object's copy, out of those that were asked for: the original's, unless REPLACE is said.

    ``own``: what headers begin with that a copy never takes over.
    """
    directive = request.copy_source.removesuffix("copy-source")
    if request.header(f"{directive}metadata-directive").upper() != "REPLACE":
        inherited = {name: value for name, value in stored.headers.items() if not name.startswith(own)}
        headers = inherited | {name: value for name, value in headers.items() if name.startswith(own)}
    if request.header(f"{directive}tagging-directive").upper() != "REPLACE":
        tags = dict(stored.tags)
    return headers, tags
