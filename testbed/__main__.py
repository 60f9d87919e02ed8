"""``python -m testbed fetch`` downloads the servers, ``python -m testbed up`` runs them."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from testbed import fetch
from testbed.hdfs import Hdfs
from testbed.process import ServerFailed
from testbed.s3 import VersityGw

BUCKET = "testbed"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="download the servers into the cache directory; again is cheap")
    fetching.add_argument("--peers", action="store_true", help="also what DistCp with S3A needs")
    fetching.add_argument("--rivals", action="store_true", help="also the other programs that the benchmark runs")
    up = commands.add_parser("up", help="run HDFS and an S3 server until Ctrl-C")
    up.add_argument("--datanodes", type=int, default=1, help="how many DataNodes (default: 1)")
    up.add_argument("--fast", action="store_true", help="for throughput: larger heaps, the optimising compiler")
    up.add_argument("--directory", type=Path, help="where they keep their data (default: a temporary directory)")
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            return _fetch(peers=arguments.peers, rivals=arguments.rivals)
        return _up(arguments.datanodes, arguments.fast, arguments.directory)
    except (ServerFailed, fetch.FetchFailed) as error:
        print(error, file=sys.stderr)
        return 1


def _fetch(*, peers: bool, rivals: bool) -> int:
    skipped = fetch.fetch(peers=peers, rivals=rivals)
    print("\n".join(skipped or [f"All there, in {fetch.cache()}"]))
    return 1 if skipped else 0


def _up(datanodes: int, fast: bool, directory: Path | None) -> int:
    # systemd and `kill` end it as Ctrl-C does: with the servers stopped and the data gone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="asynccopy-testbed-") as temporary:
        where = directory or Path(temporary)
        hdfs = Hdfs(where / "hdfs", datanodes=datanodes, fast=fast)
        store = VersityGw(where / "versitygw", data_integrity_etag=fast)
        try:
            with store, hdfs:
                store.make_bucket(BUCKET)
                _describe(hdfs, store)
                signal.pause()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return 0


def _describe(hdfs: Hdfs, store: VersityGw) -> None:
    print(f"HDFS    {hdfs.url}    (user {hdfs.user}, native {hdfs.rpc}, page {hdfs.address})")
    print(f"S3      {store.endpoint}    (bucket {BUCKET})")
    print("Paste into the shell that is to use them:\n")
    for name, value in (
        store.env() | {"HADOOP_USER_NAME": hdfs.user, "HADOOP_CONF_DIR": str(hdfs.configuration)}
    ).items():
        print(f"export {name}={value}")
    print("\nCtrl-C stops both and forgets what they hold.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
