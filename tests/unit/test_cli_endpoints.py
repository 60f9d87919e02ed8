from __future__ import annotations

import pytest

from asynccopy.cli.endpoints import resolve
from asynccopy.config import parse
from asynccopy.config.cluster import Cluster
from asynccopy.errors import UsageError
from asynccopy.storage.registry import Settings

CONFIG = parse(
    {
        "endpoints": {
            "dc1": {"type": "webhdfs", "url": "webhdfs://nn:9870/", "user": "etl"},
            "lake": {"type": "s3", "bucket": "b", "endpoint": "http://s3:9000", "region": "r", "addressing": "path"},
            "aws": {"type": "s3", "bucket": "c"},
        }
    },
    "config.toml",
)
GIVEN = Settings(concurrency=7, sign_payload=True)


def test_a_name_brings_its_settings_and_keeps_the_others() -> None:
    assert resolve("dc1:/warehouse", CONFIG, GIVEN) == (
        "webhdfs://nn:9870/warehouse",
        Settings(concurrency=7, sign_payload=True, cluster=Cluster(servers=("webhdfs://nn:9870",), user="etl")),
    )
    assert resolve("lake:/a/b", CONFIG, GIVEN) == (
        "s3://b/a/b",
        Settings(concurrency=7, sign_payload=True, s3_endpoint="http://s3:9000", s3_region="r", s3_addressing="path"),
    )
    assert resolve("aws:", CONFIG, GIVEN) == ("s3://c/", GIVEN)


@pytest.mark.parametrize(
    "argument",
    ["webhdfs://nn:9870/a", "s3://bucket/a:/b", "file:///a", "/a/b:/c", "./dc1:/a", "a b:/c", "odd:name/x", "plain"],
)
def test_what_is_no_endpoint_stays_as_it_is(argument: str) -> None:
    assert resolve(argument, CONFIG, GIVEN) == (argument, GIVEN)
    assert resolve(argument, None, GIVEN) == (argument, GIVEN)


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match=r"config.toml: there is no \[endpoints.dc2\]"):
        resolve("dc2:/a", CONFIG, GIVEN)
    with pytest.raises(UsageError, match="there is no --config") as caught:
        resolve("dc1:/a", None, GIVEN)
    assert "./dc1:/a" in caught.value.hint
