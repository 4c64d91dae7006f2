"""``zitcache verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.drawing import Device, Dtype, Generate, Gpus, Model, ProofDir, Size, Trust
from zitcache.cli.options import Cache, DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.verify import render_verify

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.verify import VerifyReport


@command(
    examples="""
zitcache verify                            every byte, with all known offline
zitcache verify --quick                    sizes, headers, completeness only
zitcache verify --repair                   rewrite what is damaged
zitcache verify --generate                 prove it: load the weights, draw
zitcache verify --against fingerprint.json with a file from zitcache checksum
"""
)
def verify(
    output: OutputOptions,
    *,
    path: Annotated[
        str | None,
        typer.Argument(metavar="PATH", help="The cache or a folder in it. Default: as for --cache."),
    ] = None,
    cache: Cache = None,
    repo: Repository = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="FILE", help="Compare with a fingerprint file or SHA256SUMS."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes, headers and completeness only.")] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Rewrite damaged pieces from the repository, each file in a copy."),
    ] = False,
    snapshot: Annotated[
        str,
        typer.Option(
            "--snapshot", metavar="ID", help="Compare with this one, not the last good.", show_default=False
        ),
    ] = "latest",
    dry_run: DryRun = False,
    generate: Generate = False,
    save_golden: Annotated[
        bool, typer.Option("--save-golden", help="Keep the picture: later ones are compared with it.")
    ] = False,
    model: Model = None,
    device: Device = "auto",
    gpus: Gpus = None,
    dtype: Dtype = None,
    size: Size = None,
    trust: Trust = False,
    proof_dir: ProofDir = None,
) -> int:
    """Find damaged files in the cache: which, what kind of damage, which bytes. Needs no network.

    Compared with: the last good snapshot, the digests that a Hugging Face cache has in its names, and the
    published fingerprint of Z-Image-Turbo. With --generate, the weights also draw a picture, which is
    compared with the golden that the repository keeps for them.
    """

    def work(session: Session) -> Outcome[VerifyReport]:
        from pathlib import Path

        from zitcache.cli.drawing import parse_proof
        from zitcache.errors import UsageError
        from zitcache.tasks.verify import VerifyRequest, verify

        if path and cache and path != cache:
            raise UsageError(
                f"Two places are named: {path} and {cache}.", hint=f"Name one: zitcache verify {path}"
            )
        request = VerifyRequest(
            path=path or cache,
            repository=repo,
            snapshot=snapshot,
            against=Path(against) if against else None,
            quick=quick,
            repair=repair,
            dry_run=dry_run,
            proof=parse_proof(
                wanted=generate,
                save_golden=save_golden,
                model=model,
                device=device,
                gpus=gpus,
                dtype=dtype,
                size=size,
                trust=trust,
                proof_dir=proof_dir,
            ),
        )
        return verify(request, session)

    place = (path or cache,) if path or cache else ()
    chosen = ("--snapshot", snapshot) if snapshot != "latest" else ()
    return run("verify", output, work, render_verify, again=(*place, *again(repo=repo), *chosen))
