"""``zitcache diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.diff import render_diff

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.snapshots import DiffReport


@command(
    examples="""
zitcache diff 3fa4b2c1 latest
zitcache diff 3fa4 9b01 -r /data/zitcache
"""
)
def diff(
    output: OutputOptions,
    *,
    a: Annotated[
        str, typer.Argument(metavar="A", help="The earlier snapshot: an id or its beginning, or latest.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The later one.")],
    repo: Repository = None,
) -> int:
    """Show what changed from snapshot A to snapshot B."""

    def work(session: Session) -> Outcome[DiffReport]:
        from zitcache.tasks.snapshots import diff

        return diff(repo, a, b, session)

    return run("diff", output, work, render_diff, again=again(repo=repo), quiet_hides=False)
