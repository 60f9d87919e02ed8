"""A random walk: files come, change and go, runs are stopped, fail and go on; a plain dict knows what must be there."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asynccopy.errors import AsyncCopyError, ConnectionLost, Interrupted, PermissionDenied, Unreachable
from asynccopy.journal import Journal
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import MIB
from asynccopy.storage.interface import Destination, Source, UploadLimits
from asynccopy.storage.memory import MemoryDestination, MemorySource
from tests.faults.wrapped import QUICK, Wrapped

PATHS = ("a", "d/b", "d/e/c", "d/e/f", "g/h")
BODIES = (b"", b"x", b"y" * 5000, b"z" * (MIB + 1), bytes(range(256)) * 9000)


class Mirroring(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.source = MemorySource(block_size=MIB, page_size=2)
        self.destination = MemoryDestination(limits=UploadLimits(min_part=64 * 1024), page_size=2)
        self.files: dict[str, bytes] = {}
        self.versions: dict[str, set[bytes]] = {path: set() for path in PATHS}

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(path=st.sampled_from(PATHS), body=st.sampled_from(BODIES))
    def write(self, path: str, body: bytes) -> None:
        self.source.put(path, body)
        self.files[path] = body
        self.versions[path].add(body)

    @rule(path=st.sampled_from(PATHS), more=st.sampled_from((b"!", b"w" * MIB)))
    def append(self, path: str, more: bytes) -> None:
        if path in self.files and len(self.files[path]) < 4 * MIB:
            self.source.append(path, more)
            self.files[path] += more
            self.versions[path].add(self.files[path])

    @rule(path=st.sampled_from(PATHS))
    def remove(self, path: str) -> None:
        if self.files.pop(path, None) is not None:
            self.source.remove(path)

    @rule(path=st.sampled_from(PATHS))
    def lose_an_upload(self, path: str) -> None:
        for key, upload_id in asyncio.run(self.destination.list_uploads(path)):
            asyncio.run(self.destination.abort_upload(key, upload_id))

    @rule(at=st.integers(1, 80))
    def run_and_stop(self, at: int) -> None:
        stop = asyncio.Event()
        self._run(lambda step, name, args: stop.set() if step == at else None, stop)

    @rule(at=st.integers(1, 80), error=st.sampled_from((ConnectionLost, PermissionDenied, Unreachable)))
    def run_with_an_error(self, at: int, error: type[AsyncCopyError]) -> None:
        def act(step: int, name: str, args: tuple[Any, ...]) -> None:
            if step == at:
                raise error("injected")

        self._run(act)

    @rule(at=st.integers(1, 80))
    def run_and_crash(self, at: int) -> None:
        """The process is gone: what was not in the journal is forgotten."""

        def act(step: int, name: str, args: tuple[Any, ...]) -> None:
            if step >= at:
                raise _Crash

        self._run(act)

    @rule(at=st.integers(1, 60), path=st.sampled_from(PATHS), body=st.sampled_from(BODIES))
    def run_while_a_file_changes(self, at: int, path: str, body: bytes) -> None:
        def act(step: int, name: str, args: tuple[Any, ...]) -> None:
            if step == at:
                self.write(path, body)

        self._run(act)

    @rule()
    def run_undisturbed(self) -> None:
        """Twice: the first may finish a pass whose listing is older than the last changes."""
        for _ in range(2):
            progress = self._run(lambda *_: None)
        if progress.failed_files:  # a pass may carry on what an interrupted run has given up
            progress = self._run(lambda *_: None)
        assert progress.failures == []
        found = self.destination.objects
        assert {path: found.get(path) for path in self.files} == self.files
        assert asyncio.run(self.destination.list_uploads("")) == []
        assert progress.copied_files + progress.skipped_files == progress.listed_files

    @invariant()
    def whatever_shows_is_a_version_that_was(self) -> None:
        for key, body in self.destination.objects.items():
            if not key.endswith("/"):
                assert body in self.versions[key]

    def _run(self, act: Any, stop: asyncio.Event | None = None) -> Progress:
        progress = Progress()
        step = 0

        async def stepping(name: str, when: str, args: tuple[Any, ...]) -> None:
            nonlocal step
            if name != "check":
                step += 1
                act(step, name, args)

        async def run() -> None:
            journal = await Journal.open(Path(self.folder.name) / "j", source="s", destination="d")
            try:
                await Mirror(
                    cast("Source", Wrapped(self.source, stepping)),
                    cast("Destination", Wrapped(self.destination, stepping)),
                    journal,
                    selection=Selection(empty_directories=False),
                    options=CopyOptions(concurrency=3, part_size=MIB),
                    stop=stop or asyncio.Event(),
                    progress=progress,
                    policy=QUICK,
                ).copy()
            except (Interrupted, PermissionDenied, Unreachable, _Crash):
                pass
            finally:
                await journal.close()

        asyncio.run(run())
        return progress


class _Crash(Exception):
    pass


TestMirroring = Mirroring.TestCase
TestMirroring.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
