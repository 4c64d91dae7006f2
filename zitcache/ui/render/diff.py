"""How ``diff`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.text import count, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.snapshots import Change, DiffReport
    from zitcache.ui.report import View

SIGNS = {"added": "+", "removed": "-", "modified": "M", "metadata": "m"}


def render_diff(report: DiffReport, view: View) -> list[str]:
    """``+`` added, ``-`` removed, ``M`` other content, ``m`` other time or mode only."""
    a, b = short(report.a), short(report.b)
    if not report.changes:
        return [f"No difference between {a} and {b}: they share all {size(report.bytes_shared)}."]
    figures = f"{size(report.bytes_added)} added, {size(report.bytes_removed)} removed"
    changes = count(len(report.changes), "change")
    lines = [f"{changes} from {a} to {b}: {figures}, {size(report.bytes_shared)} shared."]
    lines += view.items([_line(change, view) for change in report.changes])
    if any(change.change == "metadata" for change in report.changes):
        lines.append(view.style.dim("m: the content is equal, only time, mode or kind changed"))
    return lines


def _line(change: Change, view: View) -> str:
    sign = SIGNS.get(change.change, "?")
    paint = {"+": view.style.good, "-": view.style.bad}.get(sign, view.style.caution)
    sizes = [size(number) for number in (change.size_before, change.size_after) if number is not None]
    if len(set(sizes)) == 1:
        sizes = sizes[:1]
    return f"{paint(sign)} {printable(change.path)}" + (f"  ({' -> '.join(sizes)})" if sizes else "")
