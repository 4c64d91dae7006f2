"""Our own scheduler, in the foreground: for a container's start command, or a terminal that stays open."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import datetime

from zitcache.events import Outcome, Session
from zitcache.schedule.daemon import Daemon, only_one
from zitcache.schedule.history import state_directory
from zitcache.schedule.times import parse_times
from zitcache.tasks.configuration import Config
from zitcache.tasks.schedule.missed import last_began, was_missed
from zitcache.tasks.schedule.program import absolute, own_program
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
    # The night starts in another directory than this process.
    repository = absolute(request.repository) if request.repository else None
    options = ["--repo", repository] if repository else []
    options += ["--cache", absolute(request.cache)] if request.cache else []
    state = state_directory()
    nice = shutil.which("nice")
    again = [*own_program(), "schedule", "run", "--at", times.text, *options]
    command = [*([nice, "-n", "19"] if nice else []), *own_program(), "night", *options, "--no-progress"]

    def missed() -> bool:
        return was_missed(times, last_began(repository, state), datetime.now().astimezone())

    with only_one(state):
        remember_times(times, again)
        Daemon(command, times, missed=missed, say=_say, wait=session.cancel.wait).run()
    return Outcome(data=schedule_state(()), warnings=session.warnings)


def _say(line: str) -> None:
    """A line for the log of this process: it runs for months, and what it did must be found there."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    os.write(sys.stderr.fileno() if sys.stderr else 2, f"{stamp} {line}\n".encode())
