"""The verbs as a user runs them, between local directories."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from asynccopy.cli.job import journal_path
from asynccopy.cli.main import main

SOURCE = {
    "a.txt": b"alpha",
    "sub/b.bin": b"b" * 100_000,
    "sub/deep/=c": b"",
    "sub/e\x1b[31m": b"escape",
}


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for name, data in SOURCE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


def held(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def copied(source: Path, to: Path, *options: str) -> dict[str, Any]:
    result = to.parent / "result.json"
    code = main(["copy", str(source), str(to), "--result", str(result), *options])
    document: dict[str, Any] = json.loads(result.read_text())
    assert (code == 0) == (document["outcome"] == "succeeded")
    return document


def test_a_copy_and_its_result(source: Path, to: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copied(source, to)
    assert held(to) == SOURCE
    size = sum(map(len, SOURCE.values()))
    assert document["files"] == {"expected": 4, "copied": 4, "skipped": 0, "failed": 0, "deleted": 0}
    assert document["bytes"] == {"expected": size, "copied": size, "skipped": 0, "failed": 0, "deleted": 0}
    assert (document["verified"], document["resumed_parts"], document["errors"]) == (4, 0, [])
    for moment in ("started", "finished"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document[moment])
    assert document["duration_seconds"] > 0
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "copied 4 files, 97.7 KiB" in seen.err


def test_the_same_command_again_copies_nothing(source: Path, to: Path) -> None:
    copied(source, to)
    (source / "a.txt").write_bytes(b"changed")
    document = copied(source, to)
    assert (document["files"]["copied"], document["files"]["skipped"]) == (1, 3)
    assert held(to)["a.txt"] == b"changed"


def test_quiet_is_silent(source: Path, to: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(source, to, "--quiet")
    assert capsys.readouterr() == ("", "")


def test_a_dry_run_prints_what_is_missing_and_writes_nothing(
    source: Path, to: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["copy", str(source), str(to), "--dry-run"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == ["a.txt", "sub/b.bin", "sub/deep/=c", "sub/e\\x1b[31m"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]

    copied(source, to)
    (source / "a.txt").write_bytes(b"changed")
    capsys.readouterr()
    assert main(["copy", str(source), str(to), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == ["a.txt"]
    assert held(to)["a.txt"] == b"alpha"


def test_a_dry_run_names_all_that_the_destination_cannot_hold(
    source: Path, to: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / ".asynccopy").mkdir()
    for number in range(30):
        (source / f".asynccopy/{number:02}").touch()
    for _ in range(2):  # also where a run before has listed them
        capsys.readouterr()
        assert main(["copy", str(source), str(to), "--dry-run"]) == 1
        out, told = capsys.readouterr()
        assert sorted(out.splitlines()) == ["a.txt", "sub/b.bin", "sub/deep/=c", "sub/e\\x1b[31m"]
        refused = sorted(line.split(": ")[1] for line in told.splitlines())
        assert refused == [f".asynccopy/{number:02}" for number in range(30)]
        copied(source, to, "--include", ".asynccopy/*")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--include", "*.txt"], ["a.txt"]),
        (["--include", "sub/**", "--exclude", "sub/deep/**"], ["sub/b.bin", "sub/e\x1b[31m"]),
        (["--exclude-regex", "^sub/"], ["a.txt"]),
        (["--min-size", "1KiB"], ["sub/b.bin"]),
        (["--max-size", "0"], ["sub/deep/=c"]),
        (["--older-than", "1d"], []),
        (["--newer-than", "1d", "--max-size", "5"], ["a.txt", "sub/deep/=c"]),
    ],
)
def test_the_selection(source: Path, to: Path, options: list[str], names: list[str]) -> None:
    copied(source, to, *options)
    assert sorted(held(to)) == names


def test_a_result_that_cannot_be_written_is_found_before_the_copy_begins(
    source: Path, to: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["copy", str(source), str(to), "--result", str(tmp_path / "none" / "result.json")]) == 2
    assert "result.json: cannot be written: No such file or directory" in capsys.readouterr().err
    assert not to.exists()
    assert main(["copy", str(source), str(to), "--result", str(tmp_path)]) == 2
    assert not to.exists()


def test_a_run_that_fails_early_has_a_result_too(tmp_path: Path, to: Path) -> None:
    document = copied(tmp_path / "nowhere", to)
    assert document["outcome"] == "failed"
    (error,) = document["errors"]
    assert (error["path"], error["class"]) == ("", "NotThere")
    assert "nowhere" in error["message"]


def test_source_and_destination_are_not_the_same(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["copy", str(source), str(source)]) == 2
    assert "are the same" in capsys.readouterr().err


def test_the_destination_does_not_lie_in_the_source(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["copy", str(source), str(source / "copy")]) == 2
    assert "DESTINATION lies in SOURCE" in capsys.readouterr().err
    assert not (source / "copy").exists()
    assert main(["copy", str(source), f"{source}-copy"]) == 0


@pytest.mark.parametrize(("there", "code"), [("http://127.0.0.1:9", 2), ("http://127.0.0.1:10", 3)])
def test_buckets_of_one_name_at_two_addresses_are_two(
    there: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    config = tmp_path / "config.toml"
    tables = (("here", "http://127.0.0.1:9"), ("there", there))
    config.write_text("".join(f'[endpoints.{n}]\ntype = "s3"\nbucket = "bkt"\nendpoint = "{u}"\n' for n, u in tables))
    assert main(["copy", "--config", str(config), "here:/x", "there:/x"]) == code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("owner", "only HDFS has and keeps these attributes"),
        ("all", "(owner, group, permission, times, replication, block-size)"),
        ("times,owner", "(owner, times)"),
        ("owner,acl", "'acl' is none of owner, group"),
        ("", "'' is none of owner, group"),
        ("Owner", "'Owner' is none of owner, group"),
    ],
)
def test_attributes_where_no_hdfs_is(
    source: Path, to: Path, capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    assert main(["copy", str(source), str(to), "--preserve", words]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not to.exists()


def test_a_junk_file_as_journal(source: Path, to: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"this is no journal" * 1000)
    assert main(["copy", str(source), str(to), "--journal", str(junk)]) == 4
    assert str(junk) in capsys.readouterr().err
    assert junk.read_bytes() == b"this is no journal" * 1000
    assert not to.exists()


def test_the_journal_is_found_by_the_job(tmp_path: Path) -> None:
    state = tmp_path / "state" / "asynccopy"
    one = journal_path(None, "webhdfs://nn/a", "s3://b/c")
    assert one.parent == state
    assert re.fullmatch(r"[0-9a-f]{16}\.journal", one.name)
    assert journal_path(None, "webhdfs://nn/a", "s3://b/c") == one
    assert journal_path(None, "webhdfs://nn/as", "3://b/c") != one
    assert journal_path(Path("mine"), "webhdfs://nn/a", "s3://b/c") == Path("mine")


def test_check_prints_what_differs(source: Path, to: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(source, to)
    capsys.readouterr()
    assert main(["check", str(source), str(to)]) == 0
    assert capsys.readouterr().out == ""
    (to / "a.txt").unlink()
    (to / "sub" / "b.bin").write_bytes(b"c" * 100_000)
    (to / "extra").write_bytes(b"")
    assert main(["check", str(source), str(to)]) == 1
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert sorted(line[:2] for line in lines) == [["different", "sub/b.bin"], ["extra", "extra"], ["missing", "a.txt"]]


def test_the_ledger_as_json_lines_and_csv(source: Path, to: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(source, to)
    job = ["--job", str(source), str(to)]
    capsys.readouterr()
    assert main(["journal", "export", *job]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["path"]: row["length"] for row in rows} == {name: len(data) for name, data in SOURCE.items()}
    assert {row["state"] for row in rows} == {"done"}
    assert all(row["object_checksum"].startswith("CRC32C:") for row in rows)

    journal = next((to.parent / "state" / "asynccopy").glob("*.journal"))
    assert main(["journal", "export", "--format", "csv", "--journal", str(journal)]) == 0
    table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {row["path"] for row in table} == set(SOURCE)


def test_looking_inside(source: Path, to: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied(source, to)
    job = ["--job", str(source), str(to)]
    capsys.readouterr()
    assert main(["journal", "show", *job]) == 0
    assert re.search(r"done\s+4 files, 97.7 KiB", capsys.readouterr().out)
    assert main(["journal", "show", "sub/e\x1b[31m", *job]) == 0
    assert re.search(r"path\s+sub/e\\x1b\[31m\n", capsys.readouterr().out)
    assert main(["journal", "show", "none", *job]) == 2
    assert main(["journal", "errors", *job]) == 0
    assert capsys.readouterr().out == ""


def test_endpoints_by_name(source: Path, to: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[endpoints.dc1]\ntype = "webhdfs"\nurl = "webhdfs://127.0.0.1:1"\n')
    assert main(["copy", "dc2:/a", str(to), "--config", str(config)]) == 2
    assert "there is no [endpoints.dc2]" in capsys.readouterr().err
    assert main(["copy", "dc1:/a", str(to), "--config", str(config)]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err


def slow_copy(source: Path, to: Path) -> subprocess.Popen[str]:
    (source / "big").write_bytes(os.urandom(40 << 20))
    result = ["--result", str(to.parent / "result.json"), "--bandwidth", "4MiB/s", "--part-size", "5MiB", "-v"]
    process = subprocess.Popen(
        [sys.executable, "-m", "asynccopy", "copy", str(source), str(to), "--concurrency", "2", *result],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "journal" in process.stderr.readline()  # its loop runs and the signals are ours
    time.sleep(0.5)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_in_order_and_the_next_run_finishes(source: Path, to: Path, number: signal.Signals) -> None:
    with slow_copy(source, to) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "stopping after the ranges in flight" in said
    assert "Traceback" not in said
    document = json.loads((to.parent / "result.json").read_text())
    assert document["outcome"] == "interrupted"
    assert document["errors"][0]["class"] == "Interrupted"
    again = copied(source, to)
    assert again["files"]["expected"] == 5
    assert again["resumed_parts"] > 0
    assert held(to) == held(source)


def test_the_second_signal_stops_at_once(source: Path, to: Path) -> None:
    with slow_copy(source, to) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "stopping" not in process.stderr.readline():
            pass
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 5
    assert time.monotonic() - began < 2  # a part takes longer than that
    assert "Traceback" not in said
    assert "stopped at once" in said
    assert copied(source, to)["outcome"] == "succeeded"
    assert held(to) == held(source)
