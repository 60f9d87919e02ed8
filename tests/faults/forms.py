"""The forms in which a server may send a file's bytes; the simulators' own is the first."""

from __future__ import annotations

from typing import Literal

import pytest
from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter

Form = Literal["declared", "chunked", "HTTP/1.0"]
FORMS: tuple[Form, ...] = ("declared", "chunked", "HTTP/1.0")


def speak(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on simulators send files so: with their length, in chunks, or up to the end of the connection."""
    if form == "declared":
        return
    prepare = web.StreamResponse.prepare

    async def unsized(response: web.StreamResponse, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if response.status == 200 and response.headers.get("Content-Type") == "application/octet-stream":
            response.headers.pop("Content-Length", None)
            if form == "chunked":
                response.enable_chunked_encoding()
            else:
                response.force_close()
                request._version = HttpVersion10  # a body held whole is sent with its length all the same
        return await prepare(response, request)

    monkeypatch.setattr(web.StreamResponse, "prepare", unsized)
