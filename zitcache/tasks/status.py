"""``status``: what is protected, where, how old, the last proof, the next run, the disk; on one screen."""

from __future__ import annotations

import msgspec

from zitcache.errors import Exit
from zitcache.events import Outcome, Session
from zitcache.repository.selection import list_snapshots
from zitcache.schedule.history import recent_runs, state_directory
from zitcache.tasks.configuration import Config
from zitcache.tasks.locations import open_repository
from zitcache.tasks.overview import Overview, overview
from zitcache.tasks.overview.problems import problems_of
from zitcache.tasks.report.collect import live_inventory
from zitcache.tasks.report.pictures import last_picture_path
from zitcache.tasks.schedule.state import ScheduleReport, schedule_state
from zitcache.tasks.settings import load_config


class StatusReport(msgspec.Struct, kw_only=True):
    """``ok``: everything in the cache is in a good snapshot, and nothing is too old.

    ``problems``: sentences, the gravest first. ``picture``: the last proof's picture, if it lies here.
    """

    ok: bool
    problems: list[str]
    overview: Overview
    schedule: ScheduleReport
    picture: str | None


def status(repository: str | None, cache: str | None, session: Session) -> Outcome[StatusReport]:
    """Look at everything, quickly; weights are not read.

    Exit codes: 0; 1 if a model is in no good snapshot, or something is too old. A schedule that nothing runs
    is a warning: somebody may run the nights by hand. Raises ``RepositoryNotFound``, ….
    """
    loaded = load_config()
    config = loaded[1] if loaded else Config()
    opened = open_repository(repository, session)
    snapshots, unreadable = list_snapshots(opened)
    runs = recent_runs(opened, state_directory())
    stock = live_inventory(cache, session)
    view = overview(opened, snapshots, runs, stock, config.status)
    schedule = schedule_state(runs)
    problems = problems_of(view, unreadable, schedule.last_exit_code)
    if schedule.problem:
        session.warn("not-scheduled", schedule.problem, "zitcache schedule install")
    report = StatusReport(
        ok=not problems,
        problems=problems,
        overview=view,
        schedule=schedule,
        picture=last_picture_path(opened),
    )
    return Outcome(data=report, warnings=session.warnings, exit_code=Exit.OK if report.ok else Exit.DAMAGE)


__all__ = ["StatusReport", "status"]
