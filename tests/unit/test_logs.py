from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from asynccopy import logs
from asynccopy.logs import configure, hide, log, printable, redact


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("http://nn:9870/webhdfs/v1/a?op=OPEN&delegation=IAAE_x-1&offset=0", "delegation=[redacted]&offset=0"),
        (
            "s3: X-Amz-Signature=abc&X-Amz-Credential=AKIA/x&x=1",
            "X-Amz-Signature=[redacted]&X-Amz-Credential=[redacted]&x=1",
        ),
        ("?Signature=abc%2B def", "?Signature=[redacted] def"),
        ("X-Amz-Security-Token=abc", "X-Amz-Security-Token=[redacted]"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AKIA, Signature=ff", "Authorization: [redacted]"),
        ("{'x-amz-security-token': 'abc'}", "{'x-amz-security-token': '[redacted]'}"),
        ('{"token":"abc\\"def","b":2}', '{"token":"[redacted]","b":2}'),
        ('the start of "token": "abc def', ' "token": "[redacted]'),
        (
            "{'Authorization': 'AWS4-HMAC-SHA256 Signature=abc', 'host': 'h'}",
            "{'Authorization': '[redacted]', 'host': 'h'}",
        ),
        (r'{"cookie": "a=\"b\"; c=d", "host": "h"}', '{"cookie": "[redacted]", "host": "h"}'),
        ("Authorization=Bearer abc= size=5", "Authorization=[redacted] [redacted] size=5"),
        ("aws_secret_access_key=abc", "aws_secret_access_key=[redacted]"),
        ("http://me:pass@host/a", "http://[redacted]@host/a"),
    ],
)
def test_secrets_go(text: str, becomes: str) -> None:
    assert redact(text).endswith(becomes)


@pytest.mark.parametrize(
    "text",
    [
        "x-oss-signature=SECRET",
        "a?x-oss-signature-version=OSS4&x-oss-signature=SECRET&x=1",
        "x-oss-credential=SECRET&x-oss-expires=5",
        "?OSSAccessKeyId=SECRET&Expires=1&Signature=SECRET",
        "SecurityToken=SECRET, next",
        "AccessKeySecret=SECRET; next",
        '{"AccessKeySecret": "SECRET", "Expiration": "2026-11-21T00:00:00Z", "SecurityToken": "SECRET"}',
        "alibaba_cloud_access_key_secret=SECRET ALIBABA_CLOUD_SECURITY_TOKEN=SECRET sts_token: SECRET",
        "401 for Bearer SECRET: no such token",
        "{'Authorization': 'SECRET', 'host': 'h'}",
        '{"delegation": "SECRET"}',
        "{'delegation': 'SECRET'} of 5",
        '{"a": 1, "token":"SECRET", "b": 2}',
        r'{"body": "{\"delegation\": \"SECRET\", \"b\": 2}"}',
        "redirect%3Dhttp://dn:9864/a%3Fop%3DOPEN%26delegation%3DSECRET%26offset%3D0&x=1",
        "delegation%253DSECRET%2526offset%253D0",
        "DELEGATION=SECRET (token: SECRET) [token=SECRET]",
    ],
)
def test_a_secret_goes_and_nothing_else_of_the_line(text: str) -> None:
    assert redact(text) == text.replace("SECRET", "[redacted]")
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "design=plain",
        "a path/with=equals",
        "http://host:9870/a@b:c",
        "signature of a file",
        "give a bearer token as a header",
        "/data/token: no such file",
        "next-token: abc",
        "x-oss-signature-version=OSS4",
        '"tokens": 5',
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert redact(text) == text


def test_nothing_printed_is_obeyed() -> None:
    assert printable("plain ängstlich 日本 \N{SNOWMAN}") == "plain ängstlich 日本 \N{SNOWMAN}"
    assert printable("a\x1b[2J\r\n\t\x85\u202e\u200b\udcff") == "a\\x1b[2J\\r\\n\\t\\x85\\u202e\\u200b\\udcff"
    assert printable("a\N{NO-BREAK SPACE}b") == "a\\xa0b"


def test_json_lines_hold_no_secret_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "events"
    configure(file=path)
    log = structlog.get_logger()
    log.info("quiet")
    try:
        int("?delegation=hunter2")
    except ValueError as error:
        log.warning(
            "trouble with delegation=hunter2",
            Authorization="hunter2",
            security_token=b"hunter2",
            headers={"x-amz-security-token": "hunter2", "host": "h"},
            pairs=[("Authorization", "hunter2"), ("host", "h")],
            cause=error,
            exc_info=True,
            size=5,
            path="a\nb",
        )
    logging.getLogger("some.library").error("%s", "http://a/?Signature=hunter2")
    text = path.read_text()
    assert "hunter2" not in text
    own, library = map(json.loads, text.splitlines())
    assert (own["level"], own["size"], own["path"]) == ("warning", 5, "a\nb")
    assert own["headers"]["host"] == "h"
    assert own["pairs"] == [["Authorization", "[redacted]"], ["host", "h"]]
    assert "ValueError" in own["exception"]
    assert (library["level"], library["logger"]) == ("error", "some.library")


def test_short_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True)
    structlog.get_logger().info("copied", path="a\x1b\nb", etag=None)
    structlog.get_logger().debug("not this")
    line = capsys.readouterr().err
    assert line[8:] == " info: copied  path=a\\x1b\\nb\n"


def test_warnings_only_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("not this")
    structlog.get_logger().warning("this")
    assert capsys.readouterr().err.endswith(" warning: this\n")


def test_structlog_is_imported_with_the_first_event_to_be_seen(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from asynccopy.logs import configure, log
configure(file=Path({str(tmp_path / "events")!r}))
log.info("not this", path="a")
assert "structlog" not in sys.modules
log.warning("this", token="hunter2")
import structlog
structlog.get_logger().warning("that")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    own, direct = map(json.loads, (tmp_path / "events").read_text().splitlines())
    assert (own["event"], own["level"], own["token"]) == ("this", "warning", "[redacted]")
    assert direct["event"] == "that"


@pytest.mark.parametrize("word", ["access_token", "sign", "oss_access_key_secret"])
def test_secrets_of_a_url_go(word: str) -> None:
    assert redact(f"https://robot/send?a=b&{word}=hunter2&c=d") == f"https://robot/send?a=b&{word}=[redacted]&c=d"


@pytest.fixture
def _nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_hidden", [])


@pytest.mark.usefixtures("_nothing_hidden")
def test_what_is_hidden_goes_wherever_it_stands(tmp_path: Path) -> None:
    hide("/services/hunter2")
    hide("https://hooks.example/services/hunter2")
    hide("short")
    configure(file=tmp_path / "events")
    log.warning(
        "cannot post to https://hooks.example/services/hunter2",
        cause=OSError("GET /services/hunter2 failed"),
        words="a short text",
    )
    event = json.loads((tmp_path / "events").read_text())
    assert event["event"] == "cannot post to [redacted]"
    assert event["cause"] == "GET [redacted] failed"
    assert event["words"] == "a short text"


def test_json_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json=True, verbose=True)
    log.info("scanned", files=5, path="a\n\x1b\udcff", token="hunter2")
    log.tell(logging.DEBUG, "not this")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    event = json.loads(lines[0])
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "scanned",
        "level": "info",
        "files": 5,
        "path": "a\n\x1b\udcff",
        "token": "[redacted]",
    }


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full here")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the lost line, as its file is let go
def test_a_full_disk_ends_nothing() -> None:
    configure(file=Path("/dev/full"))
    log.warning("lost")
