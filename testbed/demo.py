"""``python -m testbed.demo``: what ``asynccopy demo`` shows, on a real HDFS and a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from testbed.content import big_files, small_files
from testbed.fetch import FetchFailed
from testbed.fill import fill
from testbed.hdfs import Hdfs
from testbed.process import ServerFailed
from testbed.s3 import VersityGw

BUCKET = "demo"
TREE = small_files(1000, 64 << 10) | big_files(4, 128 << 20)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="asynccopy-testbed-") as name:
        hdfs, store = Hdfs(Path(name) / "hdfs"), VersityGw(Path(name) / "versitygw")
        try:
            with store, hdfs:
                store.make_bucket(BUCKET)
                print(f"A real HDFS at {hdfs.address}, a real S3 server at {store.endpoint}", file=sys.stderr)
                print(f"Filling HDFS with {len(TREE):,} files", file=sys.stderr)
                fill(hdfs.http, hdfs.user, "/demo", TREE)
                return _show(f"{hdfs.url}/demo", store.env() | {"HADOOP_USER_NAME": hdfs.user})
        except (ServerFailed, FetchFailed) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 5


def _show(source: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "asynccopy", "demo", "--source", source, "--destination", f"s3://{BUCKET}/copy"]
    return subprocess.run(command, env=os.environ | environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
