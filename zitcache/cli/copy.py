"""``zitcache copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import REPOSITORY, DryRun, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.copy import render_copy

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.copy import CopyReport


@command(
    examples="""
zitcache copy /data/zitcache s3://bucket/zit           nightly: what is new
zitcache copy --init s3://bucket/zit /data/zitcache    to a new machine
zitcache copy /data/zitcache /mnt/usb/zit --snapshot latest
zitcache copy /data/zitcache s3://bucket/zit --dry-run
"""
)
def copy(
    output: OutputOptions,
    *,
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="The repository to read.", show_default=False), REPOSITORY
    ],
    to: Annotated[
        str, typer.Argument(metavar="TO", help="The repository to add to.", show_default=False), REPOSITORY
    ],
    snapshot: Annotated[
        list[str] | None,
        typer.Option(
            "--snapshot",
            metavar="ID",
            help="Copy this one (an id, its first digits, or latest). Repeatable. Default: all that are not "
            "there yet.",
        ),
    ] = None,
    init: Annotated[bool, typer.Option("--init", help="Create TO if there is no repository yet.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Copy snapshots from one repository to another.

    Only what the other one lacks is sent, and every piece is verified on its way. Snapshots keep their ids.
    Run it again after an interruption: it goes on.
    """

    def work(session: Session) -> Outcome[CopyReport]:
        from zitcache.tasks.copy import CopyRequest, copy

        request = CopyRequest(
            source=source, to=to, snapshots=tuple(snapshot or ()), init=init, dry_run=dry_run
        )
        return copy(request, session)

    return run("copy", output, work, render_copy)
