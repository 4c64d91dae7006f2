"""How ``kit`` is shown."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from zitcache.ui.table import Column, table
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.kit import KitReport
    from zitcache.ui.report import View

COLUMNS = (Column("Step"), Column("Time", right=True), Column("Result"), Column(""))


def render_kit(report: KitReport, view: View) -> list[str]:
    """Whether the kit is there or works, and the one line to remember."""
    path = printable(report.path)
    if report.action == "checked":
        bad = [printable(step.name) for step in report.steps if not step.ok]
        if bad:
            lines = [view.style.bad("The kit does not work") + f": {', '.join(bad)}; {path}."]
        else:
            lines = [view.style.good("The kit works") + f", tried in {duration(report.seconds)}: {path}."]
        rows = [
            [printable(s.name), duration(s.seconds), "ok" if s.ok else "FAILED", printable(s.detail)]
            for s in report.steps
        ]
        lines += table(COLUMNS, rows, view.style)
        if bad:
            lines.append(f"Next, make it anew: zitcache kit {printable(shlex.quote(report.path))}")
    else:
        word = {"made": "Made", "updated": "Updated"}.get(report.action, "Up to date:")
        amount = f"{count(report.files, 'file')}, {size(report.bytes)}, in {duration(report.seconds)}"
        lines = [view.style.good(word) + f" the kit in {path}: {amount}."]
    lines.append(f"It is for: {', '.join(printable(part) for part in report.parts)}.")
    line = report.pointer or f"{report.path}/recover.sh"
    lines.append(f"After a reset: sh {printable(shlex.quote(line))}")
    return lines
