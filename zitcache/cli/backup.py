"""``zitcache backup``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.drawing import Device, Generate, Model, ProofDir, Size, Trust
from zitcache.cli.options import Cache, DryRun, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.backup import render_backup

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.backup import BackupReport


@command(
    examples="""
zitcache backup                            to the repository in ZITCACHE_REPO
zitcache backup -r /data/zitcache --init   create that one if there is none
zitcache backup --reread 1/30              read some unchanged files again
zitcache backup --generate                 draw, too, and keep the picture
zitcache backup --dry-run                  what would be saved, how much
"""
)
def backup(
    output: OutputOptions,
    *,
    repo: Repository = None,
    cache: Cache = None,
    reread: Annotated[
        str,
        typer.Option(
            "--reread",
            metavar="SHARE",
            help="Read this share of the unchanged files all the same (100%, 0.3 or 1/30), the longest "
            "unread first: finds damage that left size and time as they were.",
            show_default=False,
        ),
    ] = "0%",
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Mark the snapshot. Repeatable.")
    ] = None,
    init: Annotated[bool, typer.Option("--init", help="Create the repository if there is none.")] = False,
    no_kit: Annotated[
        bool, typer.Option("--no-kit", help="Keep no kit in the repository (it takes 110 MB, once).")
    ] = False,
    dry_run: DryRun = False,
    generate: Generate = False,
    model: Model = None,
    device: Device = "auto",
    size: Size = None,
    trust: Trust = False,
    proof_dir: ProofDir = None,
) -> int:
    """Put a snapshot of the model cache into a repository.

    Only what changed is read, only what is new is stored. Run it again after an interruption: it goes on.
    """

    def work(session: Session) -> Outcome[BackupReport]:
        from zitcache.cli.drawing import parse_proof
        from zitcache.cli.values import parse_share
        from zitcache.tasks.backup import BackupRequest, backup
        from zitcache.tasks.settings import keeps_kit

        request = BackupRequest(
            repository=repo,
            cache=cache,
            reread=parse_share("--reread", reread),
            tags=tuple(tag or ()),
            init=init,
            kit=keeps_kit(no_kit),
            dry_run=dry_run,
            proof=parse_proof(
                wanted=generate, model=model, device=device, size=size, trust=trust, proof_dir=proof_dir
            ),
        )
        return backup(request, session)

    return run("backup", output, work, render_backup, again=again(repo=repo, cache=cache))
