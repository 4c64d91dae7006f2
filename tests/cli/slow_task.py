"""A program like ``zitcache backup`` with a task that takes long, for the tests of signals.

``slow_task.py polite`` polls the cancel flag, ``stubborn`` sleeps through it, ``stuck`` never gives the main
thread back to Python. Prints "ready" on stderr when the task runs.
"""

from __future__ import annotations

import ctypes
import sys
import time

from tests.cli.harness import backup_report
from zitcache.cli.runner import run
from zitcache.events import Outcome, Session
from zitcache.tasks.backup import BackupReport
from zitcache.ui.output import OutputOptions


def task(session: Session) -> Outcome[BackupReport]:
    session.warn("a-warning", "Something small.")
    print("ready", file=sys.stderr, flush=True)
    if sys.argv[1] == "stuck":
        # Keeps the GIL free and restarts after a signal: Python's own handlers get no chance.
        libc = ctypes.CDLL(None)
        for _ in range(100):
            libc.sleep(30)
    elif sys.argv[1] == "done-anyway":
        while not session.cancel:
            time.sleep(0.01)
        return Outcome(data=backup_report())
    for _ in range(3000):
        if sys.argv[1] == "polite":
            session.cancel.check()
        time.sleep(0.01)
    raise AssertionError("was not stopped")


if __name__ == "__main__":
    sys.exit(run("backup", OutputOptions(json="--json" in sys.argv), task, lambda report, view: ["done"]))
