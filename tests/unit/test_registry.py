"""What URLs name, and which are refused before anything is contacted."""

from __future__ import annotations

import msgspec
import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import AsyncCopyError, Unreachable, UsageError
from asynccopy.storage.limited import LimitedSource
from asynccopy.storage.registry import Settings, open_destination, open_source

ENDPOINT = Settings(s3_endpoint="http://127.0.0.1:9", s3_region="us-east-1")


@pytest.mark.parametrize(
    "url",
    [
        "webhdfs://",
        "webhdfs:///data",
        "webhdfs://:9870/data",
        "webhdfs://nn:0/data",
        "webhdfs://nn:65536/data",
        "webhdfs://nn:99999999/data",
        "webhdfs://nn:x/data",
        "webhdfs://nn:-1/data",
        "webhdfs://nn:98 70/data",
        "webhdfs://n n/data",
        "webhdfs://nn\r\nX: y/data",
        "webhdfs://user@nn:9870/data",
        "webhdfs://user:secret@nn:9870/data",
        "webhdfs://[::1/data",
        "webhdfs://::1/data",
        "webhdfs://nn:9870/a/../b",
        "webhdfs://nn:9870/./b",
        "hdfs://nameservice/data",
        "s3://",
        "s3://key:secret@bucket/x",
        "oss://",
        "oss://key:secret@bucket/x",
        "ftp://host/x",
        "http://nn:9870/webhdfs/v1/data",
        "gs://bucket/x",
    ],
)
def test_refused_sources(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_source(url, Settings())
    assert "secret" not in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///key",
        "s3://a",
        "s3://under score!/x",
        "s3://b\n/x",
        "webhdfs://u@nn/x",
        "webhdfs://nn/a,b",
        "hdfs://n/x",
        "x://y",
    ],
)
def test_refused_destinations(url: str) -> None:
    with pytest.raises(UsageError):
        open_destination(url, ENDPOINT)


@pytest.mark.parametrize(
    "endpoint", ["nn:9870", "ftp://h", "http://", "http://h:99999", "http://u:secret@h", "http://h?x=1"]
)
def test_refused_endpoints(endpoint: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_destination("s3://bucket/x", Settings(s3_endpoint=endpoint))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "normal", "name"),
    [
        ("webhdfs://nn/data", "webhdfs://nn:9870/data", "data"),
        ("WebHDFS://nn:1/data/", "webhdfs://nn:1/data", "data"),
        ("webhdfs://nn", "webhdfs://nn:9870/", ""),
        ("webhdfs://nn//a///b//", "webhdfs://nn:9870/a/b", "b"),
        ("webhdfs://nn/a%20b?c#d", "webhdfs://nn:9870/a%20b?c#d", "a%20b?c#d"),
        ("swebhdfs://nn/data", "swebhdfs://nn:9871/data", "data"),
    ],
)
async def test_hdfs_urls(url: str, normal: str, name: str) -> None:
    source = open_source(url, Settings(cluster=Cluster(user="me")))
    assert (source.url, source.name) == (normal, name)
    await source.aclose()


async def test_keys_are_made_of_a_prefix_and_the_whole_path() -> None:
    """Two paths never share a key: the prefix is one and the same, the rest is the path itself."""
    for url, prefix in (
        ("s3://bucket", ""),
        ("s3://bucket/", ""),
        ("s3://bucket/p", "p/"),
        ("s3://bucket/p/q/", "p/q/"),
    ):
        destination = open_destination(url, ENDPOINT)
        assert destination.prefix == prefix
        await destination.aclose()


async def test_hdfs_as_a_destination_has_its_root_in_the_url() -> None:
    destination = open_destination("WebHDFS://nn//a///b c/", Settings(cluster=Cluster(user="me")))
    assert (destination.url, destination.prefix) == ("webhdfs://nn:9870/a/b c", "")
    await destination.aclose()


async def test_bandwidth_wraps_a_source() -> None:
    source = open_source("webhdfs://nn/x", Settings(bandwidth=1000.0, cluster=Cluster(user="me")))
    assert isinstance(source, LimitedSource)
    await source.aclose()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "."])
async def test_a_host_that_is_none_is_unreachable_and_nothing_foreign(host: str) -> None:
    source = open_source(f"webhdfs://{host}:9870/x", Settings(cluster=Cluster(user="me")))
    with pytest.raises(AsyncCopyError) as raised:
        await source.check()
    assert isinstance(raised.value, Unreachable)
    await source.aclose()


@pytest.mark.parametrize("url", ["s3://bucket/x", "oss://bucket/x", "/tmp/x", "file:///tmp/x"])
def test_only_hdfs_preserves(url: str) -> None:
    settings = msgspec.structs.replace(ENDPOINT, preserve=("owner", "times"))
    for opening in (open_source, open_destination):
        with pytest.raises(UsageError, match="from HDFS to HDFS") as raised:
            opening(url, settings)
        assert url in raised.value.message and "owner, times" in raised.value.message
