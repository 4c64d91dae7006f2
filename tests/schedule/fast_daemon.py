"""Our own scheduler with times seconds apart: ``python -m tests.schedule.fast_daemon SECONDS COMMAND…``."""

from __future__ import annotations

import os
import signal
import sys
import threading

from apscheduler.triggers.interval import IntervalTrigger

from zitcache.schedule.daemon import Daemon


class Often:
    """Times that come every so many seconds; a crontab cannot say that."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def trigger(self) -> IntervalTrigger:
        return IntervalTrigger(seconds=self._seconds)


def main() -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    def say(line: str) -> None:
        os.write(1, f"{line}\n".encode())

    times = Often(float(sys.argv[1]))
    Daemon(sys.argv[2:], times, missed=lambda: False, say=say, wait=stopping.wait).run()  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
