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

_WIDTH, _HEIGHT = 720, 120
_BASE = 116
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
    stems, dots = [], []
    # The good ones first: what is not must not be hidden by its neighbours.
    for moment, point in sorted(placed, key=lambda each: each[1].state != "good"):
        x = 12 + (_WIDTH - 24) * ((moment - first) / width if last > first else 0.5)
        y = _BASE - (_BASE - 14) * point.size_bytes / largest
        label = f"{point.id[:8]}, {local_time(point.time)}, {size(point.size_bytes)}, {point.state}"
        pinned = " pinned" if point.pinned else ""
        stems.append(f"M{x:.1f} {_BASE}V{y:.1f}")
        # A line of no length with round ends is a dot, however the chart is stretched.
        dots.append(
            f'<path class="dot {escape(point.state)}{pinned}" d="M{x:.1f} {y:.1f}h0">'
            f"<title>{escape(label)}</title></path>"
        )
    content = f'<path class="stem" d="{"".join(stems)}"/>' + "".join(dots)
    return _chart("time-line", "Snapshots along the time", size(largest), (_day(first), _day(last)), content)


def run_chart(runs: Sequence[RunPoint]) -> str:
    """How long the nights took: a bar each, red where one failed."""
    longest = max((run.seconds for run in runs), default=0.0) or 1.0
    step = (_WIDTH - 16) / max(len(runs), 14)
    columns = []
    for place, run in enumerate(runs):
        tall = max(3.0, (_BASE - 8) * run.seconds / longest)
        steps = ", ".join(f"{name} {duration(seconds)}" for name, seconds, _ in run.steps)
        label = f"{local_time(run.started)}: {duration(run.seconds)}, exit code {run.exit_code}. {steps}"
        columns.append(
            f'<rect class="{"good" if run.exit_code == 0 else "suspect"}" x="{8 + place * step:.1f}" '
            f'y="{_BASE - tall:.1f}" width="{max(2.0, step * 0.7):.1f}" height="{tall:.1f}">'
            f"<title>{escape(label)}</title></rect>"
        )
    ends = (local_time(runs[0].started)[:10], local_time(runs[-1].started)[:10]) if runs else ("", "")
    return _chart("runs", "How long the nights took", duration(longest), ends, "".join(columns))


def _chart(name: str, title: str, top: str, ends: tuple[str, str], content: str) -> str:
    """A chart as wide as the page. Its words are outside of the drawing, which is stretched."""
    first, last = map(escape, ends)
    shown = f"<span>{first}</span>" + (f"<span>{last}</span>" if last != first else "")
    return (
        f'<div class="chart" id="{name}"><div class="top">{escape(top)}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}"><path class="axis" d="M0 {_BASE}H{_WIDTH}"/>{content}</svg>'
        f'<div class="ends">{shown}</div></div>'
    )


def _epoch(iso: str) -> float | None:
    try:
        moment = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _day(epoch: float) -> str:
    return datetime.fromtimestamp(epoch).strftime("%Y-%m-%d")
