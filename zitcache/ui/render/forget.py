"""How ``forget`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.render.prune import render_prune
from zitcache.ui.table import Column, table
from zitcache.ui.text import count, local_time, printable

if TYPE_CHECKING:
    from zitcache.tasks.forget import ForgetDecision, ForgetReport
    from zitcache.ui.report import View

COLUMNS = (
    Column("ID"),
    Column("Time"),
    Column("Host"),
    Column("What"),
    Column("Why"),
    Column("Tags"),
    Column("Cache"),
)


def render_forget(report: ForgetReport, view: View) -> list[str]:
    """The verdict, a table of what stays and what goes, and how to take it back."""
    place = printable(report.repository)
    if not report.snapshots:
        return [f"No snapshots to decide about in {place}."]
    verb = "Would forget" if report.dry_run else "Forgot"
    if report.forgotten:
        first = f"{verb} {count(report.forgotten, 'snapshot')} in {place}, kept {report.kept:,}."
    else:
        first = f"Nothing to forget in {place}: {count(report.kept, 'snapshot')} kept."
    lines = [view.style.good(first)]
    show_cache = len({item.cache for item in report.snapshots}) > 1 or view.limit is None
    lines += view.items(table(COLUMNS, (_row(item, show_cache) for item in report.snapshots), view.style))
    if report.forgotten and report.until and not report.dry_run:
        lines.append(
            f"They can be had back until {local_time(report.until)} at least: {view.command('undelete')}"
        )
        if report.prune is None:
            lines.append(f"To free their space: {view.command('prune')}")
    if report.prune is not None:
        lines += render_prune(report.prune, view)
    return lines


def _row(item: ForgetDecision, show_cache: bool) -> list[str]:
    return [
        short(item.id),
        local_time(item.time),
        printable(item.host),
        item.action + (" (suspect)" if item.suspect else ""),
        printable("; ".join(item.reasons)),
        printable(", ".join(item.tags)),
        printable(item.cache) if show_cache else "",
    ]
