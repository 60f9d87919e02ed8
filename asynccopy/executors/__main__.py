"""``python -m asynccopy.executors``: a worker process, with its end of a socket pair as standard input."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    # A terminal or systemd may signal every process there is; when to stop is the parent's to say. Before all else:
    # the imports take a third of a second.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    from asynccopy.executors.worker import work

    return work()


if __name__ == "__main__":
    sys.exit(main())
