"""``zitcache prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.cli.keeping import Grace, MaxRepack, MaxUnused
from zitcache.cli.options import DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.prune import render_prune

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.prune import PruneReport


@command(
    examples="""
zitcache prune --dry-run               what nothing needs, and when it goes
zitcache prune                         mark it; delete what was marked before
zitcache prune --grace 7d              leave a week to change one's mind
zitcache prune --max-repack-size 10G   copy no more than this in one run
"""
)
def prune(
    output: OutputOptions,
    *,
    repo: Repository = None,
    grace: Grace = "24h",
    max_unused: MaxUnused = "5%",
    max_repack_size: MaxRepack = None,
    dry_run: DryRun = False,
) -> int:
    """Free the space of what no snapshot needs. Backups and restores may run meanwhile.

    The first run only marks; a later one deletes what was marked, and still is not needed, when the grace
    period is over.
    """

    def work(session: Session) -> Outcome[PruneReport]:
        from zitcache.cli.keeping import prune_request
        from zitcache.tasks.prune import prune

        request = prune_request(
            repository=repo,
            grace=grace,
            max_unused=max_unused,
            max_repack_size=max_repack_size,
            dry_run=dry_run,
        )
        return prune(request, session)

    return run("prune", output, work, render_prune, again=again(repo=repo))
