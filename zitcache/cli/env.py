"""``zitcache env``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, DryRun, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.env import render_env

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.environment import EnvReport


@command(
    examples="""
zitcache env                       what is set, by which file, does it count
zitcache env --write               set it for shells, cron and services
zitcache env --format sh           for this shell: eval "$(…)"
zitcache env --model Tongyi-MAI/Z-Image-Turbo --format sh
zitcache env --own ~/cache --write   a cache of your own, sharing the weights
zitcache env --remove --dry-run    what taking it away would change
"""
)
def env(
    output: OutputOptions,
    *,
    cache: Cache = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", help="Print the variables as sh, fish, dotenv, systemd or json."
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write them where shells, cron and services read them.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take away what --write wrote.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="OWNER/NAME", help="The cache that holds this model."),
    ] = None,
    own: Annotated[
        str | None,
        typer.Option(
            "--own", metavar="DIR", help="Make a cache of your own in DIR: links to the models, shared."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Show the variables that name the cache, or set them.

    Without an option: which are set, by which line of which file, and which count.
    """

    def work(session: Session) -> Outcome[EnvReport]:
        from zitcache.tasks.environment import EnvRequest, env

        request = EnvRequest(
            cache=cache, model=model, own=own, format=form, write=write, remove=remove, dry_run=dry_run
        )
        return env(request, session)

    return run("env", output, work, render_env, again=again(cache=cache), quiet_hides=False)
