"""The table of a cluster: what goes together, where its URLs lead, and whether all its servers answer."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
import tomli

from asynccopy.cli.run import _reach_servers
from asynccopy.config import Config, parse
from asynccopy.config.cluster import Cluster
from asynccopy.errors import Unreachable, UsageError
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.storage.registry import Settings, open_source
from testbed.process import free_ports


def read(keys: str, url: str = "https://nn:9871") -> Config:
    return parse(tomli.loads(f'[endpoints.dc]\ntype = "webhdfs"\nurl = "{url}"\n{keys}'), "config.toml")


def test_every_field_reaches_the_cluster() -> None:
    said = {
        "user": "u", "doas": "d", "auth": "kerberos", "principal": "p@R", "keytab": "/k", "ca_file": "/ca",
        "client_certificate": "/c", "client_key": "/ck",
    }  # fmt: skip
    keys = "".join(f'{key} = "{value}"\n' for key, value in said.items()) + "mutual = true"
    expected = Cluster(servers=("swebhdfs://nn:9871",), mutual=True, **said)  # type: ignore[arg-type]
    assert read(keys).place("dc:/x") == ("swebhdfs://nn:9871/x", {"cluster": expected})
    password = read('auth = "password"\nuser = "u"\npassword_file = "knox"').place("dc:/x")[1]["cluster"]
    assert password == Cluster(servers=("swebhdfs://nn:9871",), auth="password", user="u", password_file="knox")


@pytest.mark.parametrize(
    ("keys", "url", "says"),
    [
        ('keytab = "/k"', "https://nn", "`keytab` needs the `principal`"),
        ('principal = "p"\nauth = "simple"', "https://nn", '`principal` is for `auth` = "kerberos"'),
        ('mutual = true\nauth = "token"', "https://nn", '`mutual` is for `auth` = "kerberos"'),
        ('token_file = "/t"\nauth = "kerberos"', "https://nn", '`token_file` is for `auth` = "token"'),
        ('auth = "password"', "https://nn", "needs a `password_file`"),
        ('password_file = "/p"', "https://nn", "needs the `user`"),
        ('password_file = "/p"\nuser = "u"', "http://nn", "`password_file` needs https://"),
        ('client_key = "/k"', "https://nn", "`client_key` needs a `client_certificate`"),
        ('client_certificate = "/c"', "http://nn", "`client_certificate` needs an https://"),
        ('ca_file = "/c"', "http://nn", "`ca_file` needs an https://"),
        ('ca_file = ""', "https://nn", "`ca_file` is empty"),
        ('auth = "ntlm"', "https://nn", "`auth`: Invalid enum value 'ntlm'"),
        ("", "https://knox/gateway/../x", "must look like"),
        ("", "https://knox/gateway?x=1", "must look like"),
        ("", "https://nn:9871/webhdfs/v1", "without user, password, query or /webhdfs/v1"),
    ],
)
def test_what_does_not_go_together(keys: str, url: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"config.toml: \[endpoints.dc\]: ") as raised:
        read(keys, url)
    assert says in raised.value.message


async def test_a_gateways_path_is_part_of_the_identity_and_not_of_the_paths() -> None:
    found = {}
    for topology in ("one", "two"):
        url, given = read("", f"https://knox:8443/gateway/{topology}").place("dc:/data/x")
        async with aclosing(open_source(url, Settings(**given))) as source:  # type: ignore[arg-type]
            found[source.url] = source._absolute("f")  # type: ignore[attr-defined]
    assert found == {
        "swebhdfs://knox:8443/gateway/one/data/x": "/data/x/f",
        "swebhdfs://knox:8443/gateway/two/data/x": "/data/x/f",
    }


async def test_a_nameservice_is_opened_by_its_name() -> None:
    servers = ("webhdfs://a:9870", "webhdfs://b:9870")
    async with aclosing(open_source("hdfs://lake/w", Settings(cluster=Cluster(servers=servers)))) as source:
        assert source.url == "hdfs://lake/w"
        assert source.client.namenode.host == "a"  # type: ignore[attr-defined]


def test_mirrors_on_a_nameservice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mirror(source: str, destination: str) -> Config:
        return parse({"mirrors": {"m": {"source": source, "destination": destination}}}, "f")

    with pytest.raises(UsageError, match=r"f: \[mirrors.m\]: `source`: hdfs://lake/w: no address of its NameNodes"):
        mirror("hdfs://lake/w", "s3://b")
    keys = {"dfs.nameservices": "lake", "dfs.namenode.http-address.lake": "nn.example:9870"}
    lines = [f'<property name="{name}" value="{value}"/>' for name, value in keys.items()]
    (tmp_path / "hdfs-site.xml").write_text(f"<configuration>{''.join(lines)}</configuration>")
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    assert mirror("hdfs://lake/w", "s3://b").place("hdfs://lake/w") == (
        "hdfs://lake/w",
        {"cluster": Cluster(servers=("webhdfs://nn.example:9870",))},
    )
    with pytest.raises(UsageError, match="`destination` overlaps its `source`"):
        mirror("hdfs://lake/w", "webhdfs://nn.example/w/x")  # the same cluster by its other name


async def test_every_server_is_reached() -> None:
    namespace = TreeNamespace()
    namespace.mkdir("/data")
    [dead] = free_ports(1)
    async with WebHdfsSimulator(namespace) as one, WebHdfsSimulator(namespace) as two:

        def config(*urls: str) -> Config:
            return parse({"endpoints": {"dc": {"type": "webhdfs", "urls": list(urls), "user": "hdfs"}}}, "f")

        await _reach_servers(config(one.url, two.url), "dc:/data")
        await _reach_servers(config(one.url, two.url), "dc:/still-to-be-made")
        await _reach_servers(config(one.url, two.url), "s3://bucket")
        with pytest.raises(Unreachable, match=str(dead)):
            await _reach_servers(config(one.url, f"http://127.0.0.1:{dead}"), "dc:/data")
