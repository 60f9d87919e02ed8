"""A tree that keeps changing, from a seed, and what it must look like at the destination, told without asking HDFS."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator

from testbed.fill import WebHdfs, WebHdfsError

MIB = 1 << 20
Objects = dict[str, tuple[int, str]]


class Churn:
    """Changes below ``root``, one at a time. ``files`` holds every file's bytes by relative path, ``directories`` all
    directories but the root; ``former`` every name that an object may have had; ``done`` counts what was done.
    """

    def __init__(self, client: WebHdfs, root: str, seed: int) -> None:
        self._client = client
        self._root = root
        self._chance = random.Random(seed)
        self._number = 0
        self.files: dict[str, bytes] = {}
        self.directories: set[str] = set()
        self.former: set[str] = set()
        self.done: dict[str, int] = {}

    def fill(self, files: int) -> None:
        for _ in range(12):
            self._mkdir()
        for _ in range(files):
            self._create()
        self._note()

    def step(self) -> None:
        """One change of a kind that is possible now."""
        kinds = ("create", "create", "create", "append", "append", "overwrite", "rename", "rename_directory", "delete")
        rarely = ("mkdir", "delete_directory", "slow", "swap", "big", "empty", "chmod")
        kind = self._chance.choice(kinds * 3 + rarely)
        if getattr(self, f"_{kind}")() is not False:
            self.done[kind] = self.done.get(kind, 0) + 1
            self._note()

    def objects(self) -> Objects:
        """What the destination must hold: every file, and a marker for every empty directory."""
        found = {path: (len(body), hashlib.sha256(body).hexdigest()) for path, body in self.files.items()}
        full = {parent for path in (*self.files, *self.directories) for parent in parents(path)}
        nothing = (0, hashlib.sha256(b"").hexdigest())
        return found | {f"{path}/": nothing for path in self.directories - full}

    def _note(self) -> None:
        self.former |= self.files.keys() | {f"{path}/" for path in self.directories}

    # --- what can happen -------------------------------------------------------------------------------------------

    def _create(self) -> None:
        self._put(self._new(), self._body(self._chance.randrange(1, 60_000)))

    def _big(self) -> None:
        self._put(self._new(), self._body(6 * MIB + self._chance.randrange(1000)))

    def _empty(self) -> None:
        self._put(self._new(), b"")

    def _overwrite(self) -> bool | None:
        path = self._any()
        return False if path is None else self._put(path, self._body(self._chance.randrange(1, 60_000)))

    def _append(self) -> bool | None:
        path = self._any()
        if path is None:
            return False
        more = self._body(self._chance.randrange(1, 20_000))
        self._client.append(f"{self._root}/{path}", more)
        self.files[path] += more
        return None

    def _rename(self) -> bool | None:
        path, new = self._any(), self._new()
        if path is None:
            return False
        self._client.rename(f"{self._root}/{path}", f"{self._root}/{new}")
        self.files[new] = self.files.pop(path)
        return None

    def _swap(self) -> bool | None:
        """Two files change their names: what a diff shows as two renames crosswise."""
        one, other = self._any(), self._any()
        if one is None or other is None or one == other:
            return False
        between = self._new()
        for old, new in ((one, between), (other, one), (between, other)):
            self._client.rename(f"{self._root}/{old}", f"{self._root}/{new}")
            self.files[new] = self.files.pop(old)
            self._note()
        return None

    def _rename_directory(self) -> bool | None:
        path = self._any_directory()
        if path is None:
            return False
        new = self._new("d", inside=path)
        self._client.rename(f"{self._root}/{path}", f"{self._root}/{new}")
        self.directories = {_moved(each, path, new) for each in self.directories}
        self.files = {_moved(each, path, new): body for each, body in self.files.items()}
        return None

    def _delete(self) -> bool | None:
        path = self._any()
        if path is None or len(self.files) < 20:
            return False
        self._client.delete(f"{self._root}/{path}")
        del self.files[path]
        return None

    def _delete_directory(self) -> bool | None:
        path = self._any_directory()
        inside = [each for each in self.files if each.startswith(f"{path}/")]
        if path is None or len(self.files) - len(inside) < 20:
            return False
        self._client.delete(f"{self._root}/{path}")
        for each in inside:
            del self.files[each]
        self.directories = {each for each in self.directories if each != path and not each.startswith(f"{path}/")}
        return None

    def _mkdir(self) -> None:
        path = self._new("d")
        self._client.mkdirs(f"{self._root}/{path}")
        self.directories.add(path)

    def _chmod(self) -> bool | None:
        path = self._any()
        return False if path is None else self._client.set_permission(f"{self._root}/{path}", "600")

    def _slow(self) -> None:
        """A file that is open for a while: written in two halves with a pause, while nothing else happens."""
        path, body = self._new(), self._body(30_000)
        self._client.put(f"{self._root}/{path}", Slow(body, self._chance.uniform(0.5, 2.0)))
        self.files[path] = body

    # --- its means -------------------------------------------------------------------------------------------------

    def _put(self, path: str, body: bytes) -> None:
        self._client.put(f"{self._root}/{path}", body)
        self.files[path] = body

    def _body(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    def _any(self) -> str | None:
        return self._chance.choice(list(self.files)) if self.files else None

    def _any_directory(self) -> str | None:
        return self._chance.choice(sorted(self.directories)) if self.directories else None

    def _new(self, letter: str = "f", inside: str | None = None) -> str:
        """A name that was never there; not below the directory ``inside``."""
        self._number += 1
        homes = ["", *sorted(each for each in self.directories if each.count("/") < 3)]
        if inside is not None:
            homes = [each for each in homes if each != inside and not each.startswith(f"{inside}/")]
        home = self._chance.choice(homes)
        name = f"{letter}{self._number}" + self._chance.choice(["", "", " x", "%41", "é", "é"])
        return f"{home}/{name}" if home else name


class Slow:
    """A body whose second half comes after a pause. What ``WebHdfs.put`` takes."""

    def __init__(self, body: bytes, pause: float) -> None:
        self.size = len(body)
        self._body = body
        self._pause = pause

    def __iter__(self) -> Iterator[bytes]:
        half = self.size // 2
        yield self._body[:half]
        time.sleep(self._pause)
        yield self._body[half:]


class Churning:
    """A churn in a thread of its own: ``with`` runs it, ``stop`` ends it and tells what went wrong there."""

    def __init__(self, churn: Churn, pause: float) -> None:
        self._churn = churn
        self._pause = pause
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="churn", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._pause):
                try:
                    self._churn.step()
                except WebHdfsError as error:
                    # A NameNode that is restarted by the test, or a lease that a mirror's read does not hold up.
                    raise AssertionError(f"the churn itself was refused: {error}") from error
        except BaseException as failure:
            self._failure = failure


def parents(path: str) -> Iterator[str]:
    at = path.rfind("/")
    while at > 0:
        yield path[:at]
        at = path.rfind("/", 0, at)


def _moved(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path == old or path.startswith(f"{old}/") else path
