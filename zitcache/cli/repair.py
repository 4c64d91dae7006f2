"""``zitcache repair``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.repair import render_repair

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.repair import RepairReport


@command(
    examples="""
zitcache repair --dry-run                what is broken, what can be mended
zitcache repair                          mend what check has found
zitcache repair --read-data              read every blob first
zitcache repair --cache /data/models     look there for what was lost
"""
)
def repair(
    output: OutputOptions,
    *,
    repo: Repository = None,
    cache: Cache = None,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read and check every blob first, as check does.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Mend a repository: index, broken packs, lost blobs that the live cache still has.

    Nothing is thrown away: broken objects go to quarantine, and a snapshot that lost files is kept, with a
    note of what it lost.
    """

    def work(session: Session) -> Outcome[RepairReport]:
        from zitcache.tasks.repair import RepairRequest, repair

        request = RepairRequest(repository=repo, cache=cache, read_data=read_data, dry_run=dry_run)
        return repair(request, session)

    return run("repair", output, work, render_repair, again=again(repo=repo, cache=cache))
