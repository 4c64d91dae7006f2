"""``zitcache kit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.kit import render_kit

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.kit import KitReport


@command(
    examples="""
zitcache kit                 in the repository in use (backup does it, too)
zitcache kit /data/kit       in this folder
zitcache kit --check         prove that the kit in use works
zitcache kit --check /data/kit
"""
)
def kit(
    output: OutputOptions,
    *,
    directory: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR",
            help="The folder, or the repository or migrated cache. Default: the one in use.",
            show_default=False,
        ),
    ] = None,
    repo: Repository = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Run it as on a bare machine, and read from what it is for."),
    ] = False,
) -> int:
    """Put what a bare machine needs on the data disk: zitcache itself, ready to run without installing.

    After a reset of the system disk, one line brings everything back: sh DIR/recover.sh
    """

    def work(session: Session) -> Outcome[KitReport]:
        from zitcache.tasks.kit.command import KitRequest, kit

        return kit(KitRequest(directory=directory, repository=repo, check=check), session)

    return run("kit", output, work, render_kit, again=again(repo=repo))
