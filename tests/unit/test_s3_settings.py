"""Where requests go: endpoints, addressing, regions, and whence they are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from asynccopy.errors import NameRefused, UsageError
from asynccopy.storage.s3 import S3Destination, S3Settings
from asynccopy.storage.s3.settings import Address


def _where(bucket: str, settings: S3Settings) -> str:
    address = Address.of(bucket, settings)
    return f"{address.origin}{address.root}"


@pytest.mark.parametrize(
    ("bucket", "settings", "expected"),
    [
        ("lake", S3Settings(), "https://lake.s3.us-east-1.amazonaws.com/"),
        ("lake", S3Settings(region="cn-north-1"), "https://lake.s3.cn-north-1.amazonaws.com.cn/"),
        ("lake", S3Settings(addressing="path"), "https://s3.us-east-1.amazonaws.com/lake/"),
        ("lake.logs", S3Settings(), "https://s3.us-east-1.amazonaws.com/lake.logs/"),
        ("Lake", S3Settings(), "https://s3.us-east-1.amazonaws.com/Lake/"),
        ("lake", S3Settings(endpoint="http://gw:9000"), "http://gw:9000/lake/"),
        ("lake", S3Settings(endpoint="https://gw/s3/"), "https://gw/s3/lake/"),
        ("lake", S3Settings(endpoint="https://gw", addressing="virtual"), "https://lake.gw/"),
    ],
)
def test_the_bucket_goes_into_host_or_path(bucket: str, settings: S3Settings, expected: str) -> None:
    assert _where(bucket, settings) == expected


@pytest.mark.parametrize(
    "endpoint", ["gw:9000", "ftp://gw", "http://", "http://u:p@gw", "http://gw?x=1", "http://gw:x"]
)
def test_an_endpoint_that_cannot_be_one(endpoint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address.of("lake", S3Settings(endpoint=endpoint))
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "normalised", "prefix"),
    [
        ("s3://lake", "s3://lake", ""),
        ("s3://lake/", "s3://lake", ""),
        ("s3://lake/a/b//", "s3://lake/a/b", "a/b/"),
        ("s3://lake/50%?#x", "s3://lake/50%?#x", "50%?#x/"),
    ],
)
def test_the_url_is_normalised(url: str, normalised: str, prefix: str) -> None:
    destination = S3Destination(url, settings=S3Settings())
    assert (destination.url, destination.prefix) == (normalised, prefix)


@pytest.mark.parametrize(
    "url",
    ["lake", "s3a://lake", "s3://", "s3://a", "s3://u:secret@lake/x", "s3a://u:secret@lake", "s3:///x", "s3://la ke"],
)
def test_a_url_that_cannot_be_one(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Destination(url, settings=S3Settings())
    assert "secret" not in str(caught.value)


def test_a_prefix_that_leaves_no_room_for_names() -> None:
    with pytest.raises(NameRefused):
        S3Destination("s3://lake/" + "x" * 1024, settings=S3Settings())


def test_what_is_given_wins_over_variables_and_these_over_the_profile(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[default]\nregion = eu-north-1\ns3 =\n  max_concurrent_requests = 20\n"
        "[profile lab]\nregion = eu-south-1\nendpoint_url = http://profile:1\n"
    )
    environ = {"AWS_CONFIG_FILE": str(config)}
    read = S3Settings.from_environment
    assert read(environ=environ).region == "eu-north-1"
    assert read(environ=environ).endpoint is None
    environ["AWS_PROFILE"] = "lab"
    assert (read(environ=environ).region, read(environ=environ).endpoint) == ("eu-south-1", "http://profile:1")
    environ |= {"AWS_DEFAULT_REGION": "us-west-1", "AWS_ENDPOINT_URL": "http://all:1"}
    assert (read(environ=environ).region, read(environ=environ).endpoint) == ("us-west-1", "http://all:1")
    environ |= {"AWS_REGION": "us-west-2", "AWS_ENDPOINT_URL_S3": "http://s3:1"}
    assert (read(environ=environ).region, read(environ=environ).endpoint) == ("us-west-2", "http://s3:1")
    given = read(region="r", endpoint="http://given:1", environ=environ)
    assert (given.region, given.endpoint) == ("r", "http://given:1")


def test_without_anything_it_is_aws_in_its_first_region(tmp_path: Path) -> None:
    assert S3Settings.from_environment(environ={"AWS_CONFIG_FILE": str(tmp_path / "none")}) == S3Settings()


def test_a_broken_configuration_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("no section\n")
    with pytest.raises(UsageError, match="config"):
        S3Settings.from_environment(environ={"AWS_CONFIG_FILE": str(config)})
