"""How Hadoop's programs are configured and launched. Pure but for the account's name."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from testbed import fetch

OPENED = (
    "java.io",
    "java.lang",
    "java.lang.reflect",
    "java.math",
    "java.net",
    "java.text",
    "java.util",
    "java.util.concurrent",
    "java.util.zip",
    "sun.security.util",
    "sun.security.x509",
)

LOG4J = """\
hadoop.root.logger=INFO,console
log4j.rootLogger=${hadoop.root.logger}
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
log4j.logger.BlockStateChange=WARN
log4j.logger.datanode.webhdfs=WARN
log4j.logger.org.apache.hadoop.hdfs.StateChange=WARN
log4j.logger.org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit=WARN
log4j.logger.org.apache.hadoop.hdfs.server.datanode.DataNode.clienttrace=WARN
"""


def user() -> str:
    """The account Hadoop sees when we start it: the superuser of our NameNode."""
    return pwd.getpwuid(os.getuid()).pw_name


def environment() -> dict[str, str]:
    """Ours without any Hadoop settings, and with a locale in which Java can name every file."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HADOOP_")} | {"LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Jvm:
    """``heap`` in MiB. ``quick`` starts fast and stays small; otherwise the compiler optimises for throughput."""

    heap: int
    quick: bool = True

    def command(self, classpath: Iterable[Path | str], *arguments: str, options: Sequence[str] = ()) -> list[str]:
        return [
            "java",
            "-Xms16m",
            f"-Xmx{self.heap}m",
            "-XX:+UseSerialGC",
            "-Xshare:auto",
            "-XX:-UsePerfData",
            "-XX:+IgnoreUnrecognizedVMOptions",
            *(["-XX:TieredStopAtLevel=1"] if self.quick else []),
            "-Djava.net.preferIPv4Stack=true",
            "-Dhadoop.root.logger=INFO,console",
            *options,
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED),
            "-cp",
            ":".join(map(str, classpath)),
            *arguments,
        ]


def jars(*components: fetch.Component) -> list[str]:
    return [f"{component.directory}/*" for component in components]


def write_configuration(directory: Path, core: Mapping[str, object], hdfs: Mapping[str, object]) -> None:
    """core-site.xml, hdfs-site.xml and log4j.properties: also what a client's HADOOP_CONF_DIR holds."""
    directory.mkdir(parents=True, exist_ok=True)
    write_resource(directory / "core-site.xml", core)
    write_resource(directory / "hdfs-site.xml", hdfs)
    (directory / "log4j.properties").write_text(LOG4J)


def write_resource(path: Path, properties: Mapping[str, object]) -> None:
    """One XML file of Hadoop's."""
    lines = [
        f"<property><name>{escape(key)}</name><value>{escape(str(value))}</value></property>"
        for key, value in properties.items()
    ]
    path.write_text('<?xml version="1.0"?>\n<configuration>\n' + "\n".join(lines) + "\n</configuration>\n")
