"""``zitcache night``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.night import render_night

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.night import NightReport


@command(
    examples="""
zitcache night                        what the scheduler runs each night
zitcache night --dry-run              which steps are due
zitcache night --only backup,check    these alone
zitcache night --only drill --force   the monthly drill, now
zitcache night --test                 does a message reach me?
"""
)
def night(
    output: OutputOptions,
    *,
    repo: Repository = None,
    cache: Cache = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="STEPS",
            help="Of backup, forget, prune, check, drill, proof, report: these, if they are due.",
        ),
    ] = None,
    skip: Annotated[str | None, typer.Option("--skip", metavar="STEPS", help="All but these.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what is not due yet.")] = False,
    if_missed: Annotated[
        str | None,
        typer.Option(
            "--if-missed", metavar="TIMES", help='Only if one of these times was missed: "0 2 * * *".'
        ),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="So long for another night that is running: 6h."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Send a test message through every channel, and stop.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Run a night: backup, forget, prune now and then, re-read a slice, a drill each month, report, tell.

    What is done when, who is told and what is kept stands in the configuration: zitcache config show.
    """

    def work(session: Session) -> Outcome[NightReport]:
        from zitcache.cli.values import parse_time_span
        from zitcache.tasks.night import NightRequest, night
        from zitcache.ui.page import render_page

        request = NightRequest(
            render=render_page,
            repository=repo,
            cache=cache,
            only=_names(only),
            skip=_names(skip),
            force=force,
            dry_run=dry_run,
            test=test,
            if_missed=if_missed,
            wait_seconds=parse_time_span("--wait", wait) if wait is not None else 0.0,
        )
        return night(request, session)

    return run("night", output, work, render_night, again=again(repo=repo, cache=cache))


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
