"""A mirror between the real servers: its configuration, what the store holds of it, what the daemon says of it."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.real.churn import Objects
from tests.service import Service

INTERVAL = 2.0
"""Seconds between the beginnings of two passes"""
PREFIX = "k/"


def mirror(hdfs: Hdfs, root: str, bucket: str, **keys: str) -> str:
    """The configuration of the mirror ``m``: it looks often and takes files soon; ``keys`` are added, or replace."""
    keys = {"interval": f"{INTERVAL:.0f}s", "full_scan_interval": "8s", "settle": "1s", **keys}
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    return f'[mirrors.m]\nsource = "{hdfs.url}{root}"\ndestination = "s3://{bucket}/{PREFIX[:-1]}"\n{lines}'


def at_destination(store: Store, bucket: str) -> Objects:
    """What the store holds, read while the daemon may still be deleting there."""
    try:
        found = store.read_back(bucket)
    except FileNotFoundError:  # versitygw's objects are read from its disk
        return {}
    return {key.removeprefix(PREFIX): entry for key, entry in found.items() if key.startswith(PREFIX)}


def difference(found: Objects, wanted: Objects) -> dict[str, object]:
    return {
        path: {"found": found.get(path), "wanted": wanted.get(path)}
        for path in sorted(found.keys() | wanted.keys())
        if found.get(path) != wanted.get(path)
    }


def state_in_metrics(service: Service) -> str:
    """The state of the mirror ``m`` as /metrics has it."""
    text = _get(service, "/metrics")
    states = re.findall(r'^asynccopy_mirror_state\{mirror="m",state="(\w+)"\} 1\.0$', text, re.MULTILINE)
    assert len(states) == 1, text
    return str(states[0])


def on_the_page(service: Service) -> dict[str, Any]:
    """What the page is told of the mirror ``m``, and shows of it."""
    found: dict[str, Any] = json.loads(_get(service, "/v1/mirrors/m"))["status"]
    return found


def _get(service: Service, path: str) -> str:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(10)
        asking.connect(str(service.socket))
        asking.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 "), answer
    return body
