"""What belongs to a job: globs as in gitignore, bounds, and that pruning never hides what is selected."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asynccopy.errors import UsageError
from asynccopy.mirror.selection import Selection
from asynccopy.model import FileStatus


def file(path: str, length: int = 10, time: int = 1000) -> FileStatus:
    return FileStatus(path, length, time)


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "x/y/a.csv", True),
        ("*.csv", "a.csv.gz", False),
        ("*.csv", "a.csv/part-0", True),  # a directory of that name, and all below it
        ("?.csv", "ab.csv", False),
        ("?.csv", "x/a.csv", True),
        ("*", "any/thing", True),
        ("logs", "logs/2024/a", True),
        ("logs", "x/logs/a", True),
        ("logs", "catalogs/a", False),
        ("logs/", "logs/a", True),
        ("logs/", "x/logs/a", True),
        ("logs/", "x/logs", False),  # the pattern names a directory, this is a file
        ("/logs", "logs/a", True),
        ("/logs", "x/logs/a", False),
        ("a/b", "a/b", True),
        ("a/b", "x/a/b", False),
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", True),
        ("a/*/c", "a/b/c", True),
        ("a/*/c", "a/b/x/c", False),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/x/c", True),
        ("**/c", "c", True),
        ("**/c", "a/b/c", True),
        ("**", "a/b/c", True),
        ("a/**", "a/b/c", True),
        ("a/**", "ab", False),
        ("*.tmp", "a\n.tmp", True),
        ("a.c", "abc", False),
        ("a[b]", "ab", False),
        ("a[b]", "a[b]", True),
        ("a+b", "a+b", True),
        ("{x,y}", "x", False),
    ],
)
def test_globs(glob: str, path: str, matches: bool) -> None:
    assert Selection(include=(glob,)).has(file(path)) is matches
    assert Selection(exclude=(glob,)).has(file(path)) is not matches


def test_exclude_beats_include_and_any_include_is_enough() -> None:
    selection = Selection(include=("*.csv", "*.tsv"), exclude=("tmp/",))
    assert selection.has(file("a.csv"))
    assert selection.has(file("x/a.tsv"))
    assert not selection.has(file("tmp/a.csv"))
    assert not selection.has(file("a.txt"))


def test_regexes_are_searched() -> None:
    assert Selection(include_regex=(r"part-\d+",)).has(file("x/part-00001.parquet"))
    assert not Selection(include_regex=(r"^part-\d+$",)).has(file("x/part-00001.parquet"))
    assert not Selection(exclude_regex=(r"_temporary",)).has(file("a/_temporary/0/b"))


@pytest.mark.parametrize("regex", ["(", "[", "*a", "(?P<n>a)(?P<n>b)"])
def test_a_malformed_regex_is_wrong_usage(regex: str) -> None:
    with pytest.raises(UsageError, match="--include-regex"):
        Selection(include_regex=(regex,))
    with pytest.raises(UsageError, match="--exclude-regex"):
        Selection(exclude_regex=(regex,))


def test_two_regexes_that_cannot_stand_in_one() -> None:
    """Each is fine alone; joined they must still mean what they mean alone, or be refused as wrong usage."""
    for regexes, path, expected in (
        ((r"(a)\1", r"(b)\1"), "bb", True),
        ((r"(?i)abc", "xyz"), "ABC", True),
        ((r"(?P<n>a)", r"(?P<n>b)"), "b", True),
    ):
        try:
            selection = Selection(include_regex=regexes)
        except UsageError:
            continue
        assert selection.has(file(path)) is expected, regexes


@pytest.mark.parametrize(
    ("selection", "length", "time", "expected"),
    [
        (Selection(min_size=10), 10, 0, True),
        (Selection(min_size=10), 9, 0, False),
        (Selection(max_size=10), 10, 0, True),
        (Selection(max_size=10), 11, 0, False),
        (Selection(min_size=0), 0, 0, True),
        (Selection(max_size=0), 1, 0, False),
        (Selection(modified_after=5), 1, 5, True),
        (Selection(modified_after=5), 1, 4, False),
        (Selection(modified_before=5), 1, 5, True),
        (Selection(modified_before=5), 1, 6, False),
    ],
)
def test_bounds_are_included(selection: Selection, length: int, time: int, expected: bool) -> None:
    assert selection.has(file("a", length, time)) is expected


def test_markers_of_empty_directories() -> None:
    marker = FileStatus("x/empty/", 0, 0, is_directory=True)
    assert Selection().has(marker)
    assert Selection(min_size=1).has(marker)
    assert not Selection(empty_directories=False).has(marker)
    assert not Selection(exclude=("x/",)).has(marker)
    assert not Selection(include=("*.csv",)).has(marker)


def test_the_text_tells_selections_apart() -> None:
    assert Selection(include=("a",)).text == Selection(include=("a",)).text
    texts = {s.text for s in (Selection(), Selection(include=("a",)), Selection(exclude=("a",)), Selection(min_size=0))}
    assert len(texts) == 4


def test_excluded_directories_are_not_entered() -> None:
    selection = Selection(exclude=("tmp/", "*.bak", "/a/b"))
    assert [d for d in ("tmp", "x/tmp", "x.bak", "a/b", "a", "x/a/b", "tm") if not selection.enters(d)] == [
        "tmp", "x/tmp", "x.bak", "a/b",
    ]  # fmt: skip


names = st.text("ab.", min_size=1, max_size=3).filter(lambda n: n not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
globs = st.text("ab.*?/", min_size=1, max_size=7)
regexes = st.sampled_from(["a/$", "^a$", "a$", "^(?!.*b)", "b/.", "/$", "^a/", "(?<!b)/$", "a|b$", "."])


@given(st.lists(globs, max_size=3), st.lists(globs, max_size=3), st.lists(regexes, max_size=2), paths)
@example([], [], ["a/$"], "a/b")
@example([], [], ["^(?!.*b)"], "a/b")
@settings(max_examples=800, deadline=None)
def test_pruning_hides_nothing(include: list[str], exclude: list[str], exclude_regex: list[str], path: str) -> None:
    selection = Selection(include=tuple(include), exclude=tuple(exclude), exclude_regex=tuple(exclude_regex))
    if selection.has(file(path)):
        for slash in re.finditer("/", path):
            assert selection.enters(path[: slash.start()]), path[: slash.start()]
