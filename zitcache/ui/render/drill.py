"""How ``drill`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.table import Column, table
from zitcache.ui.text import duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.drill import DrillReport
    from zitcache.ui.report import View

COLUMNS = (Column("Step"), Column("Time", right=True), Column("Result"), Column(""))


def render_drill(report: DrillReport, view: View) -> list[str]:
    """The verdict, then the steps with their times."""
    share = f" ({100 * report.stored_bytes / report.size_bytes:.0f} %)" if report.size_bytes else ""
    figures = f"{size(report.size_bytes)}, stored as {size(report.stored_bytes)}{share}"
    if report.ok:
        lines = [view.style.good("The drill passed") + f" in {duration(report.seconds)}: {figures}."]
    else:
        failed = ", ".join(printable(step.name) for step in report.steps if not step.ok)
        lines = [
            view.style.bad("The drill failed")
            + f" after {duration(report.seconds)}: {failed or 'see below'}."
        ]
    rows = [
        [printable(step.name), duration(step.seconds), "ok" if step.ok else "FAILED", printable(step.detail)]
        for step in report.steps
    ]
    lines += table(COLUMNS, rows, view.style)
    if report.proof is not None and report.seconds_to_picture is not None:
        lines.append(f"From wiped to drawn: {duration(report.seconds_to_picture)}.")
    if report.scratch:
        lines.append(f"Scratch folder: {printable(report.scratch)}")
    return lines
