"""How ``undelete`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.table import Column, table
from zitcache.ui.text import count, local_time, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.undelete import ForgottenSnapshot, UndeleteReport
    from zitcache.ui.report import View

COLUMNS = (
    Column("ID"),
    Column("Time"),
    Column("Host"),
    Column("Size", right=True),
    Column("Forgotten"),
    Column("State"),
    Column("Models"),
)


def render_undelete(report: UndeleteReport, view: View) -> list[str]:
    """What came back, or what can."""
    place = printable(report.repository)
    if not report.snapshots:
        return [f"No forgotten snapshots in {place}."]
    waiting = sum(item.state == "forgotten" for item in report.snapshots)
    if report.restored:
        verb = "Would bring back" if report.dry_run else "Brought back"
        lines = [view.style.good(verb) + f" {count(report.restored, 'snapshot')} in {place}."]
    else:
        lines = [f"{count(waiting, 'forgotten snapshot')} in {place} can be had back."]
    lines += table(COLUMNS, (_row(item) for item in report.snapshots), view.style)
    if not report.restored and waiting:
        first = next(item for item in report.snapshots if item.state == "forgotten")
        lines.append(f"To bring one back: {view.command('undelete', short(first.id))}")
    return lines


def _row(item: ForgottenSnapshot) -> list[str]:
    state = printable(item.state)
    if item.state == "forgotten":
        state = f"can come back, surely until {local_time(item.until)}"
    elif item.problem:
        state = f"gone for good: {printable(item.problem)}"
    return [
        short(item.id),
        local_time(item.time),
        printable(item.host),
        size(item.size_bytes),
        local_time(item.forgotten_at),
        state,
        printable(", ".join(item.models)),
    ]
