"""What a machine is worth."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from asynccopy.executors import cores


@pytest.mark.parametrize(
    ("files", "ranges"), [(256, 64), (1024, 320), (4096, 512), (70, 2), (10, 1), (resource.RLIM_INFINITY, 512)]
)
def test_ranges_fit_into_the_open_files(files: int, ranges: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert cores.most_ranges() == ranges


def test_a_copy_takes_the_open_files_that_it_may_have() -> None:
    program = (
        "import resource as r; hard = r.getrlimit(r.RLIMIT_NOFILE)[1]\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, hard))\n"
        "from asynccopy.executors.loop import new_loop; new_loop().close()\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE)[0] == min(hard, 65536) if hard != r.RLIM_INFINITY else True)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
