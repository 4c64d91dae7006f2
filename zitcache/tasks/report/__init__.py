"""``report``: one page about everything: what is protected, how large, how fast, how healthy.

``collect``: the figures · ``pictures``: golden and last proof · here: collecting, rendering (by a function
that is handed in, because pages are the business of ``ui``) and writing the file whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zitcache.errors import UsageError, from_os_error
from zitcache.events import Outcome, Session
from zitcache.machine.files import write_durably
from zitcache.tasks.report.collect import ReportData, collect

DEFAULT_NAME = "zitcache-report.html"


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """``output``: the file to write. ``render``: makes the page of the figures."""

    render: Callable[[ReportData], str]
    repository: str | None = None
    cache: str | None = None
    output: Path = Path(DEFAULT_NAME)


class ReportReport(msgspec.Struct, kw_only=True):
    """``output``: the page, an absolute path. ``figures``: everything on it but the pictures."""

    output: str
    size_bytes: int
    figures: ReportData


def report(request: ReportRequest, session: Session) -> Outcome[ReportReport]:
    """Write the page.

    Raises ``RepositoryNotFound``, ``UsageError`` when the file cannot lie there, ``NoSpace``, …
    """
    output = Path(os.path.abspath(request.output.expanduser()))
    if output.is_dir():
        output = output / DEFAULT_NAME
    if not output.parent.is_dir():
        raise UsageError(
            f"There is no directory {output.parent} to write the page to.",
            hint=f"Make it: mkdir -p {output.parent}",
        )
    session.progress.stage("Collecting")
    figures = collect(request.repository, request.cache, session)
    page = request.render(figures).encode("utf-8", "backslashreplace")
    try:
        write_durably(output, page, mode=0o644)
    except OSError as error:
        raise from_os_error(error, f"writing {output}") from error
    shown = msgspec.structs.replace(figures, golden=None, proof=None)
    return Outcome(
        data=ReportReport(output=str(output), size_bytes=len(page), figures=shown), warnings=session.warnings
    )


__all__ = ["ReportData", "ReportReport", "ReportRequest", "report"]
