"""How ``status`` is shown: one screen, the answer first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.table import Column, table
from zitcache.ui.text import age, count, local_time, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.status import StatusReport
    from zitcache.ui.report import View

_WHAT = {"backup": "Backup", "check": "Check", "drill": "Drill", "proof": "Proof"}


def render_status(report: StatusReport, view: View) -> list[str]:
    """The verdict, the models, when what was last done, the next run, the disk."""
    style, seen = view.style, report.overview
    safe = sum(model.size_bytes for model in seen.models if model.snapshot_id is not None)
    if report.ok:
        lines = [style.good(f"Protected: {size(safe)}") + f" in {printable(seen.repository)}."]
    else:
        lines = [style.bad(report.problems[0]), *report.problems[1:]]
    lines.append("")
    rows = [
        [
            printable(model.id),
            printable(model.revision[:12]),
            size(model.size_bytes),
            {"absent": "not in the cache"}.get(model.in_cache, model.in_cache),
            f"snapshot {short(model.snapshot_id)}" if model.snapshot_id else "NOT PROTECTED",
            "" if model.age_seconds is None else f"{age(model.age_seconds)} ago",
        ]
        for model in seen.models
    ]
    columns = [
        Column("Model"),
        Column("Revision"),
        Column("Size", right=True),
        Column("Cache"),
        Column("Snapshot"),
        Column("Age", right=True),
    ]
    lines += [*table(columns, rows, style), ""]
    for moment in seen.moments:
        when = "never" if moment.age_seconds is None else f"{age(moment.age_seconds)} ago"
        line = f"{_WHAT.get(moment.what, moment.what) + ':':<10}{when}"
        if moment.last_exit_code:
            line += f"; the last attempt ended with exit code {moment.last_exit_code}"
        if moment.detail:
            line += f"; {printable(moment.detail)}"
        lines.append(style.bad(line) if moment.stale else line)
    if report.picture:
        lines.append(f"{'Picture:':<10}{printable(report.picture)}")
    schedule = report.schedule
    if schedule.next_run:
        lines.append(f"{'Next run:':<10}{local_time(schedule.next_run)} ({schedule.backend})")
    else:
        lines.append(style.caution(f"{'Next run:':<10}{'none' if not schedule.armed else schedule.backend}"))
    if seen.disk is not None:
        left = (
            ""
            if seen.disk.days_left is None
            else f", full in about {seen.disk.days_left:,.0f} days at this rate"
        )
        stored = f"{count(seen.snapshots, 'snapshot')} in {size(seen.disk.stored_bytes)}"
        lines.append(f"{'Disk:':<10}{size(seen.disk.bytes_free)} free{left}; {stored}")
    return lines
