"""A real cluster over TLS: by its own CA, with a client certificate where it wants one; and by Hadoop's own files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.storage.interface import Source
from asynccopy.storage.registry import Settings, open_source
from testbed import fetch
from testbed.certificates import Authority, Certificate
from testbed.content import Content
from testbed.fill import fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Ended, Program
from tests.real import test_suites
from tests.servers import require
from tests.suites.source import SourceSuite

MIB = 1 << 20
TREE = {"a/small": Content(1, 10), "a/blocks": Content(2, 9 * MIB), "empty": Content(3, 0)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require(fetch.HADOOP)
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Hdfs]:
    """What the exam of a source is sat on, with TLS."""
    with Hdfs(
        tmp_path_factory.mktemp("hdfs") / "tls",
        block_size=SourceSuite.block_size,
        tls=authority.server_properties(authority.issue("server", ("DNS:localhost",))),
        properties={
            "dfs.ls.limit": SourceSuite.page_size,
            "dfs.namenode.snapshotdiff.listing.limit": SourceSuite.page_size,
        },
    ) as cluster:
        yield cluster


@pytest.fixture
def hdfs(small_pages: Hdfs) -> Hdfs:
    return small_pages


class TestSwebHdfsSource(test_suites.TestWebHdfsSource):
    @pytest.fixture(autouse=True)
    def _trusted(self, authority: Authority) -> None:
        self.ca = str(authority.ca)

    def _open(self, path: str) -> Source:
        return open_source(self.hdfs.secure_url + path, Settings(cluster=Cluster(user=self.hdfs.user, ca_file=self.ca)))


def endpoint(program: Program, url: str, **keys: object) -> list[str]:
    """The options that name a configuration file with this cluster as ``dc``."""
    lines = [f'{key} = "{value}"' for key, value in {"type": "webhdfs", "url": url, **keys}.items()]
    (program.folder / "config.toml").write_text("\n".join(["[endpoints.dc]", *lines]))
    return ["--config", "config.toml"]


def refused(ended: Ended, why: str) -> None:
    assert ended.code == 3, ended.err
    assert why in ended.err
    assert "hint" in ended.err
    assert "Traceback" not in ended.err


def test_a_copy_by_the_own_ca(
    hdfs: Hdfs, root: str, authority: Authority, versitygw: Store, bucket: str, program: Program
) -> None:
    manifest = fill(hdfs.http, hdfs.user, root, TREE)
    options = endpoint(program, hdfs.secure_url, ca_file=authority.ca)
    ended = program.copy(f"dc:{root}", f"s3://{bucket}", *options)
    assert ended.code == 0, ended.err
    assert ended.counted() == {"expected": 3, "copied": 3}
    assert ended.result["verified"] == 3
    assert versitygw.read_back(bucket) == manifest
    checked = program.run("check", f"dc:{root}", f"s3://{bucket}", *options)
    assert (checked.code, checked.out) == (0, ""), checked.err


def test_another_ca_or_another_host_is_refused(
    hdfs: Hdfs, root: str, authority: Authority, bucket: str, program: Program, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger", "Somebody else").ca
    for keys in ({}, {"ca_file": stranger}):
        options = endpoint(program, hdfs.secure_url, **keys)
        refused(program.copy(f"dc:{root}", f"s3://{bucket}", *options), "CA that is not trusted here")
    elsewhere = hdfs.secure_url.replace("localhost", "127.0.0.1")  # which the certificate does not name
    options = endpoint(program, elsewhere, ca_file=authority.ca)
    refused(program.copy(f"dc:{root}", f"s3://{bucket}", *options), "for another host")


def test_by_hadoops_own_files(
    hdfs: Hdfs, root: str, authority: Authority, versitygw: Store, bucket: str, program: Program
) -> None:
    """Those that the cluster itself runs with; the journal is the nameservice's, whichever way it is reached."""
    manifest = fill(hdfs.http, hdfs.user, root, TREE)
    program.environment["HADOOP_CONF_DIR"] = str(hdfs.configuration)
    for number, source in enumerate((f"hdfs://{root}", hdfs.rpc + root)):
        ended = program.copy(source, f"s3://{bucket}/{number // 2}")
        assert ended.code == 0, ended.err
        assert ended.counted() == {"expected": 3, "skipped" if number else "copied": 3}
    assert {path.partition("/")[2]: entry for path, entry in versitygw.read_back(bucket).items()} == manifest
    secure = program.folder / "conf"
    shutil.copytree(hdfs.configuration, secure)
    site = secure / "hdfs-site.xml"
    site.write_text(site.read_text().replace("HTTP_AND_HTTPS", "HTTPS_ONLY"))
    program.environment |= {"HADOOP_CONF_DIR": str(secure), "SSL_CERT_FILE": str(authority.ca)}
    again = program.copy(f"hdfs://{root}", f"s3://{bucket}/0")
    assert (again.code, again.counted()) == (0, {"expected": 3, "skipped": 3}), again.err


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Hdfs]:
    """A cluster that serves TLS to holders of a certificate alone."""
    with Hdfs(
        tmp_path_factory.mktemp("hdfs") / "strict",
        tls=authority.server_properties(authority.issue("strict")),
        properties={"dfs.client.https.need-auth": "true"},
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(authority: Authority) -> Certificate:
    return authority.issue("client", ("DNS:client",))


def test_a_client_certificate(
    strict: Hdfs, authority: Authority, client: Certificate, versitygw: Store, bucket: str, program: Program
) -> None:
    manifest = fill(strict.http, strict.user, "/data", TREE)
    shown = {"client_certificate": client.chain, "client_key": client.key}
    options = endpoint(program, strict.secure_url, ca_file=authority.ca, **shown)
    ended = program.copy("dc:/data", f"s3://{bucket}", *options)
    assert ended.code == 0, ended.err
    assert versitygw.read_back(bucket) == manifest
    options = endpoint(program, strict.secure_url, ca_file=authority.ca)
    refused(program.copy("dc:/data", f"s3://{bucket}", *options), "client certificate")
