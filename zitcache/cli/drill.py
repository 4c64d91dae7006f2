"""``zitcache drill``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.drawing import Device, ProofDir
from zitcache.cli.options import Cache, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.drill import render_drill

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.drill import DrillReport


@command(
    examples="""
zitcache drill --sample                on a small sample, in /tmp
zitcache drill --scratch /data/drill   on the real cache; needs as much space
"""
)
def drill(
    output: OutputOptions,
    *,
    use_sample: Annotated[
        bool, typer.Option("--sample", help="Use a small sample, not the real cache.")
    ] = False,
    cache: Cache = None,
    repo: Repository = None,
    scratch: Annotated[
        str | None,
        typer.Option("--scratch", metavar="DIR", help="Where to work. Default: a temporary folder."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch folder.")] = False,
    no_picture: Annotated[bool, typer.Option("--no-picture", help="Draw nothing in the end.")] = False,
    device: Device = "auto",
    proof_dir: ProofDir = None,
) -> int:
    """Rehearse the loss: backup, wipe of a scratch copy, restore, verify, draw, each step timed.

    The real cache is only read.
    """

    def work(session: Session) -> Outcome[DrillReport]:
        from zitcache.cli.drawing import parse_proof
        from zitcache.tasks.drill import DrillRequest, drill

        proof = parse_proof(wanted=not no_picture, device=device, proof_dir=proof_dir)

        request = DrillRequest(
            use_sample=use_sample, cache=cache, repository=repo, scratch=scratch, keep=keep, proof=proof
        )
        return drill(request, session)

    return run("drill", output, work, render_drill, again=again(repo=repo, cache=cache))
