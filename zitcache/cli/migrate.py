"""``zitcache migrate``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, DryRun, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions, write_message
from zitcache.ui.render.migrate import DELETE_QUESTION, GO_ON_QUESTION, render_migrate, render_plan
from zitcache.ui.style import Style, is_terminal, use_color

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.migrate import MigratePlan, MigrateReport


@command(
    examples="""
zitcache migrate /data/modelscope_cache        move the cache to a data disk
zitcache migrate /data/cache --dry-run         what would be done
zitcache migrate /data/cache --delete-source   and delete the old copy
zitcache migrate --undo                        move it back
"""
)
def migrate(
    output: OutputOptions,
    *,
    destination: Annotated[
        str | None,
        typer.Argument(
            metavar="DEST",
            help="A directory, new or empty, on a disk that a reset does not wipe. With --undo: the migrated "
            "cache, if it is not the one in use.",
            show_default=False,
        ),
    ] = None,
    cache: Cache = None,
    delete_source: Annotated[
        bool,
        typer.Option(
            "--delete-source", help="Delete the old copy once the new one is verified (with --undo: DEST)."
        ),
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Move the cache back to where it was.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; the old copy is kept.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also to a disk that a reset wipes.")] = False,
    no_env: Annotated[bool, typer.Option("--no-env", help="Leave the environment as it is.")] = False,
    no_kit: Annotated[bool, typer.Option("--no-kit", help="Keep no kit for a bare machine there.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Move the cache to a data disk. The old path becomes a link to it: nothing else changes.

    Every file is copied, read back from the disk and compared before the old path changes, in one step. Run
    it again after an interruption: it goes on, inside a file, too. The old copy is deleted only when asked.
    """
    asks = not (yes or output.json or dry_run) and is_terminal(sys.stdin) and is_terminal(sys.stderr)
    finished: list[MigrateReport] = []

    def confirm(plan: MigratePlan) -> bool:
        for line in render_plan(plan, Style(use_color(output.color, sys.stderr))):
            write_message(line)
        return _ask(GO_ON_QUESTION, default=True)

    def work(session: Session, *, delete: bool = delete_source) -> Outcome[MigrateReport]:
        from zitcache.tasks.migrate import MigrateRequest, migrate

        request = MigrateRequest(
            target=destination,
            cache=cache,
            undo=undo,
            delete_source=delete,
            force=force,
            dry_run=dry_run,
            environment=not no_env,
            kit=not no_kit,
        )
        outcome = migrate(request, session, confirm if asks and not finished else None)
        finished.append(outcome.data)
        return outcome

    options = again(cache=cache)
    code = run("migrate", output, work, render_migrate, again=options)
    if asks and code == 0 and finished and finished[0].old_copy and not undo:
        if not _ask(DELETE_QUESTION.format(finished[0].old_copy), default=False):
            return code
        return run(
            "migrate", output, lambda session: work(session, delete=True), render_migrate, again=options
        )
    return code


def _ask(question: str, *, default: bool) -> bool:
    """Ask on the terminal; Enter takes the default, and so does the end of the input."""
    choices = "[Y/n]" if default else "[y/N]"
    while True:
        sys.stderr.write(f"{question} {choices} ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        answer = line.strip().lower()
        if not line:
            return False
        if not answer:
            return default
        if answer in {"y", "yes"}:
            return True
        if answer in {"n", "no"}:
            return False
