"""Whether a store leaves what is there alone when a request asks it to, found out by trying."""

from __future__ import annotations

from asynccopy.errors import AlreadyThere
from asynccopy.model import PartReceipt
from asynccopy.storage.client import BucketClient
from asynccopy.storage.dialect import Dialect
from asynccopy.storage.documents import plain_etag
from asynccopy.storage.http import Headers

_BODY = b"asynccopy asks whether this store overwrites"


async def overwrites(client: BucketClient, dialect: Dialect, key: str, kept: Headers) -> bool:
    """Whether a PUT or a Complete replaces an object though it must not; ``kept`` goes with every object.

    Only an object can show that, so one is there for a moment: the one thing of a probe that is visible.
    """
    condition = [dialect.absent]
    try:
        for _ in range(2):  # the first makes it, unless a probe that was killed left one
            await client.request("PUT", key, headers=[*kept, *condition])
    except AlreadyThere:
        return await _completes(client, dialect, key, kept)
    else:
        return True
    finally:
        await client.request("DELETE", key)


async def _completes(client: BucketClient, dialect: Dialect, key: str, kept: Headers) -> bool:
    """The same of a Complete: radosgw heeds the condition of a PUT, and passes over that of a Complete."""
    upload_id = await client.begin(key, kept)
    try:
        sent = await client.request("PUT", key, [("partNumber", "1"), ("uploadId", upload_id)], body=_BODY)
        part = PartReceipt(1, 0, len(_BODY), plain_etag(sent.headers.get("etag")), 0)
        response = await client.complete(key, upload_id, [dialect.absent], dialect.write_completion([part]))
        dialect.read_completion(response, client.subject(key))
    except AlreadyThere:
        return False
    finally:
        await client.abort(key, upload_id)
    return True
