"""Where OSS requests go: endpoints, regions, and whence they are taken."""

from __future__ import annotations

import pytest

from asynccopy.errors import NameRefused, UsageError
from asynccopy.storage.oss import OssDestination, OssSettings
from asynccopy.storage.oss.settings import origin_of
from asynccopy.storage.registry import Settings, open_destination


@pytest.mark.parametrize(
    ("given", "environ", "origin", "region"),
    [
        ({"region": "cn-hangzhou"}, {}, "https://lake.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ({"region": "oss-cn-hangzhou"}, {}, "https://lake.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ({}, {"OSS_REGION": "us-west-1"}, "https://lake.oss-us-west-1.aliyuncs.com", "us-west-1"),
        (
            {"endpoint": "oss-cn-shanghai-internal.aliyuncs.com"},
            {},
            "https://lake.oss-cn-shanghai-internal.aliyuncs.com",
            "cn-shanghai",
        ),
        (
            {},
            {"OSS_ENDPOINT": "http://oss-cn-beijing.aliyuncs.com/", "OSS_REGION": ""},
            "http://lake.oss-cn-beijing.aliyuncs.com",
            "cn-beijing",
        ),
        (
            {"endpoint": "https://oss-accelerate.aliyuncs.com"},
            {"OSS_REGION": "cn-hangzhou"},
            "https://lake.oss-accelerate.aliyuncs.com",
            "cn-hangzhou",
        ),
        (
            {"endpoint": "https://data.example.com:8443", "region": "cn-hangzhou", "custom_domain": True},
            {"OSS_ENDPOINT": "ignored", "OSS_REGION": "ignored"},
            "https://data.example.com:8443",
            "cn-hangzhou",
        ),
    ],
)
def test_the_bucket_goes_into_the_host(
    given: dict[str, object], environ: dict[str, str], origin: str, region: str
) -> None:
    settings = OssSettings.from_environment(**given, environ=environ)  # type: ignore[arg-type]
    assert (str(origin_of("lake", settings)), settings.region) == (origin, region)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OSS_ENDPOINT": "https://oss-accelerate.aliyuncs.com"},
        {"OSS_ENDPOINT": "https://oss-accelerate-overseas.aliyuncs.com"},
        {"OSS_ENDPOINT": "https://data.example.com"},
        {"OSS_REGION": "cn hangzhou"},
        {"OSS_REGION": "cn-hangzhou/x"},
    ],
)
def test_a_region_that_is_not_known(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        OssSettings.from_environment(environ=environ)
    assert "OSS_REGION" in caught.value.hint


@pytest.mark.parametrize(
    "endpoint",
    [
        *["ftp://h", "http://", "http://h:99999", "http://u:secret@h", "https://h?x=1", "https://h/path", "h:x"],
        *["http://127.0.0.1:80", "http://[::1]:80"],
    ],
)
def test_an_endpoint_that_cannot_be_one(endpoint: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_destination("oss://bucket/x", Settings(oss_endpoint=endpoint, oss_region="cn-hangzhou"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *["oss://", "oss:///key", "oss://ab", "oss://Upper/x", "oss://a.b.c/x", "oss://-ab/x", "oss://under_score/x"],
        *["oss://key:secret@bucket/x", "oss://b\n/x"],
    ],
)
def test_a_bucket_that_cannot_be_one(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_destination(url, Settings(oss_region="cn-hangzhou"))
    assert "secret" not in str(caught.value)


async def test_prefixes_are_literal() -> None:
    settings = OssSettings.from_environment(region="cn-hangzhou", environ={})
    for url, prefix in (("oss://bucket", ""), ("oss://bucket//p%20?/q#/", "p%20?/q#/")):
        destination = OssDestination(url, settings=settings)
        assert destination.prefix == prefix
        await destination.aclose()
    with pytest.raises(NameRefused):
        OssDestination(f"oss://bucket/{'x' * 1020}", settings=settings)


async def test_the_limits_are_those_of_oss() -> None:
    destination = open_destination("oss://bucket/p", Settings(oss_region="cn-hangzhou"))
    limits = destination.limits
    assert (limits.min_part, limits.max_part, limits.max_parts, limits.max_key) == (102_400, 5 << 30, 10_000, 1023)
    assert destination.url == "oss://bucket/p"
    await destination.aclose()
