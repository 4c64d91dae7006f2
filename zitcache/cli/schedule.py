"""``zitcache schedule``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.schedule import render_schedule

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.schedule import ScheduleReport

ACTIONS = ("install", "status", "remove", "run")


@command(
    examples="""
zitcache schedule install                     every night at two
zitcache schedule install --at "30 3 * * *"   a cron expression, or 03:30
zitcache schedule status                      does it really run?
zitcache schedule remove                      take it away again
zitcache schedule run                         be the scheduler: for containers
"""
)
def schedule(
    output: OutputOptions,
    *,
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="install, status, remove or run.", show_default=False)
    ] = "status",
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="A cron expression or a time of day. Default: the config."),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", metavar="NAME", help="auto, systemd, cron or daemon. Default: the config."),
    ] = None,
    repo: Repository = None,
    cache: Cache = None,
    dry_run: DryRun = False,
) -> int:
    """Make nights come by themselves: with systemd where it runs, else cron, else a scheduler of our own."""

    def work(session: Session) -> Outcome[ScheduleReport]:
        from zitcache.errors import UsageError
        from zitcache.tasks import schedule as task

        if action not in ACTIONS:
            raise UsageError(f"schedule cannot {action!r}.", hint=f"Use one of: {', '.join(ACTIONS)}")
        if action == "install":
            request = task.InstallRequest(
                repository=repo, cache=cache, at=at, backend=backend, dry_run=dry_run
            )
            return task.install(request, session)
        if backend is not None or (at is not None and action != "run"):
            raise UsageError(
                f"schedule {action} takes no {'--backend' if backend else '--at'}.",
                hint="zitcache schedule install --help",
            )
        if action == "remove":
            return task.remove(session, dry_run=dry_run)
        if action == "run":
            return task.run_scheduler(task.RunRequest(repository=repo, cache=cache, at=at), session)
        return task.schedule_status(repo, session)

    return run("schedule", output, work, render_schedule, again=again(repo=repo, cache=cache))
