"""Charts as inline SVG: no script, and colours that follow the page's light or dark style."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from zitcache.ui.page.parts import escape
from zitcache.ui.text import duration, local_time, size

if TYPE_CHECKING:
    from zitcache.tasks.overview.sizes import Sizes
    from zitcache.tasks.report.collect import RunPoint, SnapshotPoint

_WIDTH = 720
_MOST_BARS = 12


def bars(name: str, sizes: Sequence[Sizes]) -> str:
    """Two bars for each: as it is in the cache, and as it is stored, with the share as a number."""
    shown = list(sizes[:_MOST_BARS])
    largest = max((each.size_bytes for each in shown), default=0) or 1
    lines = []
    for each in shown:
        share = f"{100 * each.stored_bytes / each.size_bytes:.1f} %" if each.size_bytes else "–"
        lines.append(
            f'<div class="bar" data-{name}="{escape(each.name)}"><div class="label">{escape(each.name)}</div>'
            f'<div class="track"><i class="before" style="width:{100 * each.size_bytes / largest:.2f}%"></i>'
            f'<i class="after" style="width:{100 * each.stored_bytes / largest:.2f}%"></i></div>'
            f'<div class="value">{size(each.size_bytes)} → {size(each.stored_bytes)} <b>{share}</b></div>'
            "</div>"
        )
    rest = len(sizes) - len(shown)
    more = f"<p>… and {rest} more</p>" if rest > 0 else ""
    return f'<div class="bars">{"".join(lines)}</div>{more}'


def time_line(points: Sequence[SnapshotPoint]) -> str:
    """Snapshots along the time: a dot each, its height the size of the cache, its colour the state."""
    placed = [(moment, point) for point in points if (moment := _epoch(point.time)) is not None]
    if not placed:
        return ""
    first, last = min(moment for moment, _ in placed), max(moment for moment, _ in placed)
    width, largest = max(last - first, 1.0), max(point.size_bytes for _, point in placed) or 1
    height, dots = 150, []
    for moment, point in placed:
        x = 16 + (_WIDTH - 32) * ((moment - first) / width if last > first else 0.5)
        y = height - 26 - (height - 52) * point.size_bytes / largest
        label = f"{point.id[:8]}, {local_time(point.time)}, {size(point.size_bytes)}, {point.state}"
        dots.append(
            f'<line class="stem" x1="{x:.1f}" y1="{height - 22}" x2="{x:.1f}" y2="{y:.1f}"/>'
            f'<circle class="{point.state}" cx="{x:.1f}" cy="{y:.1f}" r="{6 if point.pinned else 4.5}">'
            f"<title>{escape(label)}</title></circle>"
        )
    axis = (
        f'<line class="axis" x1="8" y1="{height - 22}" x2="{_WIDTH - 8}" y2="{height - 22}"/>'
        f'<text x="8" y="{height - 6}">{escape(_day(first))}</text>'
        f'<text x="{_WIDTH - 8}" y="{height - 6}" text-anchor="end">{escape(_day(last))}</text>'
        f'<text x="8" y="14">{size(largest)}</text>'
    )
    return _svg("time-line", "Snapshots along the time", height, axis + "".join(dots))


def run_chart(runs: Sequence[RunPoint]) -> str:
    """How long the nights took: a bar each, red where one failed."""
    longest = max((run.seconds for run in runs), default=0.0) or 1.0
    height, step = 120, (_WIDTH - 32) / max(len(runs), 14)
    columns = []
    for place, run in enumerate(runs):
        tall = max(2.0, (height - 44) * run.seconds / longest)
        steps = ", ".join(f"{name} {duration(seconds)}" for name, seconds, _ in run.steps)
        label = f"{local_time(run.started)}: {duration(run.seconds)}, exit code {run.exit_code}. {steps}"
        columns.append(
            f'<rect class="{"good" if run.exit_code == 0 else "suspect"}" x="{16 + place * step:.1f}" '
            f'y="{height - 22 - tall:.1f}" width="{max(2.0, step * 0.7):.1f}" height="{tall:.1f}" rx="2">'
            f"<title>{escape(label)}</title></rect>"
        )
    axis = (
        f'<line class="axis" x1="8" y1="{height - 22}" x2="{_WIDTH - 8}" y2="{height - 22}"/>'
        f'<text x="8" y="14">{duration(longest)}</text>'
        f'<text x="8" y="{height - 6}">{escape(local_time(runs[0].started)[:10])}</text>'
        f'<text x="{_WIDTH - 8}" y="{height - 6}" text-anchor="end">'
        f"{escape(local_time(runs[-1].started)[:10])}</text>"
    )
    return _svg("runs", "How long the nights took", height, axis + "".join(columns))


def _svg(name: str, title: str, height: int, content: str) -> str:
    return (
        f'<svg id="{name}" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{content}</svg>"
    )


def _epoch(iso: str) -> float | None:
    try:
        moment = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _day(epoch: float) -> str:
    return datetime.fromtimestamp(epoch).strftime("%Y-%m-%d")
