"""``fs.s3a.*`` and ``fs.oss.*`` of Hadoop's configuration."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from asynccopy.config.hadoop import HadoopConfiguration, Property
from asynccopy.config.hadoop_stores import oss_variables, s3_addressing, s3_variables
from asynccopy.storage.oss.destination import OssDestination
from asynccopy.storage.registry import Settings, open_destination
from asynccopy.storage.s3.destination import S3Destination

KEYS = {"fs.s3a.access.key": "AK", "fs.s3a.secret.key": "canary-secret"}
S3 = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "canary-secret"}
OSS_KEYS = {"fs.oss.accessKeyId": "AK", "fs.oss.accessKeySecret": "canary-secret", "fs.oss.securityToken": "T"}
OSS = {"OSS_ACCESS_KEY_ID": "AK", "OSS_ACCESS_KEY_SECRET": "canary-secret", "OSS_SESSION_TOKEN": "T"}


def conf(values: dict[str, str]) -> HadoopConfiguration:
    return HadoopConfiguration(iter([Property(name, value) for name, value in values.items()]), "/conf", {})


@pytest.mark.parametrize(
    ("values", "environ", "found"),
    [
        (KEYS, {}, S3),
        (KEYS | {"fs.s3a.session.token": "T"}, {}, S3 | {"AWS_SESSION_TOKEN": "T"}),
        (KEYS | {"fs.s3a.bucket.b.access.key": "B"}, {}, S3 | {"AWS_ACCESS_KEY_ID": "B"}),
        (KEYS | {"fs.s3a.bucket.other.access.key": "O"}, {}, S3),
        (KEYS, {"AWS_ACCESS_KEY_ID": "mine"}, {}),
        (KEYS, {"AWS_PROFILE": "mine"}, {}),
        ({"fs.s3a.access.key": "AK"}, {}, {}),
        ({"fs.s3a.endpoint": "s3.store:9000"}, {}, {"AWS_ENDPOINT_URL_S3": "https://s3.store:9000"}),
        ({"fs.s3a.endpoint": "http://s3.store"}, {}, {"AWS_ENDPOINT_URL_S3": "http://s3.store"}),
        (
            {"fs.s3a.endpoint": "s3.store", "fs.s3a.connection.ssl.enabled": "false"},
            {},
            {"AWS_ENDPOINT_URL_S3": "http://s3.store"},
        ),
        ({"fs.s3a.endpoint": "s3.store"}, {"AWS_ENDPOINT_URL": "http://mine"}, {}),
        ({"fs.s3a.endpoint": "s3.amazonaws.com"}, {}, {}),
        ({"fs.s3a.endpoint": "s3.eu-west-1.amazonaws.com"}, {}, {"AWS_REGION": "eu-west-1"}),
        ({"fs.s3a.endpoint.region": "eu-west-2"}, {}, {"AWS_REGION": "eu-west-2"}),
        ({"fs.s3a.endpoint.region": "eu-west-2"}, {"AWS_DEFAULT_REGION": "mine"}, {}),
    ],
)
def test_s3(values: dict[str, str], environ: dict[str, str], found: dict[str, str]) -> None:
    warned: list[str] = []
    assert s3_variables(conf(values), "b", environ, warned.append) == found
    assert warned == []


def test_addressing() -> None:
    for text, addressing in (("true", "path"), ("false", "virtual"), ("", None)):
        assert s3_addressing(conf({"fs.s3a.bucket.b.path.style.access": text}), "b") == addressing


@pytest.mark.parametrize(
    ("values", "environ", "found"),
    [
        (OSS_KEYS, {}, OSS),
        (OSS_KEYS, {"ALIBABA_CLOUD_ACCESS_KEY_ID": "mine"}, {}),
        ({"fs.oss.endpoint": "oss-cn-x.aliyuncs.com"}, {}, {"OSS_ENDPOINT": "oss-cn-x.aliyuncs.com"}),
        ({"fs.oss.endpoint": "oss-cn-x.aliyuncs.com"}, {"OSS_ENDPOINT": "mine"}, {}),
        ({"fs.oss.endpoint": "oss-cn-x.aliyuncs.com"}, {"OSS_REGION": "cn-y"}, {}),
        ({"fs.oss.bucket.b.endpoint": "e"}, {}, {"OSS_ENDPOINT": "e"}),
    ],
)
def test_oss(values: dict[str, str], environ: dict[str, str], found: dict[str, str]) -> None:
    warned: list[str] = []
    assert oss_variables(conf(values), "b", environ, warned.append) == found
    assert warned == []


def test_what_only_java_can_read_is_told() -> None:
    for name, value, says in (
        ("hadoop.security.credential.provider.path", "jceks://hdfs/keys.jceks", "jceks://hdfs/keys.jceks"),
        ("fs.s3a.aws.credentials.provider", "com.example.Vault", "Java class com.example.Vault"),
    ):
        warned: list[str] = []
        assert s3_variables(conf({name: value}), "b", {}, warned.append) == {}
        assert len(warned) == 1
        assert says in warned[0]
        assert s3_variables(conf({name: value} | KEYS), "b", {}, warned.append) == S3
        assert s3_variables(conf({name: value}), "b", {"AWS_PROFILE": "p"}, warned.append) == {}
        assert len(warned) == 1


async def test_a_store_is_opened_by_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = KEYS | {
        "fs.s3a.bucket.bucket.endpoint": "http://s3.store:9000",
        "fs.oss.endpoint": "oss-cn-x.aliyuncs.com",
    }
    lines = [f"<property><name>{name}</name><value>{value}</value></property>" for name, value in values.items()]
    (tmp_path / "core-site.xml").write_text(f"<configuration>{''.join(lines)}</configuration>")
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    for name in ("OSS_REGION", "OSS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    async with aclosing(open_destination("s3://bucket/x", Settings())) as destination:
        assert isinstance(destination, S3Destination)
        assert str(destination._client.origin) == "http://s3.store:9000"
        assert (await destination._client._credentials.current()).access_key == "AK"
    async with aclosing(open_destination("s3://bucket/x", Settings(s3_endpoint="http://ours:1"))) as destination:
        assert isinstance(destination, S3Destination)
        assert str(destination._client.origin) == "http://ours:1"  # our own configuration goes before
    async with aclosing(open_destination("oss://bucket/x", Settings())) as destination:
        assert isinstance(destination, OssDestination)
        assert destination._client.origin.host == "bucket.oss-cn-x.aliyuncs.com"
