"""``zitcache restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.restore import render_restore

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.restore import RestoreReport


@command(
    examples="""
zitcache restore                           the newest good snapshot
zitcache restore --dry-run                 what would be written
zitcache restore 3fa4b2c1 --to /tmp/cache  this snapshot, to another place
zitcache restore --only '*/vae/*'          some files only
"""
)
def restore(
    output: OutputOptions,
    *,
    snapshot: Annotated[
        str,
        typer.Argument(metavar="SNAPSHOT", help="An id or its beginning, or latest.", show_default=False),
    ] = "latest",
    repo: Repository = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="Restore here, not where it came from.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="GLOB", help="Only files whose path in the cache matches. Repeatable."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Bring a snapshot back, byte for byte, or change nothing.

    Every file is checked before it takes its place; files that are already good are left alone. Run it again
    after an interruption: it goes on.
    """

    def work(session: Session) -> Outcome[RestoreReport]:
        from zitcache.tasks.restore import RestoreRequest, restore

        request = RestoreRequest(
            repository=repo, snapshot=snapshot, to=to, only=tuple(only or ()), dry_run=dry_run
        )
        return restore(request, session)

    return run("restore", output, work, render_restore, again=again(repo=repo))
