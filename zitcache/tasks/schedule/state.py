"""What is scheduled here, and whether anything alive will run it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from zitcache.errors import Exit, UsageError, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.machine.schedule_calls import missing_programs
from zitcache.machine.schedule_entries import ScheduleEntries, capture
from zitcache.machine.schedulers import Schedulers, find_schedulers
from zitcache.schedule.daemon import running_scheduler
from zitcache.schedule.history import Run, own_runs, recent_runs, state_directory
from zitcache.schedule.jobs import UNIT_PREFIX
from zitcache.schedule.times import CronTimes, parse_times
from zitcache.tasks.locations import open_repository
from zitcache.tasks.overview.ages import iso_of

_FIELDS = 5
_RUNS = 40
_AT_NAME = "scheduler.at"


class ScheduleReport(msgspec.Struct, kw_only=True):
    """``armed``: an entry is there and what runs it is alive. ``backend``: which one, None without an entry.

    ``at``: the cron expression. ``next_run``: ISO 8601 UTC. ``entries``: files and lines. ``runs_here``: what
    is alive of "systemd", "cron", "daemon". ``problem``: why it is not armed. ``changed``: what this command
    has written or removed. ``daemon_command``: how zitcache's own scheduler was started, while it runs.
    ``texts``: in a dry run, what each file would hold.
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
    daemon_command: str | None = None
    texts: dict[str, str] = {}
    dry_run: bool = False


def schedule_status(repository: str | None, session: Session) -> Outcome[ScheduleReport]:
    """Say whether nights come by themselves. Exit codes: 0; 1 if they do not."""
    try:
        runs = recent_runs(open_repository(repository, session), state_directory(), _RUNS)
    except ZitcacheError:
        runs = recent_runs(None, state_directory(), _RUNS)
    report = schedule_state(runs)
    return Outcome(data=report, warnings=session.warnings, exit_code=Exit.OK if report.armed else Exit.DAMAGE)


def schedule_state(runs: Sequence[Run], now: datetime | None = None) -> ScheduleReport:
    """What is there now. ``runs``: the history, newest first. Raises nothing."""
    entries, alive = capture(), find_schedulers()
    # That of a start command may have been given another home than this shell.
    daemon = running_scheduler(state_directory()) or alive.own_daemon
    here = [
        name
        for name, lives in (
            ("systemd", alive.systemd),
            ("cron", alive.cron),
            ("daemon", daemon is not None),
        )
        if lives
    ]
    candidates = _candidates(entries, daemon)
    working = next((each for each in candidates if each[0] in here), None)
    problem = _problem(candidates, working, entries, alive)
    timers = any(unit.name.endswith(".timer") for unit in entries.units)
    backend, times = working or next(iter(candidates), ("systemd" if timers else None, None))
    moment = now or datetime.now().astimezone()
    following = times.next_after(moment) if times is not None and problem is None else None
    last = own[0].record if (own := own_runs(runs)) else None
    return ScheduleReport(
        armed=problem is None,
        backend=backend,
        at=None if times is None else times.text,
        next_run=None if following is None else iso_of(following.timestamp()),
        entries=_described(entries, daemon),
        runs_here=here,
        problem=problem,
        last_run=None if last is None else iso_of(last.started),
        last_exit_code=None if last is None else last.exit_code,
        daemon_command=None if daemon is None else _remembered()[1] or _command_of(daemon),
    )


def remember_times(times: CronTimes, command: Sequence[str]) -> None:
    """Our own scheduler runs with these times, started so; for :func:`schedule_state`. Raises ``OSError``."""
    text = f"{times.text}\n{shlex.join(command)}\n"
    (state_directory() / _AT_NAME).write_text(text, errors="surrogateescape")


def _remembered() -> tuple[str | None, str | None]:
    """Times and command of our own scheduler, as it has written them down."""
    try:
        lines = (state_directory() / _AT_NAME).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None, None
    return (lines[0] if lines else None), (lines[1] if len(lines) > 1 else None)


def _candidates(entries: ScheduleEntries, daemon: int | None) -> list[tuple[str, CronTimes | None]]:
    """Every backend that has an entry, with its times."""
    found: list[tuple[str, CronTimes | None]] = []
    enabled = [unit for unit in entries.units if unit.name.endswith(".timer") and unit.enabled]
    if enabled:
        first = next((unit for unit in enabled if unit.name == f"{UNIT_PREFIX}backup.timer"), enabled[0])
        match = re.search(r"^X-Cron=(.+)$", first.text, re.MULTILINE)
        found.append(("systemd", _times(match[1] if match else None)))
    if entries.cron_files or _jobs(entries):
        lines = [
            *_jobs(entries),
            *(line for text in entries.cron_files.values() for line in text.splitlines()),
        ]
        times = (_times(_when(line)) for line in lines if line[:1] in "0123456789*@")
        found.append(("cron", next((each for each in times if each is not None), None)))
    if daemon is not None:
        found.append(("daemon", _times(_remembered()[0])))
    return found


def _described(entries: ScheduleEntries, daemon: int | None) -> list[str]:
    """All entries as text."""
    described = [f"{unit.scope} unit {unit.name}" for unit in entries.units if unit.name.endswith(".timer")]
    described += [f"/etc/cron.d/{name}" for name in entries.cron_files]
    described += [f"crontab: {line.strip()}" for line in _jobs(entries)]
    return described + ([] if daemon is None else [f"zitcache schedule run (process {daemon})"])


def _jobs(entries: ScheduleEntries) -> list[str]:
    return [line for line in entries.crontab if not line.lstrip().startswith("#")]


def _command_of(process: int) -> str | None:
    try:
        raw = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return None
    words = [os.fsdecode(word) for word in raw.rstrip(b"\0").split(b"\0")]
    return shlex.join(words) if words != [""] else None


def _when(line: str) -> str:
    """The beginning of a line of a crontab that says when."""
    words = line.split()
    return " ".join(words[:1] if line.startswith("@") else words[:_FIELDS])


def _times(text: str | None) -> CronTimes | None:
    if text is None:
        return None
    try:
        return parse_times(text)
    except UsageError:
        return None


def _problem(
    candidates: Sequence[tuple[str, CronTimes | None]],
    working: tuple[str, CronTimes | None] | None,
    entries: ScheduleEntries,
    alive: Schedulers,
) -> str | None:
    """Why no night comes by itself; None if it does."""
    if working is not None:
        lost = missing_programs(_all_lines(entries)) if working[0] != "daemon" else []
        return f"The schedule calls {lost[0]}, which is not there." if lost else None
    backends = [backend for backend, _ in candidates]
    if "cron" in backends:
        return "There is an entry for cron, but no cron daemon is running here: nobody will run it."
    if not any(unit.name.endswith(".timer") for unit in entries.units):
        return "Nothing is scheduled: no night comes by itself."
    if not alive.systemd:
        return "There are units for systemd, but systemd does not run here: nobody will start them."
    return "The timers are there but not enabled."


def _all_lines(entries: ScheduleEntries) -> list[str]:
    texts = [*entries.cron_files.values(), *(unit.text for unit in entries.units)]
    return [*entries.crontab, *(line for text in texts for line in text.splitlines())]
