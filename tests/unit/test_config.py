from __future__ import annotations

import re
from pathlib import Path

import pytest

from asynccopy.config import Config, S3Endpoint, WebHdfsEndpoint, load
from asynccopy.errors import UsageError

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_is_legal_and_documents_every_key() -> None:
    endpoints = load(EXAMPLE).endpoints
    assert {type(endpoint) for endpoint in endpoints.values()} == {WebHdfsEndpoint, S3Endpoint}
    text = EXAMPLE.read_text(encoding="utf-8")
    for kind in (WebHdfsEndpoint, S3Endpoint):
        for key in kind.__struct_fields__:
            assert re.search(rf"^#[^\n]*\n{key} = ", text, re.MULTILINE), f"{key} lacks a comment above it"


def test_locations() -> None:
    config = load(EXAMPLE)
    assert config.endpoint("dc1").location("/warehouse") == "webhdfs://namenode.example:9870/warehouse"
    assert config.endpoint("dc2").location("/") == "webhdfs://nn1.example:9870/"
    assert config.endpoint("lake").location("/a/b") == "s3://data-lake/a/b"


def test_an_unknown_endpoint_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no \[endpoints.dc9\]") as caught:
        load(EXAMPLE).endpoint("dc9")
    assert caught.value.hint.endswith("dc1, dc2, lake")


HDFS = '[endpoints.dc1]\ntype = "webhdfs"\n'
S3 = '[endpoints.lake]\ntype = "s3"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("journal = 1", "unknown key or table `journal`"),
        ("endpoints = 3", "`endpoints` must be a table"),
        ("[endpoints]\ndc1 = 3", "[endpoints.dc1]"),
        ('[endpoints."a b"]\ntype = "s3"\nbucket = "b"', "a name is a letter"),
        ('[endpoints.s3]\ntype = "s3"\nbucket = "b"', "this name is a URL scheme"),
        (f'{HDFS}url = "webhdfs://nn:1"\nulr = "x"', "unknown key `ulr`"),
        (f"{HDFS}url = 5", "`url`: Expected `str | null`, got `int`"),
        (HDFS, "exactly one of `url` and `urls` is needed"),
        (f'{HDFS}url = "webhdfs://nn:1"\nurls = ["webhdfs://nn:2"]', "exactly one of `url` and `urls` is needed"),
        (f'{HDFS}url = "nn:9870"', "must look like webhdfs://host:port"),
        (f'{S3}endpoint = "https://s3"', "missing key `bucket`"),
        (f'{S3}bucket = "a/b"', "`bucket` is a bucket's name alone"),
        (f'{S3}bucket = "b"\naddressing = "host"', "`addressing`: Invalid enum value 'host'"),
        (f'{S3}bucket = "b"\nendpoint = "s3://x"', "must look like http://host:port"),
        ('[endpoints.x]\ntype = "ftp"', "`type`: Invalid value 'ftp'"),
        ('[endpoints.x]\nurl = "webhdfs://nn:1"', "missing key `type`"),
        ("[endpoints", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_secrets_have_no_place_and_are_not_repeated(tmp_path: Path) -> None:
    for line in ('url = "webhdfs://me:hunter2@nn:9870"', 'url = "webhdfs://nn:9870?delegation=hunter2"'):
        with pytest.raises(UsageError) as caught:
            load(written(tmp_path, HDFS + line))
        assert "hunter2" not in caught.value.message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        load(tmp_path / "latin.toml")


def test_an_empty_file_is_a_configuration(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == Config({}, str(tmp_path / "config.toml"))
