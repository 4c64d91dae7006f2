"""What is scheduled here, and whether anything alive will run it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import msgspec

from zitcache.errors import Exit, UsageError, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.machine.schedule_entries import ScheduleEntries, capture
from zitcache.machine.schedulers import Schedulers, find_schedulers
from zitcache.schedule.daemon import running_scheduler
from zitcache.schedule.history import Run, recent_runs, state_directory
from zitcache.schedule.jobs import UNIT_PREFIX
from zitcache.schedule.times import CronTimes, parse_times
from zitcache.tasks.locations import open_repository
from zitcache.tasks.overview.ages import iso_of

_FIELDS = 5
_AT_NAME = "scheduler.at"


class ScheduleReport(msgspec.Struct, kw_only=True):
    """``armed``: an entry is there and what runs it is alive. ``backend``: which one, None without an entry.

    ``at``: the cron expression. ``next_run``: ISO 8601 UTC. ``entries``: files and lines. ``runs_here``: what
    is alive of "systemd", "cron", "daemon". ``problem``: why it is not armed. ``changed``: what this command
    has written or removed.
    """

    armed: bool
    backend: str | None
    at: str | None
    next_run: str | None
    entries: list[str]
    runs_here: list[str]
    problem: str | None
    last_run: str | None = None
    last_exit_code: int | None = None
    changed: list[str] = []
    dry_run: bool = False


def schedule_status(repository: str | None, session: Session) -> Outcome[ScheduleReport]:
    """Say whether nights come by themselves. Exit codes: 0; 1 if they do not."""
    try:
        runs = recent_runs(open_repository(repository, session), state_directory(), 1)
    except ZitcacheError:
        runs = recent_runs(None, state_directory(), 1)
    report = schedule_state(runs)
    return Outcome(data=report, warnings=session.warnings, exit_code=Exit.OK if report.armed else Exit.DAMAGE)


def schedule_state(runs: Sequence[Run], now: datetime | None = None) -> ScheduleReport:
    """What is there now. ``runs``: the history, newest first. Raises nothing."""
    entries, alive = capture(), find_schedulers()
    daemon = running_scheduler(state_directory())
    backend, times, described = _entry(entries, daemon)
    here = [
        name
        for name, lives in (
            ("systemd", alive.systemd),
            ("cron", alive.cron),
            ("daemon", daemon is not None),
        )
        if lives
    ]
    armed = backend is not None and backend in here
    moment = now or datetime.now().astimezone()
    following = times.next_after(moment) if times is not None and armed else None
    last = runs[0].record if runs else None
    return ScheduleReport(
        armed=armed,
        backend=backend,
        at=None if times is None else times.text,
        next_run=None if following is None else iso_of(following.timestamp()),
        entries=described,
        runs_here=here,
        problem=None if armed else _problem(backend, alive),
        last_run=None if last is None else iso_of(last.started),
        last_exit_code=None if last is None else last.exit_code,
    )


def remember_times(times: CronTimes) -> None:
    """Our own scheduler is running with these; for :func:`schedule_state`. Raises ``OSError``."""
    (state_directory() / _AT_NAME).write_text(times.text)


def _entry(entries: ScheduleEntries, daemon: int | None) -> tuple[str | None, CronTimes | None, list[str]]:
    """The backend that has an entry, its times, and all entries as text."""
    timers = [unit for unit in entries.units if unit.name.endswith(".timer")]
    jobs = [line for line in entries.crontab if not line.lstrip().startswith("#")]
    described = [f"{unit.scope} unit {unit.name}" for unit in timers]
    described += [f"/etc/cron.d/{name}" for name in entries.cron_files]
    described += [f"crontab: {line.strip()}" for line in jobs]
    enabled = [unit for unit in timers if unit.enabled]
    if enabled:
        first = next((unit for unit in enabled if unit.name == f"{UNIT_PREFIX}backup.timer"), enabled[0])
        match = re.search(r"^X-Cron=(.+)$", first.text, re.MULTILINE)
        return "systemd", _times(match[1] if match else None), described
    lines = [*jobs, *(line for text in entries.cron_files.values() for line in text.splitlines())]
    if described and not timers:
        found = (_times(" ".join(line.split()[:_FIELDS])) for line in lines if line[:1] in "0123456789*@")
        return "cron", next((times for times in found if times is not None), None), described
    if daemon is not None:
        try:
            text: str | None = (state_directory() / _AT_NAME).read_text()
        except OSError:
            text = None
        return "daemon", _times(text), [*described, f"zitcache schedule run (process {daemon})"]
    return ("systemd" if timers else None), None, described


def _times(text: str | None) -> CronTimes | None:
    if text is None:
        return None
    try:
        return parse_times(text)
    except UsageError:
        return None


def _problem(backend: str | None, alive: Schedulers) -> str:
    if backend is None:
        return "Nothing is scheduled: no night comes by itself."
    if backend == "cron":
        return "There is an entry for cron, but no cron daemon is running here: nobody will run it."
    if backend == "systemd" and not alive.systemd:
        return "There are units for systemd, but systemd does not run here: nobody will start them."
    return "The timers are there but not enabled."
