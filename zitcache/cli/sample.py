"""``zitcache sample``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.sample import render_sample

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.sample import SampleReport


@command(
    examples="""
zitcache sample /tmp/cache                        as ModelScope lays it out
zitcache sample /tmp/cache --layout huggingface   as Hugging Face does
"""
)
def sample(
    output: OutputOptions,
    *,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Where; must be missing or empty.")],
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            metavar="LAYOUT",
            help="modelscope, modelscope-legacy, modelscope-legacy-hub, modelscope-legacy-plain, "
            "huggingface, huggingface-shared, seed or plain.",
        ),
    ] = "modelscope",
) -> int:
    """Make a small real model cache to try things on: same files, dtypes and shards, a few MB. No network."""

    def work(session: Session) -> Outcome[SampleReport]:
        from pathlib import Path

        from zitcache.errors import UsageError
        from zitcache.tasks.sample import SampleLayout, sample

        try:
            wanted = SampleLayout(layout)
        except ValueError:
            names = ", ".join(item.value for item in SampleLayout)
            raise UsageError(
                f"There is no layout {layout!r}.", hint=f"Use --layout with one of: {names}"
            ) from None
        return sample(Path(directory), wanted, session)

    return run("sample", output, work, render_sample)
