"""When to try again. Pure: a policy answers with a delay, it never sleeps."""

from __future__ import annotations

import random

from msgspec import Struct

from asynccopy.errors import AsyncCopyError, Throttled


class RetryPolicy(Struct, frozen=True):
    """Exponential back-off with full jitter. All times in seconds.

    ``patience`` is how long trouble may last, counted from the first failure without progress in between: longer than a
    NameNode restart or a store's hiccup, shorter than an operator's.
    """

    first: float = 0.1
    most: float = 10.0
    patience: float = 120.0

    def delay(self, error: AsyncCopyError, attempt: int, elapsed: float) -> float | None:
        """Seconds to wait before the next try, or None to give up.

        ``attempt`` counts the failures so far from 1; ``elapsed`` is the time since the first of them.
        A server's own wish (Throttled.delay) is honoured as a minimum.
        """
        if not error.retryable or elapsed >= self.patience:
            return None
        ceiling: float = min(self.most, self.first * 2.0 ** min(attempt - 1, 30))
        delay = ceiling * (0.5 + random.random() / 2)
        return max(delay, self.pause(error)) if isinstance(error, Throttled) else delay

    def pause(self, error: Throttled) -> float:
        """Seconds until a throttled request may be sent again, however often it has been: that is no failure."""
        return max(self.first / 2, error.delay or 0.0)
