"""The clusters of pywhdfs' file, as pydistcp's users have it: two aliases, and nothing else."""

from __future__ import annotations

import json

from testbed.content import Content
from testbed.fill import fill
from testbed.hdfs import Hdfs
from tests.program import Program

MIB = 1 << 20


def test_from_alias_to_alias(hdfs: Hdfs, root: str, program: Program) -> None:
    tree = {"a/small": Content(1, 10), "a/blocks": Content(2, 5 * MIB), "empty": Content(3, 0)}
    fill(hdfs.http, hdfs.user, f"{root}/from", tree)
    there = {"auth_mechanism": "NONE", "user": hdfs.user, "verify": False}
    clusters = [
        {"name": name, **there, "nameservices": [{"urls": [hdfs.address], "mounts": [f"{root}/{mount}"]}]}
        for name, mount in (("prod", "from"), ("preprod", "to"))
    ]
    (program.folder / ".webhdfs.cfg").write_text(json.dumps({"clusters": clusters}, indent=2))  # in its $HOME
    sides = f"prod:{root}/from", f"preprod:{root}/to"
    ended = program.copy(*sides)
    assert ended.code == 0, ended.err
    assert (ended.counted(), ended.result["verified"]) == ({"expected": 3, "copied": 3}, 3)
    assert program.copy(*sides).counted() == {"expected": 3, "skipped": 3}
    checked = program.run("check", *sides)
    assert (checked.code, checked.out) == (0, ""), checked.err
    wrong = program.copy(f"prod:{root}/to", sides[1])
    assert wrong.code == 2
    assert "below none of its mounts" in wrong.err
