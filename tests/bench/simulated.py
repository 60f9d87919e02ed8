"""Memory and listing rate on trees too large for a small machine's HDFS: the simulators compute them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.measure import ROOT, AsyncCopy
from tests.bench.real import say
from tests.bench.report import Section, Target, Verdict, megabytes, number

KIB = 1 << 10
FLAT = 1.25
"""How many times the memory of 10,000 files a million may take and still be called flat."""


@contextmanager
def _simulator(*options: str) -> Iterator[dict[str, str]]:
    """The addresses of simulators in a child process, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "asynccopy.simulators", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.read()
        process.wait()


class Tree:
    """A computed tree, a store that forgets what it is sent, and asynccopy between them. One process each."""

    def __init__(self, stack: ExitStack, directories: int, files_per_directory: int, file_length: int) -> None:
        self.directories = directories
        self.files = directories * files_per_directory
        shape = ("--directories", str(directories), "--files-per-directory", str(files_per_directory))
        namespace = stack.enter_context(_simulator("--serve", "webhdfs", "--file-length", str(file_length), *shape))
        store = stack.enter_context(_simulator("--serve", "s3", "--discard"))
        self.source = f"webhdfs://{namespace['webhdfs'].removeprefix('http://')}/"
        self.destination = "s3://bucket/copy"
        environment = {
            "AWS_ENDPOINT_URL_S3": store["s3"],
            "AWS_ACCESS_KEY_ID": "simulator",
            "AWS_SECRET_ACCESS_KEY": "simulator-secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "HADOOP_USER_NAME": "bench",
        }
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asynccopy-bench-")))
        self.asynccopy = AsyncCopy(directory, environment)


def copying(scale: float, *, million: bool) -> Section:
    """Peak RSS with a thousand files in flight."""
    section = Section(
        "Memory with 1,000 files in flight (simulators)",
        ("", "wall s", "files/s", "client CPU ms/file", "peak RSS MB"),
    )
    peaks: list[float] = []
    shapes = [(10, 1000, 64 * KIB), (100, 1000, 64 * KIB)] + ([(1000, 1000, KIB)] if million else [])
    for directories, per_directory, length in shapes:
        directories = max(1, round(directories * scale))
        with ExitStack() as stack:
            tree = Tree(stack, directories, per_directory, length)
            say(f"copying {tree.files:,} files ...")
            usage = tree.asynccopy.copy(tree.source, tree.destination, "--concurrency", "1000", files=tree.files).usage
        peaks.append(usage.peak_rss)
        section.rows.append(
            (
                f"copy {tree.files:,} x {length // KIB} KiB",
                number(usage.wall),
                number(tree.files / usage.wall),
                number(usage.cpu / tree.files * 1e3),
                megabytes(usage.peak_rss),
            )
        )
    section.verdicts.append(Verdict("highest peak RSS", max(peaks) / 1e6, Target(200, " MB")))
    return section


def listing(scale: float, *, million: bool) -> Section:
    """Peak RSS and rate of listings: wide directories and many of them."""
    section = Section(
        "Listing (`--dry-run`, simulators, start-up included)",
        ("", "wall s", "entries/s", "client CPU us/entry", "peak RSS MB"),
    )
    wide = [(1, 10_000), (1, 100_000), (1, 1_000_000)]
    deep = [(10_000, 1), (100_000, 1)] + ([(1_000_000, 1)] if million else [])
    peaks: dict[str, list[float]] = {"wide": [], "deep": []}
    for kind, shapes in (("wide", wide), ("deep", deep)):
        for shape in shapes:
            directories, per_directory = (max(1, round(count * scale)) if count > 1 else 1 for count in shape)
            with ExitStack() as stack:
                tree = Tree(stack, directories, per_directory, KIB)
                what = f"{tree.files:,} files in one directory" if kind == "wide" else f"{directories:,} directories"
                say(f"listing {what} ...")
                usage = tree.asynccopy.list(tree.source, tree.destination)
            entries = tree.files if kind == "wide" else directories + tree.files
            peaks[kind].append(usage.peak_rss)
            section.rows.append(
                (
                    what if kind == "wide" else f"{what} of one file",
                    number(usage.wall),
                    number(entries / usage.wall),
                    number(usage.cpu / entries * 1e6),
                    megabytes(usage.peak_rss),
                )
            )
    for kind, text in (("wide", "files"), ("deep", "directories")):
        growth = peaks[kind][-1] / peaks[kind][0]
        section.verdicts.append(Verdict(f"memory of the most {text} over that of the fewest", growth, Target(FLAT)))
    return section
