"""``zitcache checksum``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zitcache.cli.options import Cache, Repository, again, command
from zitcache.cli.runner import run
from zitcache.ui.output import OutputOptions
from zitcache.ui.render.checksum import render_checksum

if TYPE_CHECKING:
    from zitcache.events import Outcome, Session
    from zitcache.tasks.checksum import ChecksumReport


@command(
    examples="""
zitcache checksum -o fingerprint.json       for verify --against
zitcache checksum --sha256sums SHA256SUMS   for sha256sum -c
"""
)
def checksum(
    output: OutputOptions,
    *,
    cache: Cache = None,
    repo: Repository = None,
    fingerprint: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the fingerprint here, as JSON."),
    ] = None,
    sha256sums: Annotated[
        str | None, typer.Option("--sha256sums", metavar="FILE", help="Write a file for sha256sum -c here.")
    ] = None,
) -> int:
    """Fingerprint every file of the cache, BLAKE3 and SHA-256, in one read.

    Digests that the last snapshot still lacks are recorded in the repository.
    """

    def work(session: Session) -> Outcome[ChecksumReport]:
        from pathlib import Path

        from zitcache.tasks.checksum import ChecksumRequest, checksum

        request = ChecksumRequest(
            cache=cache,
            repository=repo,
            output=Path(fingerprint) if fingerprint else None,
            sha256sums=Path(sha256sums) if sha256sums else None,
        )
        return checksum(request, session)

    return run(
        "checksum",
        output,
        work,
        render_checksum,
        again=again(repo=repo, cache=cache),
        quiet_hides=bool(fingerprint or sha256sums),
    )
