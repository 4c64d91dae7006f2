"""``zitcache models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.cli.options import Cache, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.models import render_models

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.models import ModelsReport


@command(
    examples="""
zitcache models
zitcache models --cache /root/workspace/model_cache
zitcache models --json | jq -r '.data[].id'
"""
)
def models(output: OutputOptions, *, cache: Cache = None) -> int:
    """List the models in the cache: revision, layout, size, and what is wrong with them."""

    def work(session: Session) -> Outcome[ModelsReport]:
        from zitcache.tasks.models import models

        return models(cache, session)

    return run(
        "models",
        output,
        work,
        render_models,
        data=lambda report: report.models,
        again=again(cache=cache),
        quiet_hides=False,
    )
