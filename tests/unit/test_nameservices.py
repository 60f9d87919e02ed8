"""``hdfs://`` and ``viewfs://`` by Hadoop's configuration."""

from __future__ import annotations

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.config.hadoop import HadoopConfiguration, Property
from asynccopy.config.nameservices import located
from asynccopy.errors import UsageError


def conf(values: dict[str, str]) -> HadoopConfiguration:
    return HadoopConfiguration(iter([Property(name, value) for name, value in values.items()]), "/conf", {})


LAKE = {
    "fs.defaultFS": "hdfs://lake",
    "dfs.nameservices": "lake, logs",
    "dfs.ha.namenodes.lake": "nn1,nn2",
    "dfs.namenode.rpc-address.lake.nn1": "a.example:8020",
    "dfs.namenode.rpc-address.lake.nn2": "b.example:8020",
    "dfs.namenode.http-address.lake.nn1": "a.example:50070",
    "dfs.namenode.https-address.lake.nn1": "a.example:50470",
    "dfs.namenode.http-address.lake.nn2": "0.0.0.0:50070",
    "dfs.namenode.rpc-address.logs": "c.example:9000",
}
LAKE_HTTP = ("webhdfs://a.example:50070", "webhdfs://b.example:50070")
LONE = {"fs.default.name": "hdfs://NN.example:8021", "dfs.http.address": "0.0.0.0:50070"}


@pytest.mark.parametrize(
    ("values", "url", "meant", "servers"),
    [
        (LAKE, "hdfs://lake/w/x", "hdfs://lake/w/x", LAKE_HTTP),
        (LAKE, "hdfs://lake", "hdfs://lake/", LAKE_HTTP),
        (LAKE, "hdfs:///w", "hdfs://lake/w", LAKE_HTTP),
        (LAKE, "hdfs://B.example/w?x#y", "hdfs://lake/w?x#y", LAKE_HTTP),
        (LAKE, "hdfs://b.example:8020/w", "hdfs://lake/w", LAKE_HTTP),
        (LAKE, "webhdfs://lake/w", "hdfs://lake/w", LAKE_HTTP),
        (LAKE, "swebhdfs://lake/w", "hdfs://lake/w", ("swebhdfs://a.example:50470", "swebhdfs://b.example:9871")),
        (LAKE, "hdfs://logs/w", "hdfs://logs/w", ("webhdfs://c.example:9870",)),
        (LAKE, "hdfs://c.example:9000/w", "hdfs://logs/w", ("webhdfs://c.example:9870",)),
        (LAKE, "hdfs://d.example:8020/w", "hdfs://d.example:8020/w", ("webhdfs://d.example:9870",)),
        (LAKE, "hdfs://d.example/w", "hdfs://d.example:8020/w", ("webhdfs://d.example:9870",)),
        (LONE, "hdfs:///w", "hdfs://nn.example:8021/w", ("webhdfs://NN.example:50070",)),
        ({}, "hdfs://nn:8020/w", "hdfs://nn:8020/w", ("webhdfs://nn:9870",)),
        ({"dfs.http.policy": "HTTPS_ONLY"}, "hdfs://nn/w", "hdfs://nn:8020/w", ("swebhdfs://nn:9871",)),
        ({"dfs.http.policy": "HTTP_AND_HTTPS"}, "hdfs://nn/w", "hdfs://nn:8020/w", ("webhdfs://nn:9870",)),
    ],
)
def test_what_hdfs_urls_mean(values: dict[str, str], url: str, meant: str, servers: tuple[str, ...]) -> None:
    assert located(url, conf(values)) == (meant, Cluster(servers=servers))


@pytest.mark.parametrize("url", ["webhdfs://nn:9870/w", "webhdfs://lake:9870/w", "s3://lake/w", "/w", "dc:/w"])
def test_what_says_itself_where_it_is(url: str) -> None:
    assert located(url, conf(LAKE)) is None
    assert located(url, None) is None


MOUNTS = LAKE | {
    "fs.viewfs.mounttable.all.link./data": "hdfs://lake/data",
    "fs.viewfs.mounttable.all.link./data/logs": "hdfs://logs/",
    "fs.viewfs.mounttable.all.link./tmp/": "hdfs://lake/scratch/",
    "fs.viewfs.mounttable.all.homedir": "/user",
    "fs.viewfs.mounttable.rest.linkFallback": "hdfs://lake/rest",
    "fs.viewfs.mounttable.rest.link./logs": "hdfs://logs/l",
    "fs.viewfs.mounttable.slash.linkMergeSlash": "hdfs://lake/",
    "fs.viewfs.mounttable.default.link./d": "hdfs://lake/dd",
    "fs.viewfs.mounttable.ring.link./a": "viewfs://all/data",
}


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("viewfs://all/data/logs", "hdfs://logs/"),
        ("viewfs://all/data/logs/x", "hdfs://logs/x"),
        ("viewfs://all/data/logsx", "hdfs://lake/data/logsx"),
        ("viewfs://all/data/a/b", "hdfs://lake/data/a/b"),
        ("viewfs://all/tmp//x/", "hdfs://lake/scratch/x"),
        ("viewfs://rest/logs/x", "hdfs://logs/l/x"),
        ("viewfs://rest/other", "hdfs://lake/rest/other"),
        ("viewfs://slash/", "hdfs://lake/"),
        ("viewfs://slash/a", "hdfs://lake/a"),
        ("viewfs:///d/e", "hdfs://lake/dd/e"),
    ],
)
def test_what_viewfs_urls_mean(url: str, meant: str) -> None:
    found = located(url, conf(MOUNTS))
    assert found is not None
    assert found[0] == meant


def test_the_default_may_be_a_mount_table() -> None:
    values = MOUNTS | {"fs.defaultFS": "viewfs://all"}
    for url in ("viewfs:///data/logs/x", "hdfs:///data/logs/x"):
        found = located(url, conf(values))
        assert found is not None
        assert found[0] == "hdfs://logs/x"


@pytest.mark.parametrize(
    ("values", "url", "why"),
    [
        (None, "hdfs://lake/w", "no address of its NameNodes"),
        ({}, "hdfs:///w", "names no cluster, and `fs.defaultFS` in /conf is not set"),
        ({"fs.defaultFS": "file:///"}, "hdfs:///w", "`fs.defaultFS` in /conf is file:///"),
        (LAKE, "hdfs://lakes/w", "has no nameservice lakes"),
        (LAKE, "hdfs://u:secret@lake/w", "no user or password"),
        (LAKE, "hdfs://a b:1:2/w", "no nameservice or NameNode host"),
        (LAKE, "hdfs://nn:99999/w", "no nameservice or NameNode host"),
        (
            {"dfs.nameservices": "x"},
            "hdfs://x/",
            "neither `dfs.namenode.http-address.x` nor",
        ),
        (
            LAKE | {"dfs.namenode.http-address.lake.nn1": "${nn.host}:9870"},
            "hdfs://lake/",
            "`dfs.namenode.http-address.lake.nn1`: '${nn.host}:9870' is no host:port",
        ),
        (
            LAKE | {"dfs.namenode.https-address.lake.nn1": "a.example:99999"},
            "swebhdfs://lake/",
            "`dfs.namenode.https-address.lake.nn1`: 'a.example:99999' is no host:port",
        ),
        (
            {"dfs.nameservices": "x", "dfs.namenode.rpc-address.x": "${nn.host}:8020"},
            "hdfs://x/",
            "neither `dfs.namenode.http-address.x` nor",
        ),
        (MOUNTS, "viewfs://all/", "spans the mounts /data, /data/logs, /tmp"),
        (MOUNTS, "viewfs://all/data", "spans the mounts /data/logs"),
        (MOUNTS, "viewfs://rest/", "spans the mounts /logs"),
        (MOUNTS, "viewfs://all/user/me", "is below no mount of all"),
        (MOUNTS, "viewfs://other/x", "has no mount table other"),
        (MOUNTS, "viewfs://ring/a", "a mount leads to a mount"),
    ],
)
def test_refused(values: dict[str, str] | None, url: str, why: str) -> None:
    with pytest.raises(UsageError) as raised:
        located(url, None if values is None else conf(values))
    assert why in raised.value.message
    assert "secret" not in raised.value.message + raised.value.hint
    assert raised.value.hint
