"""Turn measurements into the tables of the README and into JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cachemaker import MIX_ORDER, Recipe
from state import Bench, Series

STORED_TARGETS = {"fp32-upcast": 0.35, "bf16": 0.67, "fp32": 0.84}
BACKUP_TARGET, RESTORE_TARGET, VERIFY_TARGET = 0.9, 1.0, 1.1
NIGHTLY_TARGET_SECONDS, STARTUP_TARGET_SECONDS, PEAK_TARGET_BYTES = 0.6, 0.060, 400_000_000
_PEAKS = {
    "backup/zitcache": "backup",
    "nightly/cold": "nightly backup",
    "restore/zitcache": "restore",
    "verify/zitcache": "verify",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One number with what it is held against. ``reached`` is None where nothing was measured."""

    what: str
    measured: str
    peer: str
    ratio: str
    target: str
    reached: bool | None


def rows(bench: Bench, recipe: Recipe, per_kind: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Every number that has a target, in the order of the sections; only what was measured."""
    found: list[Row] = []
    size = f"{bench.cache.size_bytes / 1e9:.2f} GB"
    found += _against(bench, f"first backup of {size}", "backup/zitcache", "backup/cp", BACKUP_TARGET)
    found += _stored(bench, recipe, per_kind.get("zitcache", {}))
    for name, what in (("cold", "cold data"), ("warm", "data in memory")):
        series = bench.series.get(f"nightly/{name}")
        if series is not None:
            seconds = series.median()
            reached = None if seconds is None else seconds <= NIGHTLY_TARGET_SECONDS
            target = f"≤ {NIGHTLY_TARGET_SECONDS} s"
            found.append(
                Row(f"backup with nothing changed, {what}", _spread(series), "–", "–", target, reached)
            )
    found += _against(bench, f"restore of {size}", "restore/zitcache", "restore/cp", RESTORE_TARGET)
    found += _against(bench, f"verify of {size}", "verify/zitcache", "verify/cat", VERIFY_TARGET)
    found += _startup(bench)
    for name, command in _PEAKS.items():
        peak = bench.series[name].peak_bytes() if name in bench.series else None
        if peak is not None:
            target = f"≤ {PEAK_TARGET_BYTES / 1e6:.0f} MB"
            measured = f"{peak / 1e6:.0f} MB"
            found.append(
                Row(f"peak memory, {command}", measured, "–", "–", target, peak <= PEAK_TARGET_BYTES)
            )
    return found


def _against(bench: Bench, what: str, ours: str, theirs: str, limit: float) -> list[Row]:
    mine, other = bench.series.get(ours), bench.series.get(theirs)
    if mine is None:
        return []
    seconds, peer_seconds = mine.median(), other.median() if other else None
    ratio = seconds / peer_seconds if seconds is not None and peer_seconds else None
    peer = f"`{other.title}`: {_spread(other)}" if other else "–"
    reached = None if ratio is None else ratio <= limit
    return [Row(what, _spread(mine), peer, _times(ratio), f"≤ {limit} ×", reached)]


def _stored(bench: Bench, recipe: Recipe, per_kind: Mapping[str, float]) -> list[Row]:
    found = []
    share = bench.stored.get("zitcache")
    if share is not None:
        parts = recipe.parts
        limit = sum(STORED_TARGETS[kind] * size for kind, size in parts.items()) / sum(parts.values())
        note = " (from its parts)" if len(parts) > 1 else ""
        what = f"stored, {recipe.kind}"
        found.append(Row(what, f"{share:.1%}", "–", "–", f"≤ {limit:.1%}{note}", share <= limit))
    for kind in MIX_ORDER:
        if kind in per_kind:
            limit, share = STORED_TARGETS[kind], per_kind[kind]
            found.append(
                Row(f"stored, {kind} alone", f"{share:.1%}", "–", "–", f"≤ {limit:.0%}", share <= limit)
            )
    return found


def _startup(bench: Bench) -> list[Row]:
    mine, other = bench.series.get("startup/zitcache"), bench.series.get("startup/typer")
    if mine is None or other is None:
        return []
    seconds, peer_seconds = mine.median(), other.median()
    if seconds is None or peer_seconds is None:
        return [Row("start-up, `zitcache --help`", "failed", "–", "–", "", None)]
    more = seconds - peer_seconds
    return [
        Row(
            f"start-up, `zitcache --help` (median of {len(mine.samples)})",
            f"{seconds * 1e3:.0f} ms",
            f"`{other.title}`: {peer_seconds * 1e3:.0f} ms",
            f"{more * 1e3:+.0f} ms",
            f"≤ {STARTUP_TARGET_SECONDS * 1e3:+.0f} ms",
            more <= STARTUP_TARGET_SECONDS,
        )
    ]


def _spread(series: Series) -> str:
    """Median, and what lies around it, as a person reads it: "5.12 s (4.98 to 5.40)"."""
    middle = series.median()
    if middle is None:
        return "failed" if series.failure else "–"
    seconds = [sample.seconds * series.scale for sample in series.samples]
    around = f" ({min(seconds):.2f} to {max(seconds):.2f})" if len(seconds) > 1 else ""
    return f"{middle:.2f} s{around}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"


def target_table(found: Sequence[Row]) -> str:
    """Each number with its target and whether it is reached, in Markdown."""
    word = {True: "yes", False: "**no**", None: "–"}
    lines = [(r.what, r.measured, r.peer, r.ratio, r.target, word[r.reached]) for r in found]
    return markdown(("what", "zitcache", "against", "ratio", "target", "reached"), lines)


def tool_table(bench: Bench, keys: Sequence[str], per_kind: Mapping[str, Mapping[str, float]]) -> str:
    """Every tool side by side, in Markdown. A number measured on a smaller cache is marked with ~."""
    lines = []
    for key in keys:
        first, back = bench.series.get(f"backup/{key}"), bench.series.get(f"restore/{key}")
        title = next((series.title for series in (first, back) if series), key)
        share = bench.stored.get(key)
        kinds = [f"{per_kind[key][kind]:.0%}" if kind in per_kind.get(key, {}) else "–" for kind in MIX_ORDER]
        cells = [f"`{title}`", *_cells(bench, "backup", key), "–" if share is None else f"{share:.1%}"]
        lines.append((*cells, *(kinds if per_kind else ()), *_cells(bench, "restore", key)))
    kinds = [f"stored, {kind}" for kind in MIX_ORDER] if per_kind else []
    head = ("tool", "first backup", "× cp", "CPU", "stored", *kinds, "restore", "× cp", "CPU")
    return markdown(head, lines)


def _cells(bench: Bench, section: str, key: str) -> tuple[str, str, str]:
    """Time, ratio to cp, CPU time."""
    series, yardstick = bench.series.get(f"{section}/{key}"), bench.series.get(f"{section}/cp")
    seconds, cpu = (series.median(), series.median_cpu()) if series else (None, None)
    if series is None or seconds is None or cpu is None:
        return ("failed" if series and series.failure else "–", "–", "–")
    mark = "~" if series.scale != 1 else ""
    cp_seconds = yardstick.median() if yardstick else None
    ratio = f"{mark}{seconds / cp_seconds:.2f}" if cp_seconds else "–"
    return f"{mark}{seconds:.2f} s", ratio, f"{mark}{cpu:.1f} s"


def markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A table in Markdown, with its columns lined up for those who read it raw."""
    names = list(head)
    body = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(row[at]) for row in [names, *body]) for at in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(names), rule, *map(line, body)])


def as_json(bench: Bench, found: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything measured, run by run, with the rows of the table."""
    return {
        "schema": "zitcache-benchmark/1",
        **facts,
        "rows": [asdict(row) for row in found],
        "stored": bench.stored,
        "series": {
            name: {
                "title": series.title,
                "scale": series.scale,
                "measured_bytes": series.measured_bytes,
                "median_seconds": series.median(),
                "stdev_seconds": _deviation(series),
                "failure": series.failure,
                "samples": [asdict(sample) for sample in series.samples],
            }
            for name, series in bench.series.items()
        },
        "checked": bench.checked,
    }


def _deviation(series: Series) -> float | None:
    seconds = [sample.seconds * series.scale for sample in series.samples]
    return statistics.stdev(seconds) if len(seconds) > 1 else None
