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
zitcache restore                           after a reset: all as it was
zitcache restore --dry-run                 what would be done
zitcache restore --from /data              look at that place, too
zitcache restore latest                    the newest good snapshot
zitcache restore 3fa4b2c1 --to /tmp/cache  this one, to another place
zitcache restore --only '*/vae/*'          some files only
"""
)
def restore(
    output: OutputOptions,
    *,
    snapshot: Annotated[
        str | None,
        typer.Argument(metavar="SNAPSHOT", help="An id or its beginning, or latest.", show_default=False),
    ] = None,
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
    place: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="Look here, too: a migrated cache, a repository, or a folder holding them.",
        ),
    ] = None,
    no_relink: Annotated[bool, typer.Option("--no-relink", help="Make no link where the cache was.")] = False,
    no_env: Annotated[
        bool, typer.Option("--no-env", help="Set no variables, and put no config or command back.")
    ] = False,
    no_schedule: Annotated[
        bool, typer.Option("--no-schedule", help="Do not schedule the nightly backup again.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Bring the cache back after a reset: as it was, byte for byte, or change nothing.

    With nothing named, a migrated cache on a data disk is linked again; if there is none, the newest good
    snapshot is restored. Variables and schedule come back, too. Every file of a snapshot is checked before it
    takes its place; what is good already is left alone. Run it again after an interruption: it goes on.
    """

    def work(session: Session) -> Outcome[RestoreReport]:
        from zitcache.tasks.restore import RestoreRequest, restore

        request = RestoreRequest(
            repository=repo,
            snapshot=snapshot,
            to=to,
            only=tuple(only or ()),
            dry_run=dry_run,
            place=place,
            relink=not no_relink,
            environment=not no_env,
            schedule=not no_schedule,
        )
        return restore(request, session)

    return run("restore", output, work, render_restore, again=again(repo=repo))
