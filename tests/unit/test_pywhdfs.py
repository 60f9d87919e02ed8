"""``~/.webhdfs.cfg``: the clusters that pywhdfs and pydistcp know, by their aliases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asynccopy.cli.endpoints import resolve
from asynccopy.config import Config, parse
from asynccopy.config.cluster import Cluster
from asynccopy.config.pywhdfs import aliases
from asynccopy.config.pywhdfs import parse as parse_aliases
from asynccopy.errors import UsageError
from asynccopy.storage.registry import Settings

README = Path(__file__).parent / "pywhdfs" / "readme.json"
"""The example of pywhdfs' documentation, to which that of pydistcp refers."""

LAKE: dict[str, Any] = {
    "clusters": [
        {
            "name": "lake",
            "auth_mechanism": "TKN_GSSAPI",
            "mutual_auth": "REQUIRED",
            "max_concurrency": 64,
            "verify": True,
            "truststore": "/etc/ca.pem",
            "proxy": "etl",
            "timeout": 30,
            "nameservices": [
                {"urls": ["https://a:9871/", "https://b:9871"], "mounts": ["/"]},
                {"urls": ["https://c:9871"], "mounts": ["/warehouse", "/logs/raw"]},
            ],
        },
        {
            "name": "lab",
            "auth_mechanism": "NONE",
            "user": "me",
            "nameservices": [{"urls": ["http://lab:14000"], "mounts": ["/data"]}],
        },
        {
            "name": "far",
            "auth_mechanism": "TOKEN",
            "token": "canary-token",
            "nameservices": [{"urls": ["https://knox:8443/gateway/far"], "mounts": ["/"]}],
        },
    ],
    "configuration": {"logging": {"disable": False, "path": "/tmp/x.log", "level": "info"}},
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "clusters.json"
    path.write_text(json.dumps(LAKE))
    monkeypatch.setenv("WEBHDFS_CONFIG", str(path))
    return path


def test_the_example_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHDFS_CONFIG", str(README))
    url, settings = resolve("prod:/data", None, Settings())
    assert url == "webhdfs://first_namenode_url:50070/data"
    servers = ("webhdfs://first_namenode_url:50070", "webhdfs://second_namenode_url:50070")
    assert settings.cluster == Cluster(servers=servers, auth="kerberos")


def test_the_longest_mount_and_every_mechanism(file: Path) -> None:
    def cluster(argument: str) -> tuple[str, Cluster]:
        url, settings = resolve(argument, None, Settings())
        return url, settings.cluster

    secure = {"doas": "etl", "auth": "kerberos", "mutual": True, "ca_file": "/etc/ca.pem"}
    both = ("swebhdfs://a:9871", "swebhdfs://b:9871")
    assert cluster("lake:/w") == ("swebhdfs://a:9871/w", Cluster(servers=both, **secure))
    one = Cluster(servers=("swebhdfs://c:9871",), **secure)
    assert cluster("lake:/warehouse/x") == ("swebhdfs://c:9871/warehouse/x", one)
    assert cluster("lake:/logs/raw") == ("swebhdfs://c:9871/logs/raw", one)
    assert cluster("lake:/logs/rawer")[1].servers == both
    lab = Cluster(servers=("webhdfs://lab:14000",), user="me", auth="simple")
    assert cluster("lab:/data/x") == ("webhdfs://lab:14000/data/x", lab)
    far = Cluster(servers=("swebhdfs://knox:8443/gateway/far",), auth="token", token="canary-token")
    assert cluster("far:/x") == ("swebhdfs://knox:8443/gateway/far/x", far)
    assert "canary" not in repr(far)
    for argument, why in (
        ("lake:/", "spans the mounts /warehouse, /logs/raw"),
        ("lake:/logs", "spans the mounts /logs/raw"),
        ("lab:/other", "below none of its mounts"),
        ("nowhere:/x", "there is no --config"),
    ):
        with pytest.raises(UsageError, match=why):
            resolve(argument, None, Settings())


def test_our_own_endpoint_goes_before_an_alias(file: Path) -> None:
    document = {
        "endpoints": {"lab": {"type": "webhdfs", "url": "http://ours"}},
        "mirrors": {"m": {"source": "lake:/w", "destination": "s3://b"}},
    }
    config = parse(document, "config.toml")
    assert config.place("lab:/x")[0] == "webhdfs://ours/x"
    assert config.endpoints["lake"].concurrency == 64
    with pytest.raises(UsageError, match=r"config.toml: \[mirrors.m\]: `destination` overlaps its `source`"):
        parse({"mirrors": {"m": {"source": "lake:/w", "destination": "swebhdfs://b:9871/w/x"}}}, "config.toml")
    with pytest.raises(UsageError, match=r"config.toml: \[mirrors.m\]: `source`: .*cluster lake: / spans the mounts"):
        parse({"mirrors": {"m": {"source": "lake:/", "destination": "s3://b"}}}, "config.toml")


def test_where_the_file_is(tmp_path: Path) -> None:
    text = README.read_text()
    assert aliases({"HOME": str(tmp_path)}) == {}
    with pytest.raises(UsageError, match="there is no such file"):
        aliases({"WEBHDFS_CONFIG": str(tmp_path / "absent")})
    (tmp_path / "given").write_text(text)
    assert set(aliases({"WEBHDFS_CONFIG": str(tmp_path / "given")})) == {"prod"}


def test_the_users_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert aliases({}) == {}
    (tmp_path / ".webhdfs.cfg").write_text(README.read_text())
    assert Config().endpoint("prod").addresses[1] == "webhdfs://second_namenode_url:50070"


@pytest.mark.parametrize(
    ("written", "instead", "says"),
    [
        ('"GSSAPI"', '"KERBEROS"', "line 5: `clusters[0].auth_mechanism`: must be one of NONE, GSSAPI, TKN_GSSAPI"),
        ('"auth_mechanism": "GSSAPI",', "", "line 3: `clusters[0]`: Object missing required field `auth_mechanism`"),
        ('"prod"', "7", "line 4: `clusters[0].name`: Expected `str`, got `int`"),
        (
            '"http://first_namenode_url:50070" ,',
            '"first:50070",',
            "line 10: `clusters[0].nameservices[0].urls`: 'first:",
        ),
        ('"http://first_namenode_url:50070" ,', '"http://u:p@first",', "line 10: `clusters[0].nameservices[0].urls`"),
        ('"mounts": ["/"]', '"mounts": []', "line 11: `clusters[0].nameservices[0].mounts`: is empty"),
        (
            '"mounts": ["/"]',
            '"mounts": ["a"]',
            "line 11: `clusters[0].nameservices[0].mounts`: 'a' must be an absolute",
        ),
        ('"mounts": ["/"]', '"mounts": "/"', "line 11: `clusters[0].nameservices[0].mounts`: Expected `array`"),
        ('"mounts": ["/"]', '"mounts": ["/", "/"]', "'/' belongs to two nameservices"),
        ('"mounts": ["/"]', '"mounts": ["/a", "/b/", "/a/"]', "'/a/' belongs to two nameservices"),
        ('"verify": false,', '"verify": false', "line 7: is not JSON"),
        ('"http://first_namenode_url:50070" ,', '"http://first:99999",', "port 99999 does not exist"),
        ('"verify": false,', '"max_concurrency": ' + "1" * 5000 + ",", "line 6: is not JSON: a number of 5000 digits"),
        ('"verify": false', '"veri\\udc00fy": false', "line 6: is not JSON: half a character"),
        ('"prod"', '"prod", "user": "\\ud83d"', "line 4: is not JSON: half a character"),
        ('"clusters"', '"cluster"', "line 1: Object missing required field `clusters`"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_field(written: str, instead: str, says: str) -> None:
    text = README.read_text()
    assert written in text
    with pytest.raises(UsageError) as raised:
        parse_aliases(text.replace(written, instead), "/home/me/.webhdfs.cfg")
    assert raised.value.message.startswith("/home/me/.webhdfs.cfg: line ")
    assert says in raised.value.message
    assert "u:p@" not in raised.value.message


def test_a_whole_character_may_be_escaped(file: Path) -> None:
    text = json.dumps(LAKE).replace('"etl"', '"\\ud83d\\ude00"')
    assert parse_aliases(text, "f")["lake"].holding("/x").doas == "\U0001f600"


def test_an_address_without_port_has_that_of_the_web() -> None:
    """As pywhdfs asks there, not at a NameNode's usual port."""
    urls = ["http://plain", "https://knox/gateway/far/", "https://[::1]", "http://nn:50070"]
    cluster = LAKE["clusters"][1] | {"nameservices": [{"urls": urls, "mounts": ["/"]}]}
    found = parse_aliases(json.dumps({"clusters": [cluster]}), "f")["lab"].addresses
    assert found == (
        "webhdfs://plain:80",
        "swebhdfs://knox:443/gateway/far",
        "swebhdfs://[::1]:443",
        "webhdfs://nn:50070",
    )


@pytest.mark.parametrize("text", ["", "[]", "7", "{" * 5000, "[" * 100_000, '{"clusters": [[]]}', "nul\0"])
def test_whatever_it_is(text: str) -> None:
    with pytest.raises(UsageError):
        parse_aliases(text, "f")
