"""How ``status`` is shown: one screen of 24 lines, the answer first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.table import Column, table
from zitcache.ui.text import age, count, local_time, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.overview import ModelState
    from zitcache.tasks.status import StatusReport
    from zitcache.ui.report import View

_WHAT = {"backup": "Backup", "check": "Check", "drill": "Drill", "proof": "Proof"}
_MOST_PROBLEMS, _MOST_MODELS = 5, 6
_COLUMNS = [
    Column("Model"),
    Column("Revision"),
    Column("Size", right=True),
    Column("Cache"),
    Column("Snapshot"),
    Column("Age", right=True),
]


def render_status(report: StatusReport, view: View) -> list[str]:
    """The verdict, the models, when what was last done, the next run, the disk."""
    lines = [*_verdict(report, view), "", *_models(report.overview.models, view)]
    lines += [*_moments(report, view), *_picture(report.picture), *_next_run(report, view)]
    return [*lines, *_disk(report)]


def _verdict(report: StatusReport, view: View) -> list[str]:
    seen = report.overview
    safe = sum(model.size_bytes for model in seen.models if model.snapshot_id is not None)
    if report.ok:
        return [view.style.good(f"Protected: {size(safe)}") + f" in {printable(seen.repository)}."]
    first, *rest = map(printable, report.problems)
    return [view.style.bad(first), *_some(rest, _MOST_PROBLEMS - 1, view)]


def _models(models: Sequence[ModelState], view: View) -> list[str]:
    """A table, what is in danger first: that must not be behind the "more"."""
    if not models:
        return []
    rows = [
        [
            printable(model.id),
            printable(model.revision[:12]),
            size(model.size_bytes),
            printable({"absent": "not in the cache"}.get(model.in_cache, model.in_cache)),
            f"snapshot {short(model.snapshot_id)}" if model.snapshot_id else "NOT PROTECTED",
            "" if model.age_seconds is None else f"{age(model.age_seconds)} ago",
        ]
        for model in sorted(models, key=lambda model: (model.snapshot_id is not None, model.id))
    ]
    return [*_some(table(_COLUMNS, rows, view.style), _MOST_MODELS + 1, view), ""]


def _moments(report: StatusReport, view: View) -> list[str]:
    lines = []
    for moment in report.overview.moments:
        when = "never" if moment.age_seconds is None else f"{age(moment.age_seconds)} ago"
        line = _line(_WHAT.get(moment.what, printable(moment.what)), when)
        if moment.stale:
            line += ", too long ago" if moment.time else ""
        if moment.last_exit_code:
            line += f"; the last attempt ended with exit code {moment.last_exit_code}"
        if moment.detail:
            line += f"; {printable(moment.detail)}"
        lines.append(view.style.bad(line) if moment.stale or moment.last_exit_code else line)
    return lines


def _picture(path: str | None) -> list[str]:
    return [_line("Picture", printable(path))] if path else []


def _next_run(report: StatusReport, view: View) -> list[str]:
    schedule = report.schedule
    if schedule.next_run:
        by = printable(schedule.backend or "")
        return [_line("Next run", f"{local_time(schedule.next_run)} ({by})")]
    said = "not known" if schedule.armed else "none: no night comes by itself"
    return [view.style.caution(_line("Next run", said))]


def _disk(report: StatusReport) -> list[str]:
    seen = report.overview
    if seen.disk is None:
        return []
    days = seen.disk.days_left
    left = "" if days is None else f", full in about {count(round(days), 'day')} at this rate"
    stored = f"{count(seen.snapshots, 'snapshot')} in {size(seen.disk.stored_bytes)}"
    return [_line("Disk", f"{size(seen.disk.bytes_free)} free{left}; {stored}")]


def _line(name: str, text: str) -> str:
    return f"{name + ':':<10}{text}"


def _some(lines: Sequence[str], most: int, view: View) -> list[str]:
    """The first of ``lines`` and how many more there are; all with ``-v``."""
    if view.limit is None or len(lines) <= most:
        return list(lines)
    hidden = len(lines) - most + 1
    return [*lines[: most - 1], view.style.dim(f"… and {hidden} more (-v shows all)")]
