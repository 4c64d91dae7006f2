"""``history`` and ``log``: the runs that are remembered, and everything about one of them."""

from __future__ import annotations

import msgspec

from zitcache.errors import ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.machine.plain import exact
from zitcache.repository.repository import Repository
from zitcache.schedule.history import KEEP, Run, find_run, recent_runs, state_directory
from zitcache.tasks.locations import open_repository
from zitcache.tasks.overview.ages import iso_of


class RunStep(msgspec.Struct, kw_only=True):
    """A step that ran; ``data``: the report of its command."""

    name: str
    exit_code: int
    seconds: float
    message: str
    data: object = None


class RunSummary(msgspec.Struct, kw_only=True):
    """A run. ``pending``: it is not in the repository yet, which could not be reached then."""

    id: str
    command: str
    host: str
    started: str
    seconds: float
    exit_code: int
    steps: list[RunStep]
    pending: bool
    log: str = ""


class HistoryReport(msgspec.Struct, kw_only=True):
    """``runs``: the newest first. ``repository``: None if it could not be opened."""

    repository: str | None
    runs: list[RunSummary]


def history(repository: str | None, limit: int, session: Session) -> Outcome[HistoryReport]:
    """List the last ``limit`` runs, without their logs and figures."""
    opened = _open(repository, session)
    runs = recent_runs(opened, state_directory(), limit)
    report = HistoryReport(
        repository=None if opened is None else opened.storage.location,
        runs=[_summary(run, whole=False) for run in runs],
    )
    return Outcome(data=report, warnings=session.warnings)


def log(repository: str | None, selector: str, session: Session) -> Outcome[RunSummary]:
    """One run with its log: "latest" or the beginning of an id. Raises ``NotFound``."""
    runs = recent_runs(_open(repository, session), state_directory(), KEEP)
    return Outcome(data=_summary(find_run(runs, selector), whole=True), warnings=session.warnings)


def _open(repository: str | None, session: Session) -> Repository | None:
    """The repository; None, with a warning, if it cannot be opened: the waiting records are still there."""
    try:
        return open_repository(repository, session)
    except ZitcacheError as error:
        session.warn("repository-not-opened", f"Only what waits on this machine: {error.message}", error.hint)
        return None


def _summary(run: Run, *, whole: bool) -> RunSummary:
    record = run.record
    return RunSummary(
        id=run.id,
        command=record.command,
        host=record.host,
        started=iso_of(record.started),
        seconds=max(0.0, record.ended - record.started),
        exit_code=record.exit_code,
        steps=[
            RunStep(
                name=step.name,
                exit_code=step.exit_code,
                seconds=step.seconds,
                message=step.message,
                data=exact(msgspec.json.decode(step.data)) if whole else None,
            )
            for step in record.steps
            if not step.skipped
        ],
        pending=run.pending,
        log=record.log if whole else "",
    )
