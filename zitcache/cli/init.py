"""``zitcache init``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import REPOSITORY, Repository, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.init import render_init

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.snapshots import InitReport


@command(
    examples="""
zitcache init /data/zitcache        a folder on a data disk
zitcache init                       where ZITCACHE_REPO says
zitcache init s3://bucket/zitcache  in S3 (AWS, or: --endpoint-url URL)
"""
)
def init(
    output: OutputOptions,
    *,
    place: Annotated[
        str | None, typer.Argument(metavar="PLACE", help="Where to create it."), REPOSITORY
    ] = None,
    repo: Repository = None,
) -> int:
    """Create a repository. It should lie on another disk than the cache, one that survives a reset.

    In S3, the endpoint is first asked to show that it keeps what it is given.
    """

    def work(session: Session) -> Outcome[InitReport]:
        from zitcache.errors import UsageError
        from zitcache.tasks.settings import resolve_repository, warn_ignored

        if place and repo and place != repo:
            raise UsageError(
                f"Two places are named: {place} and {repo}.", hint=f"Name one: zitcache init {place}"
            )
        setting = resolve_repository(place or repo)
        warn_ignored(setting, session)
        if setting.value is None:
            raise UsageError(
                "It is not said where to create the repository.",
                hint="Name a folder on a data disk: zitcache init /path/on/the/data/disk",
            )
        from zitcache.tasks.snapshots import init

        return init(setting.value, session)

    return run("init", output, work, render_init)
