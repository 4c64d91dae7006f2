"""``zitcache forget``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.keeping import Grace, MaxRepack, MaxUnused
from zitcache.cli.options import DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.forget import render_forget

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.forget import ForgetReport


KeepLast = Annotated[
    str | None, typer.Option("--keep-last", metavar="N", help="Keep the last N, or: unlimited.")
]
KeepHourly = Annotated[str | None, typer.Option("--keep-hourly", metavar="N", help="One of each of N hours.")]
KeepDaily = Annotated[str | None, typer.Option("--keep-daily", metavar="N", help="One of each of N days.")]
KeepWeekly = Annotated[str | None, typer.Option("--keep-weekly", metavar="N", help="One of each of N weeks.")]
KeepMonthly = Annotated[
    str | None, typer.Option("--keep-monthly", metavar="N", help="One of each of N months.")
]
KeepYearly = Annotated[str | None, typer.Option("--keep-yearly", metavar="N", help="One of each of N years.")]


@command(
    examples="""
zitcache forget --dry-run               keep 7 daily, 4 weekly, 6 monthly
zitcache forget --prune                 and free what nothing needs any more
zitcache forget --keep-last 3 --keep-within 30d
zitcache forget 3fa4b2c1                exactly this one
zitcache forget --cache /root/workspace/model_cache --keep-weekly 8
"""
)
def forget(
    output: OutputOptions,
    *,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Forget exactly these snapshots.")
    ] = None,
    repo: Repository = None,
    keep_last: KeepLast = None,
    keep_hourly: KeepHourly = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    keep_monthly: KeepMonthly = None,
    keep_yearly: KeepYearly = None,
    keep_within: Annotated[
        str | None,
        typer.Option(
            "--keep-within", metavar="SPAN", help="All of the last 1y5m7d2h before the newest good one."
        ),
    ] = None,
    keep_tag: Annotated[
        list[str] | None, typer.Option("--keep-tag", metavar="TAG[,TAG]", help="All with these tags.")
    ] = None,
    group_by: Annotated[
        str,
        typer.Option(
            "--group-by",
            metavar="WORDS",
            help="What is counted apart: host, cache, tags, or '' for nothing.",
            show_default=True,
        ),
    ] = "host,cache",
    host: Annotated[
        list[str] | None, typer.Option("--host", metavar="NAME", help="Only snapshots of this machine.")
    ] = None,
    cache: Annotated[
        list[str] | None, typer.Option("--cache", metavar="DIR", help="Only snapshots of this cache.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG[,TAG]", help="Only snapshots with these tags.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Run prune afterwards.")] = False,
    grace: Grace = "24h",
    max_unused: MaxUnused = "5%",
    max_repack_size: MaxRepack = None,
    dry_run: DryRun = False,
) -> int:
    """Take old snapshots out of the list. They can be had back with undelete for a while.

    Without --keep-… options: 7 daily, 4 weekly and 6 monthly ones of each cache stay. Pinned snapshots and
    the last good one of each model are never forgotten; a suspect one never takes the place of a good one.
    """

    def work(session: Session) -> Outcome[ForgetReport]:
        from zitcache.cli.keeping import parse_policy, parse_tag_groups, prune_request
        from zitcache.tasks.forget import ForgetRequest, forget

        policy = parse_policy(
            last=keep_last,
            hourly=keep_hourly,
            daily=keep_daily,
            weekly=keep_weekly,
            monthly=keep_monthly,
            yearly=keep_yearly,
            within=keep_within,
            tags=keep_tag,
        )
        pruning = prune_request(
            repository=repo,
            grace=grace,
            max_unused=max_unused,
            max_repack_size=max_repack_size,
            dry_run=dry_run,
        )
        request = ForgetRequest(
            repository=repo,
            ids=tuple(ids or ()),
            policy=policy,
            hosts=tuple(host or ()),
            caches=tuple(cache or ()),
            tags=parse_tag_groups("--tag", tag),
            group_by=tuple(word.strip() for word in group_by.split(",") if word.strip()),
            dry_run=dry_run,
            prune=pruning if prune else None,
        )
        return forget(request, session)

    return run("forget", output, work, render_forget, again=again(repo=repo))
