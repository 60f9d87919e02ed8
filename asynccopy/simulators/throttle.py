"""How a store says no to too many requests: so many a second for a bucket, fewer for keys that lie side by side.

Stores keep their index in ranges of keys, so names that share a beginning (dates) meet in one range, which takes a part
of what the bucket takes: of OSS a fifth. Here one such range is one directory. A budget is of one second of the clock;
what is over it is answered 503, by OSS with ``x-oss-qos-delay-time``, the milliseconds to the next second.
"""

from __future__ import annotations

from collections import Counter

from asynccopy.simulators.sigv4 import S3Error


class Throttled(S3Error):
    """A 503 that says for how long. ``delay``: milliseconds."""

    def __init__(self, code: str, message: str, delay: int) -> None:
        super().__init__(503, code, message)
        self.delay = delay


Refusal = tuple[str, str]
"""A code, and the message to it."""


class Throttle:
    """Counts requests. ``per_second`` and ``per_prefix``: requests a second, None no limit; to be set at any time.

    ``whole`` and ``part``: how what is over each of them is refused. ``admitted`` and ``refused`` count by the second.
    """

    def __init__(self, per_second: int | None, per_prefix: int | None, whole: Refusal, part: Refusal) -> None:
        self.per_second = per_second
        self.per_prefix = per_prefix
        self.admitted: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self._whole = whole
        self._part = part
        self._second = 0
        self._asked: Counter[tuple[str, str]] = Counter()

    def admit(self, bucket: str, key: str, now: float) -> None:
        """Raises Throttled, or counts the request. What is refused costs nothing of the budget."""
        if int(now) != self._second:
            self._second = int(now)
            self._asked.clear()
        delay = max(1, int((self._second + 1 - now) * 1000))
        whole, prefix = (bucket, ""), (bucket, f"/{key.rpartition('/')[0]}")
        if self.per_second is not None and self._asked[whole] >= self.per_second:
            self.refused[self._second] += 1
            raise Throttled(*self._whole, delay)
        if key and self.per_prefix is not None and self._asked[prefix] >= self.per_prefix:
            self.refused[self._second] += 1
            raise Throttled(*self._part, delay)
        self.admitted[self._second] += 1
        self._asked[whole] += 1
        self._asked[prefix] += 1
