"""What there is now: the verdict, the figures that one looks for first, models, health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.page.parts import badge, details, escape, figure, nowrap, rows
from zitcache.ui.text import age, count, local_time, size

if TYPE_CHECKING:
    from zitcache.tasks.overview import ModelState, Moment
    from zitcache.tasks.report import ReportData
    from zitcache.tasks.report.collect import InventoryLine

_WHAT = {
    "backup": "Last good backup",
    "check": "Every stored byte read back",
    "drill": "Last drill",
    "proof": "Last proof: the weights drew a picture",
}
_MOST_PROBLEMS = 8


def head(data: ReportData) -> str:
    """The answer, then what is wrong, then when this was written."""
    view = data.overview
    if any(_at_risk(model) for model in view.models) or "backup" in view.stale:
        state, line = "bad", "Something here is not protected."
    elif data.problems:
        state, line = "warn", "Protected, but look at this."
    else:
        state, line = "good", "Protected."
    problems = "".join(f"<li>{escape(text)}</li>" for text in data.problems[:_MOST_PROBLEMS])
    more = len(data.problems) - _MOST_PROBLEMS
    if more > 0:
        problems += f"<li>… and {more} more: <code>zitcache status -v</code></li>"
    return (
        f"<header><h1>{escape(f'Model cache of {data.host}')}</h1>"
        f'<p class="state {state}" id="state">{escape(line)}</p>'
        + (f'<ul id="problems">{problems}</ul>' if problems else "")
        + f"<p>Written {escape(local_time(data.time))} by {escape(data.program)}</p></header>"
    )


def figures(data: ReportData) -> str:
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
        days = view.disk.days_left
        left = f"of {size(view.disk.bytes_total)}"
        if days is not None:
            left = "lasts for years" if days > 1000 else f"full in about {count(round(days), 'day')}"
        boxes.append(figure("free", size(view.disk.bytes_free), left))
    return f'<section class="figures">{"".join(boxes)}</section>'


def models(data: ReportData) -> str:
    """Every model: what it is, whether it is whole, whether a snapshot has it."""
    known = data.overview.models
    if not known:
        return "<p>No model is known: neither in the cache nor in a snapshot.</p>"
    live = {(line.id, line.revision): line for line in data.inventory}
    lines = []
    for model in sorted(known, key=lambda model: (not _at_risk(model), model.id)):
        safe = badge("good", "in a snapshot") if model.snapshot_id else badge("bad", "in no snapshot")
        state = {"complete": "good", "incomplete": "bad", "absent": "warn"}.get(model.in_cache, "plain")
        lines.append(
            [
                f"<strong>{escape(model.id)}</strong> <small>{escape(model.revision[:12])}</small>"
                + _described(live.get((model.id, model.revision))),
                nowrap(size(model.size_bytes)),
                badge(state, {"absent": "not in the cache"}.get(model.in_cache, model.in_cache)),
                safe,
                "" if model.age_seconds is None else nowrap(f"{age(model.age_seconds)} ago"),
            ]
        )
    problems = [f"{line.id}: {text}" for line in data.inventory for text in line.problems]
    note = details("What is wrong in the cache", problems) if problems else ""
    return rows(["Model", "Size", "Cache", "Snapshot", "Age"], lines) + note


def health(data: ReportData) -> str:
    """When what was last done, and how that went."""
    return rows(["", "", "", ""], [_moment(moment) for moment in data.overview.moments])


def _moment(moment: Moment) -> list[str]:
    state = "bad" if moment.stale and moment.what == "backup" else "warn" if moment.stale else "good"
    when = "never" if moment.age_seconds is None else f"{age(moment.age_seconds)} ago"
    word = "too long ago" if moment.stale and moment.time else "fine" if moment.time else "not yet"
    failed = f"the last attempt ended with exit code {moment.last_exit_code}"
    notes = [badge("bad", failed)] if moment.last_exit_code else []
    notes += [escape(moment.detail)] if moment.detail else []
    return [
        escape(_WHAT.get(moment.what, moment.what)),
        nowrap(when),
        badge(state if moment.time or moment.stale else "plain", word),
        " ".join(notes),
    ]


def _described(line: InventoryLine | None) -> str:
    """The second line of a model: layout, files, kinds of weights."""
    if line is None:
        return ""
    kinds = sorted(line.dtypes.items(), key=lambda item: -item[1])
    words = [
        line.layout,
        count(line.files, "file"),
        *(f"{name} {size(number)}" for name, number in kinds[:4]),
    ]
    return f"<br><small>{escape(' · '.join(words))}</small>"


def _at_risk(model: ModelState) -> bool:
    return model.snapshot_id is None
