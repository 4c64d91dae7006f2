"""``zitcache clean``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.clean import render_clean

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.clean import CleanReport, Kind


@command(
    examples="""
zitcache clean                             show what could go; remove nothing
zitcache clean --delete                    remove it
zitcache clean --kind unfinished-download --delete
zitcache clean --cache /root/workspace/model_cache --min-age 1d
"""
)
def clean(
    output: OutputOptions,
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is listed as removable. Without it: a dry run.")
    ] = False,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only this kind; may be repeated. See below."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what an interrupted restore or migration could go on from.")
    ] = False,
    min_age: Annotated[
        str,
        typer.Option(
            "--min-age",
            metavar="TIME",
            help="Leave what changed within this time (30m, 1h, 2d). Default: 1h.",
            show_default=False,
        ),
    ] = "1h",
    cache: Cache = None,
    repo: Repository = None,
    dry_run: DryRun = False,
) -> int:
    """Find leftovers that only take up space, with size and reason; remove them on request.

    Never removed: what a model needs, what a process has open, what another user owns, what is new.

    Kinds: unfinished-download, shadowing-stub, stale-lock, own-staging, xet-cache, pip-cache, uv-cache,
    conda-packages, torch-cache; and, only if named, old-copy and torch-hub.
    """

    def work(session: Session) -> Outcome[CleanReport]:
        from zitcache.cli.values import parse_time_span
        from zitcache.tasks.clean import CleanRequest
        from zitcache.tasks.clean import clean as task

        request = CleanRequest(
            cache=cache,
            repository=repo,
            kinds=_kinds(kind or []),
            everything=everything,
            min_age_seconds=parse_time_span("--min-age", min_age),
            delete=delete and not dry_run,
        )
        return task(request, session)

    words: tuple[str, ...] = ()
    for name in kind or []:
        words += ("--kind", name)
    words += ("--all",) if everything else ()
    words += ("--min-age", min_age) if min_age != "1h" else ()
    return run("clean", output, work, render_clean, again=(*words, *again(repo=repo, cache=cache)))


def _kinds(names: list[str]) -> tuple[Kind, ...]:
    from zitcache.errors import UsageError
    from zitcache.tasks.clean import Kind

    try:
        return tuple(Kind(name) for name in names)
    except ValueError as error:
        known = ", ".join(kind.value for kind in Kind)
        raise UsageError(f"--kind: {error}.", hint=f"The kinds are: {known}") from None
