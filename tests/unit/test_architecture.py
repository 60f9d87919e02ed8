"""What the import rules cannot say: how files are named, how long they are, and what the locks may hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "asynccopy"
FILES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "core", "base", "manager", "handler", "engine", "misc"}
LOCKS = ["requirements.lock", "requirements-test.lock"]


def test_no_room_is_a_drawer() -> None:
    names = {part for path in FILES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert len(FILES) > 20
    assert not names & FORBIDDEN


def test_files_can_be_read_in_one_sitting() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path in FILES if not path.read_text(encoding="utf-8").lstrip().startswith('"""')]
    assert silent == []


def test_no_work_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|asyncio\.gather|except Exception:\s*pass")
    found = [str(path) for path in FILES if marks.search(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize("name", LOCKS)
def test_locks_hold_names_versions_and_hashes_alone(name: str) -> None:
    logical = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    entry = re.compile(r"[a-z0-9.-]+==[0-9][\w.]*( ; [^#@/]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in logical if not entry.fullmatch(line)] == []


def test_the_test_lock_agrees_with_the_lock() -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9.-]+==[\w.]+", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))

    assert versions(LOCKS[0]) < versions(LOCKS[1])


def test_every_dependency_is_locked() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    names = {re.match(r"[\w-]+", text)[0] for text in wanted}  # type: ignore[index]  # each begins with its name
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / LOCKS[0]).read_text(encoding="utf-8"), re.MULTILINE))
    assert names <= locked
