"""What was: the snapshots along the time, and how the nights went."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from zitcache.ui.page.charts import run_chart, time_line
from zitcache.ui.page.parts import badge, escape, fold, legend, rows
from zitcache.ui.text import count, duration, local_time, rate, size

if TYPE_CHECKING:
    from zitcache.tasks.report import ReportData
    from zitcache.tasks.report.collect import RunPoint

_LISTED = 50
_LISTED_RUNS = 30
_STATES = {"good": "good", "partial": "warn"}


def snapshots(data: ReportData) -> str:
    """The time line, what its colours mean, and a table of the newest."""
    if not data.snapshots:
        return "<p>There is no snapshot yet: <code>zitcache backup</code></p>"
    counts = {
        state: sum(1 for point in data.snapshots if point.state == state)
        for state in ("good", "partial", "suspect")
    }
    meaning = legend([(state, f"{number:,} {state}") for state, number in counts.items() if number])
    lines = [
        [
            f"<code>{escape(point.id[:8])}</code>",
            escape(local_time(point.time)),
            size(point.size_bytes),
            size(point.bytes_new_stored),
            badge(_STATES.get(point.state, "bad"), point.state),
            escape(", ".join([*(["pinned"] if point.pinned else []), *point.tags])),
        ]
        for point in reversed(data.snapshots[-_LISTED:])
    ]
    table = rows(["Id", "Time", "Size", "New", "State", "Tags"], lines)
    return time_line(data.snapshots) + meaning + fold(f"The newest {len(lines)}", table)


def nights(data: ReportData) -> str:
    """How long they took, how fast they read, how they went, and when the next one comes."""
    if data.next_run:
        coming = escape(f"Next: {local_time(data.next_run)}, by {data.backend}.")
    else:
        coming = badge("warn", data.schedule_problem or "Nothing is scheduled.")
    following = f'<p id="next-run">{coming}</p>'
    if not data.runs:
        return following + "<p>No night is recorded yet. Try one: <code>zitcache night</code></p>"
    failed = sum(1 for run in data.runs if run.exit_code)
    kinds = [("good", f"{len(data.runs) - failed:,} good"), ("suspect", f"{failed:,} failed")]
    meaning = legend([kind for kind in kinds if not kind[1].startswith("0 ")])
    last = data.runs[-1]
    state = badge("good" if last.exit_code == 0 else "bad", f"exit code {last.exit_code}")
    told = f"<p>Last: {escape(local_time(last.started))}, {duration(last.seconds)} {state}</p>"
    shown = list(reversed(data.runs))[:_LISTED_RUNS]
    table = rows(["Began", "Took", "Backup read", "Speed", "Steps"], [_row(run) for run in shown])
    return (
        run_chart(data.runs)
        + meaning
        + told
        + _speed(data.runs)
        + following
        + fold(f"The last {count(len(shown), 'night')}", table)
    )


def _row(run: RunPoint) -> list[str]:
    steps = [
        badge("bad", f"{name}: exit code {code}") if code else escape(f"{name} {duration(seconds)}")
        for name, seconds, code in run.steps
    ]
    speed = _speed_of(run)
    return [
        escape(local_time(run.started)),
        duration(run.seconds),
        "" if run.bytes_read is None else size(run.bytes_read),
        "" if speed is None else rate(speed),
        ", ".join(steps) or badge("bad", f"exit code {run.exit_code}"),
    ]


def _speed(runs: list[RunPoint]) -> str:
    speeds = [speed for run in runs if (speed := _speed_of(run)) is not None]
    if not speeds:
        return ""
    text = f"Backups read {rate(median(speeds))} (the median), {rate(max(speeds))} at best."
    return f'<p id="speed">{escape(text)}</p>'


def _speed_of(run: RunPoint) -> float | None:
    """Bytes a second that a backup read; None where it read too little to tell."""
    if not run.bytes_read or not run.backup_seconds or run.bytes_read < 1_000_000:
        return None
    return run.bytes_read / run.backup_seconds
