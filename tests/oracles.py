"""The official SDK of Alibaba OSS, as a second opinion on signatures, encodings and answers; never on the data path."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import alibabacloud_oss_v2 as sdk
import pytest
from alibabacloud_oss_v2.retry import NopRetryer


def oss_client(
    endpoint: str,
    access_key: str,
    secret_key: str,
    *,
    token: str | None = None,
    region: str = "cn-hangzhou",
    **more: Any,
) -> sdk.Client:
    """A client of the SDK's, which signs by version 4 and does not repeat what failed."""
    config = sdk.config.load_default()
    config.credentials_provider = sdk.credentials.StaticCredentialsProvider(access_key, secret_key, token)
    config.region = region
    config.endpoint = endpoint
    config.retryer = NopRetryer()
    for name, value in more.items():
        setattr(config, name, value)
    return sdk.Client(config)


def error_of(caught: pytest.ExceptionInfo[sdk.exceptions.OperationError]) -> sdk.exceptions.ServiceError:
    """What the server said, out of what the SDK raised."""
    found = caught.value.unwrap()
    assert isinstance(found, sdk.exceptions.ServiceError), found
    return found


@contextmanager
def resolving(zone: str) -> Iterator[None]:
    """Every host name under the zone is this machine, whatever the resolver of the system makes of it."""
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if name and name.endswith(f".{zone}") else host, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield
