from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_kills_resumes_and_proves() -> None:
    done = subprocess.run([sys.executable, "-m", "asynccopy", "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "   killed with " in done.stderr
    _, _, summary = done.stderr.partition("\nSummary\n")
    assert [line.split()[0] for line in summary.splitlines()] == ["ok"] * 4
