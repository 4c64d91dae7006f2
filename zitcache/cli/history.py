"""``zitcache history``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.history import render_history

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.history import HistoryReport


@command(
    examples="""
zitcache history           the last nights and how they went
zitcache history -n 100    more of them
zitcache history --json    for scripts; all about one of them: zitcache log
"""
)
def history(
    output: OutputOptions,
    *,
    repo: Repository = None,
    limit: Annotated[
        str, typer.Option("--limit", "-n", metavar="N", help="At most so many.", show_default=False)
    ] = "20",
) -> int:
    """List the runs that are remembered, the newest first. They are kept in the repository."""

    def work(session: Session) -> Outcome[HistoryReport]:
        from zitcache.cli.drawing import parse_integer
        from zitcache.tasks.history import history

        return history(repo, parse_integer("--limit", limit, 1, 10_000), session)

    return run("history", output, work, render_history, again=again(repo=repo), quiet_hides=False)
