"""What cannot work is told in one line and a hint, quickly, by the right exit code, and nothing is written."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.content import Content
from testbed.fill import fill
from testbed.hdfs import Hdfs
from testbed.process import free_ports
from testbed.s3 import Store
from tests.program import Ended, Program, Running

MIB = 1 << 20
QUICK = 15.0


def refused(running: Running, code: int, *says: str) -> Ended:
    """It ended with this code, in one line that says all of this and perhaps a hint; it took no time."""
    started = time.monotonic()
    ended = running.wait(QUICK + 5)
    assert ended.code == code, ended.err
    assert time.monotonic() - started < QUICK
    lines = ended.err.splitlines()
    assert 1 <= len(lines) <= 2, ended.err
    assert lines[0].startswith("asynccopy: ")
    assert all(line.startswith("hint: ") and len(line) > 12 for line in lines[1:])
    assert "Traceback" not in ended.err
    assert ended.out == ""
    for words in says:
        assert re.search(words, ended.err, re.IGNORECASE), ended.err
    return ended


@pytest.fixture
def source(hdfs: Hdfs, root: str) -> str:
    fill(hdfs.http, hdfs.user, root, {"one": Content(1, 2_000), "big": Content(2, 6 * MIB)})
    return hdfs.url + root


@pytest.fixture
def page() -> Iterator[int]:
    """A web server that answers everything with a page; its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!DOCTYPE html><html><body><h1>It works!</h1></body></html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 - the library's own naming

        def log_message(self, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _nothing_is_written(versitygw: Store, bucket: str) -> Iterator[None]:
    """Whatever goes wrong, the bucket stays as it was: empty."""
    yield
    assert versitygw.read_back(bucket) == {}
    assert versitygw.open_uploads(bucket) == []


# --- the sides -------------------------------------------------------------------------------------------------------


def test_nobody_answers_as_namenode(program: Program, bucket: str) -> None:
    [port] = free_ports(1)
    refused(program.start_copy(f"webhdfs://localhost:{port}/data", f"s3://{bucket}"), 3, str(port), "refused", "hint")


def test_an_unknown_host(program: Program, bucket: str) -> None:
    refused(program.start_copy("webhdfs://no-such-host.invalid:9870/", f"s3://{bucket}"), 3, "no-such-host", "hint")


def test_a_page_answers_as_namenode(program: Program, bucket: str, page: int) -> None:
    refused(program.start_copy(f"webhdfs://127.0.0.1:{page}/data", f"s3://{bucket}"), 3, str(page), "hint: .*port")


def test_the_rpc_port_answers_as_namenode(hdfs: Hdfs, program: Program, bucket: str) -> None:
    port = hdfs.rpc.rsplit(":", 1)[1]
    refused(program.start_copy(f"webhdfs://localhost:{port}/data", f"s3://{bucket}"), 3, port, "hint: .*port")


def test_a_datanode_answers_as_namenode(hdfs: Hdfs, program: Program, bucket: str) -> None:
    port = str(hdfs.datanodes[0].http_port)
    refused(program.start_copy(f"webhdfs://localhost:{port}/data", f"s3://{bucket}"), 3, port, "hint")


def test_the_store_answers_as_namenode(versitygw: Store, program: Program, bucket: str) -> None:
    address = versitygw.endpoint.removeprefix("http://")
    refused(program.start_copy(f"webhdfs://{address}/data", f"s3://{bucket}"), 3, address, "hint")


def test_a_missing_source(hdfs: Hdfs, program: Program, bucket: str) -> None:
    refused(program.start_copy(f"{hdfs.url}/no/such/place", f"s3://{bucket}"), 3, "/no/such/place", "no such", "hint")


def test_a_missing_local_source(program: Program, bucket: str, tmp_path: Path) -> None:
    refused(program.start_copy(str(tmp_path / "nothing"), f"s3://{bucket}"), 3, "nothing", "hint")


def test_a_file_in_place_of_a_directory(source: str, program: Program, bucket: str) -> None:
    refused(program.start_copy(f"{source}/one/below", f"s3://{bucket}"), 3, "one/below", "hint")


def test_a_source_that_may_not_be_read(hdfs: Hdfs, root: str, source: str, program: Program, bucket: str) -> None:
    with hdfs.client() as client:
        client.set_permission(root, "700")
    running = program.start_copy(f"{source}/one", f"s3://{bucket}", HADOOP_USER_NAME="alice")
    refused(running, 3, "permission|denied|access", "hint")


@pytest.mark.parametrize(
    "wrong", [{"AWS_ACCESS_KEY_ID": "nobody"}, {"AWS_SECRET_ACCESS_KEY": "not-the-secret"}], ids=["access", "secret"]
)
def test_wrong_keys(source: str, program: Program, bucket: str, wrong: dict[str, str]) -> None:
    ended = refused(program.start_copy(source, f"s3://{bucket}", **wrong), 3, bucket, "hint")
    assert "not-the-secret" not in ended.err


def test_no_keys(source: str, program: Program, bucket: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del program.environment[name]
    refused(program.start_copy(source, f"s3://{bucket}"), 3, "credentials", "hint")


def test_a_missing_bucket(source: str, program: Program) -> None:
    refused(program.start_copy(source, "s3://no-such-bucket-at-all/x"), 3, "no-such-bucket-at-all", "hint")


def test_nobody_answers_as_store(source: str, program: Program, bucket: str) -> None:
    [port] = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    refused(program.start_copy(source, f"s3://{bucket}", AWS_ENDPOINT_URL_S3=endpoint), 3, str(port), "hint")


def test_a_page_answers_as_store(source: str, program: Program, bucket: str, page: int) -> None:
    endpoint = f"http://127.0.0.1:{page}"
    refused(program.start_copy(source, f"s3://{bucket}", AWS_ENDPOINT_URL_S3=endpoint), 3, str(page))


def test_the_namenode_answers_as_store(hdfs: Hdfs, source: str, program: Program, bucket: str) -> None:
    refused(program.start_copy(source, f"s3://{bucket}", AWS_ENDPOINT_URL_S3=hdfs.address), 3, hdfs.address[7:])


def test_tls_where_there_is_none(hdfs: Hdfs, program: Program, bucket: str) -> None:
    address = hdfs.address.removeprefix("http://")
    refused(program.start_copy(f"swebhdfs://{address}/", f"s3://{bucket}"), 3, "TLS", "hint")


def test_a_namenode_that_says_nothing_can_be_interrupted(program: Program, bucket: str) -> None:
    """It is given as long as a stall may last, 30 s: the one case that is not quick."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running = program.start_copy(f"webhdfs://127.0.0.1:{silent.getsockname()[1]}/", f"s3://{bucket}")
        time.sleep(1)
        assert running.runs
        for _ in range(2):
            running.signal(signal.SIGINT)
            time.sleep(0.5)  # two of a kind at once are one
        assert running.wait(5).code == 5


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["copy", "ftp://host/x", "s3://BUCKET"], "ftp"),
        (["copy", "hdfs://nameservice/x", "s3://BUCKET"], "webhdfs://"),
        (["copy", "SOURCE", "gs://bucket/x"], "gs://"),
        (["copy", "SOURCE", "s3://UPPER_case!"], "bucket name"),
        (["copy", "SOURCE", "webhdfs://user@host/x"], "no user"),
        (["copy", "SOURCE", "SOURCE"], "HDFS cannot be a destination|same"),
        (["copy", "webhdfs://host:99999/x", "s3://BUCKET"], "99999"),
        (["copy", "webhdfs://user:secret@host/x", "s3://BUCKET"], "user"),
        (["copy", "SOURCE"], "DESTINATION"),
        (["copy", "SOURCE", "s3://BUCKET", "--no-such-option"], "--no-such-option"),
        (["copy", "SOURCE", "s3://BUCKET", "--part-size", "1"], "--part-size"),
        (["copy", "SOURCE", "s3://BUCKET", "--part-size", "10GiB"], "--part-size"),
        (["copy", "SOURCE", "s3://BUCKET", "--part-size", "8 potatoes"], "--part-size"),
        (["copy", "SOURCE", "s3://BUCKET", "--bandwidth", "fast"], "--bandwidth"),
        (["copy", "SOURCE", "s3://BUCKET", "--bandwidth", "0"], "--bandwidth"),
        (["copy", "SOURCE", "s3://BUCKET", "--concurrency", "0"], "--concurrency"),
        (["copy", "SOURCE", "s3://BUCKET", "--verify", "maybe"], "--verify"),
        (["copy", "SOURCE", "s3://BUCKET", "--include-regex", "("], "--include-regex"),
        (["copy", "SOURCE", "s3://BUCKET", "--result", "/no/such/folder/r.json"], "--result"),
        (["copy", "SOURCE", "s3://BUCKET", "--result", "/proc/r.json"], "--result"),
        (["copy", "SOURCE", "s3://BUCKET", "--config", "/no/such/file.toml"], "/no/such/file.toml"),
        (["check", "SOURCE", "s3://BUCKET", "--min-size", "big"], "--min-size"),
    ],
    ids=lambda value: re.sub("[^a-z0-9-]+", "-", " ".join(value[1:])).strip("-") if isinstance(value, list) else "",
)
def test_wrong_usage(source: str, program: Program, bucket: str, arguments: list[str], says: str) -> None:
    given = [word.replace("SOURCE", source).replace("BUCKET", bucket) for word in arguments]
    ended = refused(program.start(*given), 2, says)
    assert "secret" not in ended.err


@pytest.mark.parametrize("endpoint", ["not a url", "ftp://host", "http://", "http://host:port", "http://u:canary@h:1"])
def test_a_malformed_endpoint(source: str, program: Program, bucket: str, endpoint: str) -> None:
    ended = refused(program.start_copy(source, f"s3://{bucket}", AWS_ENDPOINT_URL_S3=endpoint), 2, "endpoint")
    assert "canary" not in ended.err


# --- the journal -----------------------------------------------------------------------------------------------------


def made_journal(source: str, program: Program, bucket: str) -> Path:
    """A journal as a refused copy or a dry run would leave it, made by a real one into a folder."""
    journal = program.folder / "j.journal"
    fake = program.folder / "sink"
    assert program.copy(source, str(fake), "--journal", str(journal)).code == 0
    connection = sqlite3.connect(journal)
    connection.execute("UPDATE job SET destination = ?", (f"s3://{bucket}",))
    connection.execute("UPDATE files SET state = 0")
    connection.commit()
    connection.close()
    return journal


def test_junk_as_journal(source: str, program: Program, bucket: str) -> None:
    journal = program.folder / "junk"
    journal.write_bytes(os.urandom(10_000))
    kept = journal.read_bytes()
    refused(program.start_copy(source, f"s3://{bucket}", "--journal", str(journal)), 4, "junk", "hint")
    assert journal.read_bytes() == kept


def test_another_database_as_journal(source: str, program: Program, bucket: str) -> None:
    journal = program.folder / "other.db"
    connection = sqlite3.connect(journal)
    connection.execute("CREATE TABLE precious (x)")
    connection.commit()
    connection.close()
    kept = journal.read_bytes()
    refused(program.start_copy(source, f"s3://{bucket}", "--journal", str(journal)), 4, "other.db", "hint")
    assert journal.read_bytes() == kept


def test_a_directory_as_journal(source: str, program: Program, bucket: str) -> None:
    (program.folder / "folder").mkdir()
    refused(program.start_copy(source, f"s3://{bucket}", "--journal", "folder"), 2, "folder", "directory")


def test_a_journal_in_no_folder(source: str, program: Program, bucket: str) -> None:
    (program.folder / "file").touch()
    refused(program.start_copy(source, f"s3://{bucket}", "--journal", "file/j"), 4, "file/j", "hint")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_truncated_journal(source: str, program: Program, bucket: str, keep: float) -> None:
    journal = made_journal(source, program, bucket)
    os.truncate(journal, int(journal.stat().st_size * keep))
    refused(program.start_copy(source, f"s3://{bucket}", "--journal", str(journal)), 4, "j.journal", "hint")


def test_a_damaged_journal(source: str, program: Program, bucket: str) -> None:
    journal = made_journal(source, program, bucket)
    content = bytearray(journal.read_bytes())
    content[4096:8192] = os.urandom(4096)
    journal.write_bytes(content)
    refused(program.start_copy(source, f"s3://{bucket}", "--journal", str(journal)), 4, "j.journal", "hint")


def test_a_newer_journal(source: str, program: Program, bucket: str) -> None:
    journal = made_journal(source, program, bucket)
    connection = sqlite3.connect(journal)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    refused(program.start_copy(source, f"s3://{bucket}", "--journal", str(journal)), 4, "j.journal", "newer", "hint")


def test_another_jobs_journal(source: str, program: Program, bucket: str) -> None:
    journal = made_journal(source, program, bucket)
    running = program.start_copy(source, f"s3://{bucket}/elsewhere", "--journal", str(journal))
    refused(running, 2, "another job", "hint")


def mounting(script: str) -> tuple[str, ...]:
    """The words that run a command after ``script`` mounted something which only that command sees."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let a user make mount namespaces (unshare -Urm)")
    return ("unshare", "-Urm", "sh", "-ec", f'{script}; exec "$@"', "sh")


def test_a_read_only_journal(source: str, program: Program, bucket: str) -> None:
    journal = made_journal(source, program, bucket)
    disk = program.folder / "disk"
    disk.mkdir()
    before = mounting(f"mount -t tmpfs none {disk}; cp {journal} {disk}; mount -o remount,ro {disk}")
    command = ("copy", source, f"s3://{bucket}", "--journal", f"{disk}/j.journal")
    refused(program.start(*command, before=before), 4, "j.journal", "read-only|permission", "hint")


@pytest.mark.parametrize("size", ["8k", "64k", "160k"])
def test_a_journal_on_a_full_disk(
    hdfs: Hdfs, root: str, program: Program, bucket: str, versitygw: Store, size: str
) -> None:
    """Full at the beginning, or later, while the listing is written."""
    fill(hdfs.http, hdfs.user, root, {f"{'f' * 200}-{n}": b"" for n in range(400)})
    disk = program.folder / "disk"
    disk.mkdir()
    before = mounting(f"mount -t tmpfs -o size={size} none {disk}")
    command = ("copy", hdfs.url + root, f"s3://{bucket}/full", "--journal", f"{disk}/j.journal", "--quiet")
    refused(program.start(*command, before=before), 4, "full|space", "hint")
    # What was copied before the disk was full is whole; with room again, the rest follows.
    for key in versitygw.read_back(bucket):
        assert versitygw.client().request("DELETE", bucket, key).status == 204


# --- what a right command leaves alone -------------------------------------------------------------------------------


def test_a_result_is_written_of_a_failed_run_too(program: Program, bucket: str) -> None:
    [port] = free_ports(1)
    ended = program.copy(f"webhdfs://localhost:{port}/data", f"s3://{bucket}")
    assert (ended.code, ended.result["outcome"]) == (3, "failed")
    [error] = ended.result["errors"]
    assert (error["path"], error["class"]) == ("", "Unreachable")
    assert str(port) in error["message"]
    assert error["hint"]


def test_a_dry_run_needs_no_journal(source: str, program: Program, bucket: str) -> None:
    ended = program.run("copy", source, f"s3://{bucket}", "--dry-run", "--journal", "j")
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["big", "one"]), ended.err
    assert not list(program.folder.glob("j*"))
