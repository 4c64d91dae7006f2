"""``zitcache doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, Repository, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.doctor import render_doctor

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.doctor import DoctorReport


@command(
    examples="""
zitcache doctor            what is in danger, and the line to type
zitcache doctor -v         every check with what was seen
zitcache doctor --fix      also do what is safe to do
zitcache doctor --json | jq -r '.data.checks[] | select(.status == "fail").id'
"""
)
def doctor(
    output: OutputOptions,
    *,
    fix: Annotated[
        bool, typer.Option("--fix", help="Do what is safe: set the variables, make the kit.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
    cache: Cache = None,
    repo: Repository = None,
) -> int:
    """See what a reset would take, and what to do about it. Changes nothing without --fix.

    Works offline. The exit code is 1 when something is in danger.
    """

    def work(session: Session) -> Outcome[DoctorReport]:
        from zitcache.tasks.doctor import DoctorRequest
        from zitcache.tasks.doctor import doctor as task

        return task(DoctorRequest(cache=cache, repository=repo, fix=fix, strict=strict), session)

    return run("doctor", output, work, render_doctor, quiet_hides=True)
