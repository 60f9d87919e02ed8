"""Secrets stay where they are: not in logs, results, journals, or where other users of the machine can see them."""

from __future__ import annotations

import time
from pathlib import Path

from testbed.content import Content, small_files
from testbed.fill import fill
from testbed.hdfs import Hdfs
from tests.program import Ended, Program, eventually
from tests.servers import LoggedGateway, uploading

MIB = 1 << 20
TOKEN = "canary-session-token-that-must-never-be-shown"


def shown(ended: Ended, program: Program) -> str:
    """Everything a run left behind that others may read."""
    files = [path for path in program.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".journal" for path in files)
    return ended.out + ended.err + "".join(path.read_bytes().decode(errors="replace") for path in files)


def assert_no_secret(text: str, gateway: LoggedGateway) -> None:
    assert gateway.secret_key not in text
    assert TOKEN not in text
    assert "Signature=" not in text


def test_no_secret_is_shown(hdfs: Hdfs, root: str, gateway: LoggedGateway, bucket: str, program: Program) -> None:
    files = small_files(20, 1_000, directories=2) | {"big": Content(1, 12 * MIB)}
    fill(hdfs.http, hdfs.user, root, files)
    options = ("-v", "--bandwidth", "6MiB/s", "--part-size", "5MiB")
    running = program.start_copy(hdfs.url + root, f"s3://{bucket}", *options)
    eventually(lambda: uploading(gateway, bucket))
    assert_no_secret(Path(f"/proc/{running.pid}/cmdline").read_bytes().decode(), gateway)
    gateway.kill()  # so that there is something to complain about
    time.sleep(0.5)
    gateway.restart()
    ended = running.wait()
    assert ended.code == 0, ended.err
    assert "retrying" in ended.err
    assert_no_secret(shown(ended, program), gateway)


def test_no_secret_is_shown_when_it_is_refused(
    hdfs: Hdfs, root: str, gateway: LoggedGateway, bucket: str, program: Program
) -> None:
    fill(hdfs.http, hdfs.user, root, {"a": b"x"})
    assert program.copy(hdfs.url + root, f"s3://{bucket}").code == 0
    for wrong in ({"AWS_ACCESS_KEY_ID": "nobody"}, {"AWS_REGION": "eu-moon-1"}, {"AWS_SESSION_TOKEN": TOKEN}):
        ended = program.copy(hdfs.url + root, f"s3://{bucket}", "-v", **{"AWS_SESSION_TOKEN": TOKEN} | wrong)
        assert ended.code == 3, ended.err
        assert_no_secret(shown(ended, program), gateway)


def test_the_journal_is_for_its_owner(
    hdfs: Hdfs, root: str, gateway: LoggedGateway, bucket: str, program: Program
) -> None:
    fill(hdfs.http, hdfs.user, root, {"a": b"x"})
    assert program.copy(hdfs.url + root, f"s3://{bucket}").code == 0
    state = program.folder / "state" / "asynccopy"
    assert state.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.iterdir())
