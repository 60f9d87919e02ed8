"""The service as systemd understands it: no warning, hardened, with the user and the folders that it needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "asynccopy.service"
LIMIT = 1.5

pytestmark = pytest.mark.real  # of systemd's own tools; no service manager has to run


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here")
    return path


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("unit", ["asynccopy.service", "asynccopy-copy@.service"])
def test_little_is_exposed(unit: str) -> None:
    tool = _tool("systemd-analyze")
    version = _run(tool, "--version").stdout.split()[1]
    if int(re.split(r"\D", version)[0]) < 250:
        pytest.skip(f"systemd {version} cannot judge a unit that is not installed")
    text = _run(tool, "security", "--offline=true", "--no-pager", ROOT / "systemd" / unit).stdout
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", text)
    assert found is not None, text
    assert float(found[1]) <= LIMIT, text


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    tool = _tool("systemd-analyze")
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    program = shutil.which("true")
    assert program is not None
    assert text.count("/usr/local/bin/asynccopy") == 2  # it is not installed here, which would be a warning
    unit.write_text(text.replace("/usr/local/bin/asynccopy", program), encoding="utf-8")
    done = _run(tool, "verify", "--man=no", unit)
    assert [line for line in done.stderr.splitlines() if UNIT.name in line] == []


def test_a_line_that_systemd_does_not_know_would_be_found(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text("[Service]\nType=notify\nExecStart=/bin/true\nProtectEverything=yes\n", encoding="utf-8")
    done = subprocess.run([_tool("systemd-analyze"), "verify", "--man=no", unit], capture_output=True, text=True)
    assert "ProtectEverything" in done.stderr


def test_every_line_of_the_hardening_is_explained() -> None:
    """Each block of settings begins with a comment, and none is longer than a screen's corner."""
    service = UNIT.read_text(encoding="utf-8").partition("[Service]")[2].partition("[Install]")[0]
    lines = [line for line in service.splitlines() if line]
    assert lines[0].startswith("#")
    bare = 0
    for line in lines:
        bare = 0 if line.startswith("#") else bare + 1
        assert bare <= 6, f"what is {line} for?"


def test_what_the_service_promises() -> None:
    text = UNIT.read_text(encoding="utf-8")
    said = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert (said["Type"], said["KillMode"], said["Restart"]) == ("notify", "mixed", "on-failure")
    assert said["RestartPreventExitStatus"] == "2"
    assert {"WatchdogSec", "TimeoutStopSec", "StateDirectory", "ExecReload"} <= set(said)
    assert (said["RuntimeDirectory"], said["RuntimeDirectoryMode"]) == ("asynccopy", "0750")
    assert "LoadCredential=" in text


def test_the_user_and_the_folders_are_made(tmp_path: Path) -> None:
    users, files = _tool("systemd-sysusers"), _tool("systemd-tmpfiles")
    (tmp_path / "etc" / "asynccopy").mkdir(parents=True)
    config = tmp_path / "etc" / "asynccopy" / "config.toml"
    config.touch(0o644)
    _run(users, f"--root={tmp_path}", ROOT / "systemd" / "asynccopy.sysusers")
    name, _, user, group, _, home, shell = (tmp_path / "etc" / "passwd").read_text().strip().split(":")
    assert (name, home) == ("asynccopy", "/var/lib/asynccopy")
    assert shell.endswith("nologin")
    assert re.search(rf"^asynccopy:.*:{group}:$", (tmp_path / "etc" / "group").read_text(), re.MULTILINE)
    if os.geteuid() != 0:
        return  # only root can give files away
    _run(files, f"--root={tmp_path}", "--create", ROOT / "systemd" / "asynccopy.tmpfiles")
    found = config.stat()
    assert (found.st_uid, found.st_gid, oct(found.st_mode & 0o777)) == (0, int(group), "0o640")
    assert user != "0"
    secrets = (tmp_path / "etc" / "asynccopy" / "credentials").stat()
    assert (secrets.st_uid, secrets.st_gid, oct(secrets.st_mode & 0o777)) == (0, 0, "0o700")
