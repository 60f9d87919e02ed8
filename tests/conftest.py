"""What every test shares: required real servers are not skipped, and no test touches the user's files."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from pathlib import Path

import pytest
import structlog

from asynccopy.logs import log

pytest_plugins = ["tests.servers"]

REQUIRE_REAL = os.environ.get("ASYNCCOPY_REQUIRE_REAL") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where ASYNCCOPY_REQUIRE_REAL=1, a real-server test that skips itself has failed."""
    report = yield
    if REQUIRE_REAL and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("real"):
        report.outcome = "failed"
        report.longrepr = f"a test of the real servers was skipped, but ASYNCCOPY_REQUIRE_REAL=1: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals go to a temporary folder; no AWS, Hadoop or pywhdfs file or variable of the user reaches a test."""
    home: Path = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "aws-credentials"))
    for name in ("HADOOP_CONF_DIR", "WEBHDFS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in [name for name in os.environ if name.startswith("AWS_") and name not in _KEPT]:
        monkeypatch.delenv(name)


_KEPT = frozenset({"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"})


@pytest.fixture(autouse=True)
def _events_as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a test ran in this very process has set up events for the process."""
    monkeypatch.setattr(log, "_level", logging.NOTSET)
    monkeypatch.setattr(log, "_set_up", None)
    structlog.reset_defaults()
