"""Hadoop's configuration files, with Hadoop's rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from asynccopy.config.hadoop import HadoopConfiguration, hadoop_configuration, properties
from asynccopy.errors import UsageError


def resource(**values: str) -> bytes:
    lines = [f"<property><name>{name}</name><value>{value}</value></property>" for name, value in values.items()]
    return f"<configuration>{''.join(lines)}</configuration>".encode()


def read(*texts: bytes, files: dict[str, bytes] | None = None, **environ: str) -> HadoopConfiguration:
    def fetch(path: Path) -> bytes:
        found = (files or {}).get(str(path))
        if found is None:
            raise FileNotFoundError(2, "No such file or directory")
        return found

    found = [each for text in texts for each in properties(text, Path("/conf/site.xml"), fetch)]
    return HadoopConfiguration(iter(found), "/conf", environ)


def test_a_later_resource_overrides_and_final_wins() -> None:
    first = b"""<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="configuration.xsl"?>
    <!-- as every cluster has it -->
    <configuration>
      <property><name> a </name><value> 1 </value></property>
      <property><name>b</name><value>1</value><final>true</final></property>
      <property><name>none</name></property>
      <property name="c" value="1"/>
      <configuration><property><name>d</name><value><![CDATA[<&]]></value></property></configuration>
      <property><name>list</name><value>x, y
         ,z,</value></property>
    </configuration>"""
    conf = read(first, resource(a="2", b="2"))
    assert [conf.get(name) for name in ("a", "b", "c", "d", "none", "absent")] == ["2", "1", "1", "<&", "", ""]
    assert conf.list("list") == ("x", "y", "z")
    assert conf.get("absent", "default") == "default"


def test_old_names() -> None:
    old = {"fs.default.name": "hdfs://nn:1", "dfs.http.address": "nn:2", "dfs.federation.nameservices": "a,b"}
    conf = read(resource(**old))
    assert conf.get("fs.defaultFS") == "hdfs://nn:1"
    assert conf.get("dfs.namenode.http-address") == "nn:2"
    assert conf.list("dfs.nameservices") == ("a", "b")
    assert read(resource(**{"fs.defaultFS": "hdfs://nn", "dir": "${fs.default.name}/a"})).get("dir") == "hdfs://nn/a"
    final = b'<configuration><property name="fs.default.name" value="x" final="true"/></configuration>'
    assert read(final, resource(**{"fs.defaultFS": "y"})).get("fs.defaultFS") == "x"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${host}:9870", "nn:9870"),
        ("${a}${a}", "${a}${a}"),  # it leads to itself
        ("${twice}", "nn.nn"),
        ("${nobody.set.it}", "${nobody.set.it}"),
        ("${env.HOST}", "envhost"),
        ("${env.UNSET}", "${env.UNSET}"),
        ("${env.UNSET-d}", "d"),
        ("${env.EMPTY-d}", ""),
        ("${env.EMPTY:-d}", "d"),
        ("${env.HOST:-d}", "envhost"),
        ("${n${one}}", "two"),
        ("$host {host} ${} ${ host}", "$host {host} ${} ${ host}"),
        ("${java.io.tmpdir}", "/tmp"),
    ],
)
def test_variables(text: str, value: str) -> None:
    values = {"host": "nn", "a": "${a}", "twice": "${host}.${host2}", "host2": "nn", "one": "1", "n1": "two"}
    assert read(resource(**values, it=text), HOST="envhost", EMPTY="").get("it") == value


def test_a_variable_twice_is_no_loop_and_a_loop_ends() -> None:
    assert read(resource(it="${a}${b}", a="${b}", b="${a}")).get("it").count("$") >= 1
    values = {f"v{n}": f"${{v{n + 1}}}" for n in range(30)}
    with pytest.raises(UsageError, match="/conf: `v0`: more than 20 variables"):
        read(resource(**values)).get("v0")
    assert read(resource(**values, v30="end")).get("v11") == "end"


def test_a_user_without_a_name_is_a_variable_that_nobody_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert read(resource(a="/home/${user.name}")).get("a") == "/home/${user.name}"


def test_includes() -> None:
    include = (
        b'<configuration xmlns:xi="http://www.w3.org/2001/XInclude"><property name="a" value="1"/>'
        b'<xi:include href="%s"/><property name="b" value="3"/></configuration>'
    )
    more = resource(a="2", b="2")
    for href in ("more.xml", "/conf/more.xml", "file:///conf/more.xml", "file:/conf/more.xml"):
        conf = read(include % href.encode(), files={"/conf/more.xml": more})
        assert (conf.get("a"), conf.get("b")) == ("2", "3"), href
    for href in ("http://evil.example/x.xml", "ftp://x", ""):
        with pytest.raises(UsageError, match="only local XML files"):
            read(include % href.encode())
    with pytest.raises(UsageError, match=r"site.xml: includes /conf/absent.xml, which cannot be read: No such"):
        read(include % b"absent.xml")
    with pytest.raises(UsageError, match="more than 20 files"):
        read(include % b"site.xml", files={"/conf/site.xml": include % b"site.xml"})
    fallback = include.replace(
        b'/><property name="b"',
        b'><xi:fallback><property name="a" value="f"/></xi:fallback></xi:include><property name="b"',
    )
    assert read(fallback % b"absent.xml").get("a") == "f"


BOMB = b"""<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>
<configuration><property><name>x</name><value>&b;</value></property></configuration>"""
FOREIGN = b"""<!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<configuration><property><name>x</name><value>&a;</value></property></configuration>"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "has a DTD"),
        (FOREIGN, "has a DTD"),
        (b"<!DOCTYPE configuration SYSTEM 'http://evil.example/x.dtd'><configuration/>", "has a DTD"),
        (b"", "is not XML"),
        (b"\xff\xfe\x00", "is not XML"),
        (b"<?xml version='1.0' encoding='no-such'?><configuration/>", "is not XML"),
        (b"<configuration><property></configuration>", "is not XML: mismatched tag: line 1"),
        (b"<configuration>&undefined;</configuration>", "is not XML"),
        (b"<html><body>Sign in</body></html>", "begins with <html>"),
    ],
)
def test_hostile_or_broken(text: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=f"/conf/site.xml: {why}") as raised:
        read(text)
    assert "passwd" not in raised.value.message


def test_the_directory(tmp_path: Path) -> None:
    assert hadoop_configuration({}) is None
    empty = hadoop_configuration({"HADOOP_CONF_DIR": str(tmp_path)})
    assert empty is not None
    assert empty.get("fs.defaultFS") == ""
    (tmp_path / "hdfs-site.xml").write_bytes(resource(a="hdfs"))
    (tmp_path / "core-site.xml").write_bytes(resource(a="core", b="core"))
    found = hadoop_configuration({"HADOOP_CONF_DIR": str(tmp_path)})
    assert found is not None
    assert (found.get("a"), found.get("b")) == ("hdfs", "core")
    (tmp_path / "core-site.xml").unlink()
    (tmp_path / "core-site.xml").mkdir()
    with pytest.raises(UsageError, match=r"core-site.xml: cannot be read"):
        hadoop_configuration({"HADOOP_CONF_DIR": str(tmp_path)})
