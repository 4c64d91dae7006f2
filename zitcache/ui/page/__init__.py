"""The report as one HTML page: no network, no script, light and dark, readable on a phone.

``parts``: small pieces of HTML · ``charts``: bars and time lines as SVG · ``look``: the style sheet · here:
the page.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from zitcache.ui.page.charts import bars, run_chart, time_line
from zitcache.ui.page.look import STYLE
from zitcache.ui.page.parts import badge, card, details, escape, figure, rows
from zitcache.ui.text import age, count, duration, local_time, size

if TYPE_CHECKING:
    from zitcache.tasks.overview import ModelState, Moment
    from zitcache.tasks.report import ReportData
    from zitcache.tasks.report.collect import Picture

_WHAT = {
    "backup": "Last good backup",
    "check": "Every stored byte read back",
    "drill": "Last drill",
    "proof": "Last proof (weights drew a picture)",
}
_LISTED = 50


def render_page(data: ReportData) -> str:
    """The whole page as text."""
    view = data.overview
    at_risk = [model for model in view.models if model.snapshot_id is None]
    if at_risk or "backup" in view.stale:
        state, line = "bad", "Something here is not protected."
    elif view.stale:
        state, line = "warn", "Protected, but some of it has not been looked at for too long."
    else:
        state, line = "good", "Protected."
    parts = [
        f"<header><h1>{escape(_title(data))}</h1>"
        f'<p class="state {state}" id="state">{escape(line)}</p>'
        f"<p>{escape(data.host)} · {escape(local_time(data.time))} · {escape(data.program)}</p></header>",
        _figures(data),
        card("Models", _models(view.models, data)),
        card("Health", _health(view.moments)),
        card("Snapshots", _snapshots(data)),
        card("Size before and after", _sizes(data)),
        card("Nights", _nights(data)),
        card("Proof", _pictures(data)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        # Nothing is loaded from anywhere, and nothing in a file name can run.
        '<meta http-equiv="Content-Security-Policy" content="'
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{escape(_title(data))}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _title(data: ReportData) -> str:
    return f"Model cache of {data.host}"


def _figures(data: ReportData) -> str:
    """The four numbers that one looks for first."""
    view, total = data.overview, data.totals
    protected = [model for model in view.models if model.snapshot_id is not None]
    newest = next((moment for moment in view.moments if moment.what == "backup"), None)
    when = "never" if newest is None or newest.age_seconds is None else f"{age(newest.age_seconds)} ago"
    share = f"{100 * total.stored_bytes / total.unique_bytes:.0f} %" if total.unique_bytes else "–"
    boxes = [
        figure(
            "protected", size(sum(model.size_bytes for model in protected)), count(len(protected), "model")
        ),
        figure("backup", when, f"{count(view.snapshots, 'snapshot')} in all"),
        figure("stored", size(total.stored_bytes), f"{share} of {size(total.unique_bytes)}"),
    ]
    if view.disk is not None:
        left = "" if view.disk.days_left is None else f"full in about {view.disk.days_left:,.0f} days"
        boxes.append(figure("free", size(view.disk.bytes_free), left or f"of {size(view.disk.bytes_total)}"))
    return f'<section class="figures">{"".join(boxes)}</section>'


def _models(models: list[ModelState], data: ReportData) -> str:
    if not models:
        return "<p>No model is known: neither in the cache nor in a snapshot.</p>"
    lines = []
    for model in models:
        safe = badge("good", "in a snapshot") if model.snapshot_id else badge("bad", "in no snapshot")
        live = {"complete": "good", "incomplete": "bad", "absent": "warn"}[model.in_cache]
        lines.append(
            [
                f"<strong>{escape(model.id)}</strong> <small>{escape(model.revision[:12])}</small>",
                size(model.size_bytes),
                badge(live, {"absent": "not in the cache"}.get(model.in_cache, model.in_cache)),
                safe,
                "" if model.age_seconds is None else f"{age(model.age_seconds)} ago",
            ]
        )
    problems = [f"{line.id}: {text}" for line in data.inventory for text in line.problems]
    note = details("What is wrong in the cache", problems) if problems else ""
    return rows(["Model", "Size", "Cache", "Snapshot", "Age"], lines) + note


def _health(moments: list[Moment]) -> str:
    lines = []
    for moment in moments:
        state = "bad" if moment.stale and moment.what == "backup" else "warn" if moment.stale else "good"
        when = "never" if moment.age_seconds is None else f"{age(moment.age_seconds)} ago"
        failed = (
            badge("bad", f"last attempt: exit code {moment.last_exit_code}") if moment.last_exit_code else ""
        )
        word = "too long ago" if moment.stale else "fine" if moment.time else "not yet"
        lines.append(
            [
                escape(_WHAT.get(moment.what, moment.what)),
                escape(when),
                badge(state if moment.time or moment.stale else "plain", word) + failed,
                escape(moment.detail),
            ]
        )
    return rows(["", "When", "", ""], lines)


def _snapshots(data: ReportData) -> str:
    if not data.snapshots:
        return "<p>There is no snapshot yet.</p>"
    lines = [
        [
            f"<code>{escape(point.id[:8])}</code>",
            escape(local_time(point.time)),
            size(point.size_bytes),
            size(point.bytes_new_stored),
            badge({"good": "good", "partial": "warn"}.get(point.state, "bad"), point.state),
            escape(", ".join([*(["pinned"] if point.pinned else []), *point.tags])),
        ]
        for point in reversed(data.snapshots[-_LISTED:])
    ]
    table = rows(["Id", "Time", "Size", "New", "State", "Tags"], lines)
    return time_line(data.snapshots) + f"<details><summary>The newest {len(lines)}</summary>{table}</details>"


def _sizes(data: ReportData) -> str:
    if not data.by_dtype:
        return "<p>There is nothing stored yet.</p>"
    total = data.totals
    shared = total.size_bytes / total.unique_bytes if total.unique_bytes else 1.0
    packed = total.unique_bytes / total.stored_bytes if total.stored_bytes else 1.0
    return (
        "<h3>By kind of weights</h3>"
        + bars("dtype", data.by_dtype)
        + "<h3>By model</h3>"
        + bars("model", data.by_model)
        + f'<p id="dedup">All snapshots together describe {size(total.size_bytes)}; '
        f"each piece once is {size(total.unique_bytes)} (deduplication {shared:.1f} ×); "
        f"compressed it is {size(total.stored_bytes)} (compression {packed:.2f} ×).</p>"
    )


def _nights(data: ReportData) -> str:
    if not data.runs:
        return "<p>No night is recorded yet. Try one: <code>zitcache night</code></p>"
    last = data.runs[-1]
    speed = ""
    if last.bytes_read and last.backup_seconds:
        speed = f" The backup read {size(last.bytes_read / last.backup_seconds)}/s."
    state = badge("good" if last.exit_code == 0 else "bad", f"exit code {last.exit_code}")
    text = f"<p>Last: {escape(local_time(last.started))}, {duration(last.seconds)} {state}{escape(speed)}</p>"
    return run_chart(data.runs) + text


def _pictures(data: ReportData) -> str:
    shown = [_picture("golden", "Golden", data.golden), _picture("proof", "Last proof", data.proof)]
    if not any(shown):
        return "<p>No picture has been drawn yet: <code>zitcache verify --generate --save-golden</code></p>"
    return f'<div class="pictures">{"".join(shown)}</div>'


def _picture(name: str, title: str, picture: Picture | None) -> str:
    if picture is None:
        return ""
    data = base64.b64encode(picture.png).decode("ascii")
    words = " · ".join(word for word in (picture.model, local_time(picture.time), picture.detail) if word)
    return (
        f'<figure id="{name}"><img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption><strong>{escape(title)}</strong><br>{escape(words)}</figcaption></figure>"
    )
