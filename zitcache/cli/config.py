"""``zitcache config``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from zitcache.cli.options import DryRun, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.config import render_config, render_config_init, render_validation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zitcache.events import Outcome, Session
    from zitcache.ui.report import View

ACTIONS = ("show", "validate", "init")


@command(
    examples="""
zitcache config init             write a first file; it asks the machine
zitcache config show --origin    every setting, and what set it
zitcache config validate         is everything in it right?
"""
)
def config(
    output: OutputOptions,
    *,
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="show, validate or init.", show_default=False)
    ] = "show",
    origin: Annotated[bool, typer.Option("--origin", help="With show: what set it.")] = False,
    file: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="With init, validate: this file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With init: replace the file.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Show the settings, check the configuration file, or write a first one."""

    def work(session: Session) -> Outcome[Any]:
        from zitcache.errors import UsageError
        from zitcache.tasks import config as task

        if action not in ACTIONS:
            raise UsageError(f"config cannot {action!r}.", hint=f"Use one of: {', '.join(ACTIONS)}")
        if action == "init":
            return task.init_config(session, output=file, force=force, dry_run=dry_run)
        if action == "validate":
            return task.validate(file, session)
        return task.show(session)

    def show(report: Any, view: View) -> Sequence[str]:
        return render_config(report, view, origin=origin)

    renders: dict[str, Callable[[Any, View], Sequence[str]]] = {
        "init": render_config_init,
        "validate": render_validation,
    }
    return run("config", output, work, renders.get(action, show), quiet_hides=action != "show")
