"""``zitcache tag``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.tag import render_tag

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.tag import TagReport


@command(
    examples="""
zitcache tag 3fa4b2c1 --pin              never forget this one
zitcache tag 3fa4b2c1 --unpin
zitcache tag 3fa4b2c1 --add before-fine-tuning
"""
)
def tag(
    output: OutputOptions,
    *,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="The snapshots.")] = None,
    repo: Repository = None,
    pin: Annotated[bool, typer.Option("--pin", help="Keep them, whatever a policy says.")] = False,
    unpin: Annotated[bool, typer.Option("--unpin", help="Take the pin off.")] = False,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="TAG", help="Add a tag. Repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="TAG", help="Remove an added tag. Repeatable.")
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Pin snapshots so that they are never forgotten, and put tags on them."""

    def work(session: Session) -> Outcome[TagReport]:
        from zitcache.errors import UsageError
        from zitcache.tasks.tag import TagRequest, tag

        if pin and unpin:
            raise UsageError("--pin and --unpin exclude each other.", hint="Give one of the two.")
        request = TagRequest(
            ids=tuple(ids or ()),
            repository=repo,
            pin=True if pin else False if unpin else None,
            add=tuple(add or ()),
            remove=tuple(remove or ()),
            dry_run=dry_run,
        )
        return tag(request, session)

    return run("tag", output, work, render_tag, again=again(repo=repo))
