"""``zitcache report``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.report import render_report

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.report import ReportReport


@command(
    examples="""
zitcache report                        write zitcache-report.html here
zitcache report -o /data/report.html   to another place
zitcache report --json                 the figures alone
"""
)
def report(
    output: OutputOptions,
    *,
    page: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page to write, or a folder for it."),
    ] = None,
    repo: Repository = None,
    cache: Cache = None,
) -> int:
    """Write one self-contained HTML page: what is protected, how large, how fast, how healthy."""

    def work(session: Session) -> Outcome[ReportReport]:
        from pathlib import Path

        from zitcache.tasks.report import DEFAULT_NAME, ReportRequest, report
        from zitcache.ui.page import render_page

        request = ReportRequest(
            render=render_page, repository=repo, cache=cache, output=Path(page or DEFAULT_NAME)
        )
        return report(request, session)

    return run("report", output, work, render_report, again=again(repo=repo, cache=cache))
