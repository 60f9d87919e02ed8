"""How the command line begins and ends: imports, errors in one line, exit codes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from asynccopy import errors
from asynccopy.cli import main as program
from asynccopy.cli.main import main
from asynccopy.journal import Journal

HEAVY = {"aiohttp", "aiobotocore", "asyncio", "botocore", "fastcrc", "rich", "sqlite3", "structlog", "uvloop"}


def imported(arguments: list[str]) -> tuple[set[str], str]:
    """The modules that a command line brings in, and what it printed."""
    code = (
        "import sys, json\nfrom asynccopy.cli.main import main\n"
        f"assert main({arguments!r}) == 0\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr)), done.stdout


def test_help_imports_nothing_heavy_and_takes_little_cpu() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    modules, said = imported(["--help"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert not HEAVY & modules
    for verb in ("copy", "check", "journal", "demo"):
        assert f"\n  {verb} " in said
    # 0.06 s of it on an idle machine; the bound only catches a heavy import that comes back under another name
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_the_version_imports_nothing_heavy() -> None:
    modules, said = imported(["--version"])
    assert not HEAVY & modules
    assert said.startswith("asynccopy")


async def test_a_look_into_a_journal_imports_only_the_loop_and_the_database(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    await (await Journal.open(path, source="src", destination="dst")).close()
    modules, said = imported(["journal", "show", "--journal", str(path)])
    assert HEAVY & modules <= {"asyncio", "sqlite3", "uvloop"}
    assert "src" in said


@pytest.mark.parametrize(
    "verb", ["copy", "check", "journal", "journal export", "journal show", "journal errors", "demo"]
)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    assert f"Usage: asynccopy {verb}" in capsys.readouterr().out


def test_no_arguments_show_the_help_and_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mirror"], "No such command 'mirror'"),
        (["copy"], "Missing argument 'SOURCE'"),
        (["copy", "a", "b", "--fast"], "No such option '--fast'"),
        (["copy", "a", "b", "--verify", "md5"], "Invalid value for '--verify'"),
        (["copy", "a", "b", "--part-size", "64M"], "Invalid value for '--part-size': '64M' is not a size"),
        (["copy", "a", "b", "--bandwidth", "1Mbit/s"], "Invalid value for '--bandwidth'"),
        (["copy", "a", "b", "--newer-than", "soon"], "Invalid value for '--newer-than'"),
        (["copy", "a", "b", "--concurrency", "0"], "Invalid value for '--concurrency'"),
        (["copy", "a", "b", "--min-size", "2", "--max-size", "1"], "--min-size is above --max-size"),
        (["copy", "a", "b", "--newer-than", "1d", "--older-than", "2d"], "--newer-than is not before --older-than"),
        (["copy", "a", "b", "--include-regex", "("], "--include-regex '('"),
        (["copy", "ftp://host/a", "b"], "unknown scheme ftp://"),
        (["copy", "", "b"], "an empty SOURCE"),
        (["copy", "dc1:/warehouse", "b"], "there is no --config"),
        (["copy", "a", "b", "--config", "/nonexistent.toml"], "/nonexistent.toml: cannot be read"),
        (["journal", "export"], "--journal FILE, --job SOURCE DESTINATION, --mirror NAME"),
        (["journal", "show", "--journal", "/nonexistent.journal"], "no journal at /nonexistent.journal"),
        (["demo", "--source", "a"], "belong together"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    seen = capsys.readouterr()
    first, *rest = seen.err.splitlines()
    assert first.startswith("asynccopy: ")
    assert says in first
    assert [line[:6] for line in rest] in ([], ["hint: "])
    assert seen.out == ""
    assert list(tmp_path.iterdir()) == []


def classes(root: type[errors.AsyncCopyError]) -> list[type[errors.AsyncCopyError]]:
    return [root, *(found for child in root.__subclasses__() for found in classes(child))]


def run_raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    @click.command("copy")
    def failing() -> None:
        raise error

    monkeypatch.setattr(program._Verbs, "get_command", lambda *_: failing)
    return main(["copy"])


@pytest.mark.parametrize("kind", classes(errors.AsyncCopyError))
def test_every_error_ends_in_its_exit_code(
    kind: type[errors.AsyncCopyError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(monkeypatch, kind("something happened")) == kind.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["asynccopy: something happened", *([f"hint: {kind.default_hint}"] if kind.default_hint else [])]


def test_names_cannot_command_the_terminal_and_secrets_stay_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = errors.NotFound("a\x1b[2J\nb\u202egpj: http://nn/?op=OPEN&delegation=hunter2&offset=0", hint="\x07")
    run_raising(monkeypatch, error)
    assert capsys.readouterr().err == (
        "asynccopy: a\\x1b[2J\\nb\\u202egpj: http://nn/?op=OPEN&delegation=[redacted]&offset=0\nhint: \\x07\n"
    )


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCCOPY_DEBUG", "1")
    with pytest.raises(errors.NotFound):
        run_raising(monkeypatch, errors.NotFound("a"))


def test_a_bug_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run_raising(monkeypatch, ZeroDivisionError())


def test_a_reader_that_goes_away_is_no_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(3000):
        (tmp_path / "source" / f"{'long' * 20}{number}").touch()
    command = [sys.executable, "-m", "asynccopy", "copy", "--dry-run", str(tmp_path / "source"), str(tmp_path / "to")]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
