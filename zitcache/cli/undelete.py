"""``zitcache undelete``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.keeping import Grace
from zitcache.cli.options import DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.undelete import render_undelete

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.undelete import UndeleteReport


@command(
    examples="""
zitcache undelete              what was forgotten and can be had back
zitcache undelete 3fa4b2c1     bring this snapshot back
zitcache undelete --all        bring all of them back
"""
)
def undelete(
    output: OutputOptions,
    *,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The snapshots to bring back.")
    ] = None,
    repo: Repository = None,
    everything: Annotated[bool, typer.Option("--all", help="Bring back all that can be.")] = False,
    grace: Grace = "24h",
    dry_run: DryRun = False,
) -> int:
    """List forgotten snapshots, or bring some back, as long as no prune has deleted what they need."""

    def work(session: Session) -> Outcome[UndeleteReport]:
        from zitcache.cli.values import parse_time_span
        from zitcache.tasks.undelete import UndeleteRequest, undelete

        request = UndeleteRequest(
            repository=repo,
            ids=tuple(ids or ()),
            everything=everything,
            grace_seconds=parse_time_span("--grace", grace),
            dry_run=dry_run,
        )
        return undelete(request, session)

    return run("undelete", output, work, render_undelete, again=again(repo=repo), quiet_hides=bool(ids))
