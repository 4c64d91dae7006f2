"""``zitcache check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.check import render_check

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.check import CheckReport


@command(
    examples="""
zitcache check                          the structure: is everything there
zitcache check --read-data              every blob, byte for byte
zitcache check --read-data-subset 5%    nightly: what was not read for longest
zitcache check --read-data-subset 1/7   on Mondays; 2/7 on Tuesdays, …
"""
)
def check(
    output: OutputOptions,
    *,
    repo: Repository = None,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and check every blob.")] = False,
    subset: Annotated[
        str | None,
        typer.Option("--read-data-subset", metavar="PART", help="Read and check a part: 5% or 1/7."),
    ] = None,
) -> int:
    """Check that a repository is sound. What was read when is remembered."""

    def work(session: Session) -> Outcome[CheckReport]:
        from zitcache.tasks.check import CheckRequest, check

        return check(CheckRequest(repository=repo, read_data=read_data, subset=subset), session)

    return run("check", output, work, render_check, again=again(repo=repo))
