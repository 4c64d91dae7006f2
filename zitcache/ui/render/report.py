"""How ``report`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.text import count, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.report import ReportReport
    from zitcache.ui.report import View


def render_report(report: ReportReport, view: View) -> list[str]:
    """Where the page is, and the one thing that it says first."""
    seen = report.figures.overview
    lines = [
        view.style.good("Written:") + f" {printable(report.output)} ({size(report.size_bytes)}).",
        f"{count(seen.snapshots, 'snapshot')}, {count(len(report.figures.runs), 'night')}.",
    ]
    if seen.stale:
        lines.append(view.style.caution("Too long ago: ") + ", ".join(seen.stale) + ".")
    return lines
