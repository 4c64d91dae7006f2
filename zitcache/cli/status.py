"""``zitcache status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.cli.options import Cache, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.status import render_status

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.status import StatusReport


@command(
    examples="""
zitcache status            one screen: what is safe, and how old that is
zitcache status --json     for a monitor; exit code 1 when stale
"""
)
def status(output: OutputOptions, *, repo: Repository = None, cache: Cache = None) -> int:
    """Show what is protected and how old it is, the next run, the disk. Exit code 1 when stale."""

    def work(session: Session) -> Outcome[StatusReport]:
        from zitcache.tasks.status import status

        return status(repo, cache, session)

    return run("status", output, work, render_status, again=again(repo=repo, cache=cache), quiet_hides=True)
