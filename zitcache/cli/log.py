"""``zitcache log``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.history import render_log

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.history import RunSummary


@command(
    examples="""
zitcache log              all about the last night
zitcache log 3fa4b2c1     about another one; see zitcache history
"""
)
def log(
    output: OutputOptions,
    *,
    which: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The beginning of a run's id. Default: the last.", show_default=False
        ),
    ] = "latest",
    repo: Repository = None,
) -> int:
    """Show the log of one run."""

    def work(session: Session) -> Outcome[RunSummary]:
        from zitcache.tasks.history import log

        return log(repo, which, session)

    return run("log", output, work, render_log, again=again(repo=repo), quiet_hides=False)
