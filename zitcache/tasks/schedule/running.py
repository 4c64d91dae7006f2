"""Our own scheduler, in the foreground: for a container's start command, or a terminal that stays open."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import datetime

from zitcache.errors import ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.schedule.daemon import Daemon, only_one
from zitcache.schedule.history import recent_runs, state_directory
from zitcache.schedule.times import parse_times
from zitcache.tasks.configuration import Config
from zitcache.tasks.locations import open_repository
from zitcache.tasks.schedule.installing import own_program
from zitcache.tasks.schedule.state import ScheduleReport, remember_times, schedule_state
from zitcache.tasks.settings import load_config


@dataclass(frozen=True, slots=True)
class RunRequest:
    """``at``: a cron expression or a time of day; None for the configured one."""

    repository: str | None = None
    cache: str | None = None
    at: str | None = None


def run_scheduler(request: RunRequest, session: Session) -> Outcome[ScheduleReport]:
    """Run nights at their times until SIGTERM or Ctrl-C, a missed one at once.

    Raises ``Locked`` if one is running here already, ``UsageError`` for a wrong time.
    """
    loaded = load_config()
    config = loaded[1] if loaded else Config()
    times = parse_times(request.at or config.schedule.at)
    options = ["--repo", request.repository] if request.repository else []
    options += ["--cache", request.cache] if request.cache else []
    state = state_directory()

    def last_run() -> datetime | None:
        try:
            repository = open_repository(request.repository, Session())
        except ZitcacheError:
            repository = None  # not mounted, perhaps: the history of this machine is better than none
        runs = recent_runs(repository, state, 1)
        return datetime.fromtimestamp(runs[0].record.started).astimezone() if runs else None

    command = [*own_program(), "night", *options, "--no-progress"]
    with only_one(state):
        remember_times(times)
        daemon = Daemon(command, times, last_run=last_run, say=_say, stopped=lambda: bool(session.cancel))
        daemon.run()
    return Outcome(data=schedule_state(()), warnings=session.warnings)


def _say(line: str) -> None:
    """A line for the log of this process: it runs for months, and what it did must be found there."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    os.write(sys.stderr.fileno() if sys.stderr else 2, f"{stamp} {line}\n".encode())
