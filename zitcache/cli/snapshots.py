"""``zitcache snapshots``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.cli.options import Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.snapshots import render_snapshots

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.snapshots import SnapshotsReport


@command(
    examples="""
zitcache snapshots
zitcache snapshots -r /data/zitcache
zitcache snapshots --json | jq -r '.data[-1].id'   the newest one's id
"""
)
def snapshots(output: OutputOptions, *, repo: Repository = None) -> int:
    """List the snapshots of a repository, oldest first."""

    def work(session: Session) -> Outcome[SnapshotsReport]:
        from zitcache.tasks.snapshots import snapshots

        return snapshots(repo, session)

    return run(
        "snapshots",
        output,
        work,
        render_snapshots,
        data=lambda report: report.snapshots,
        again=again(repo=repo),
        quiet_hides=False,
    )
