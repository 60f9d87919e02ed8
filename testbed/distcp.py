"""Hadoop's own way, to be compared with: DistCp and S3A in one JVM, with as many maps as asked for."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from testbed import fetch, hadoop
from testbed.hdfs import Hdfs
from testbed.process import ServerFailed
from testbed.s3 import Store

# S3A takes direct memory for its upload buffers: the heap is only half of what it needs.
JVM_OPTIONS = ["-XX:MaxDirectMemorySize=2g"]


@dataclass(frozen=True)
class Run:
    """What one DistCp took: seconds, bytes of memory, and its counters by their printed names."""

    wall: float
    cpu: float
    peak_rss: int
    counters: Mapping[str, int]


def distcp(
    cluster: Hdfs,
    store: Store,
    source: str,
    destination: str,
    *flags: str,
    maps: int = 4,
    heap: int = 1024,
    properties: Mapping[str, object] | None = None,
) -> Run:
    """Copy the HDFS directory ``source`` to ``bucket/prefix``. ``heap`` in MiB. Raises ServerFailed with the log's end.

    The default bandwidth of 100 MB/s per map is lifted. More flags go to DistCp as they are (-update, -skipcrccheck).
    """
    if reasons := fetch.missing(fetch.HADOOP, fetch.S3A, fetch.LOCALN):
        raise ServerFailed("; ".join(reasons))
    settings = _properties(cluster, store, maps) | dict(properties or {})
    command = hadoop.Jvm(heap, quick=False).command(
        [cluster.configuration, fetch.LOCALN.directory, *hadoop.jars(fetch.HADOOP, fetch.S3A)],
        "org.apache.hadoop.tools.DistCp",
        *(f"-D{name}={value}" for name, value in settings.items()),
        *("-m", str(maps), "-bandwidth", "2000", "-direct"),
        *flags,
        *(cluster.rpc + source, f"s3a://{destination}"),
        options=JVM_OPTIONS,
    )
    log = cluster.directory / "logs" / "distcp.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=hadoop.environment()
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    words = log.read_text(errors="replace")
    if process.returncode:
        raise ServerFailed(f"DistCp ended with {process.returncode}:\n{words[-3000:]}")
    return Run(
        time.monotonic() - started,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024,
        {name.strip(): int(count) for name, count in re.findall(r"^\t+([\w .-]+)=(\d+)$", words, re.MULTILINE)},
    )


def _properties(cluster: Hdfs, store: Store, maps: int) -> dict[str, object]:
    scratch = f"{cluster.directory}/tmp/distcp"
    return {
        # "local" would force one map; see LocalN.java.
        "mapreduce.framework.name": "localn",
        "mapreduce.local.map.tasks.maximum": maps,
        "mapreduce.cluster.local.dir": f"{scratch}/local",
        "yarn.app.mapreduce.am.staging-dir": f"{scratch}/staging",
        "mapreduce.jobtracker.staging.root.dir": f"{scratch}/staging",
        "fs.s3a.endpoint": store.endpoint,
        "fs.s3a.endpoint.region": store.region,
        "fs.s3a.path.style.access": "true",
        "fs.s3a.connection.ssl.enabled": "false",
        "fs.s3a.access.key": store.access_key,
        "fs.s3a.secret.key": store.secret_key,
        "fs.s3a.aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
        "fs.s3a.fast.upload.buffer": "bytebuffer",
        "fs.s3a.multipart.size": "64M",
        "fs.s3a.buffer.dir": f"{scratch}/s3a",
        "fs.s3a.change.detection.mode": "none",
        "fs.s3a.bucket.probe": "0",
        "fs.s3a.input.stream.type": "classic",
    }
