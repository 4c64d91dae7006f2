"""Numbers for Prometheus, through the textfile collector of the node exporter.

Source: https://github.com/prometheus/docs/blob/main/content/docs/instrumenting/exposition_formats.md and the
node exporter's README (the file must appear whole: it is renamed into place).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.machine.files import write_durably

PREFIX = "zitcache_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number. ``name`` without :data:`PREFIX` and in base units (seconds, bytes), as Prometheus asks."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    kind: str = "gauge"


def exposition(metrics: Iterable[Metric]) -> str:
    """The text of a ``.prom`` file. Metrics of one name stand together, as the format demands."""
    grouped: dict[str, list[Metric]] = {}
    for metric in metrics:
        grouped.setdefault(metric.name, []).append(metric)
    lines: list[str] = []
    for name, same in grouped.items():
        lines.append(f"# HELP {PREFIX}{name} {_escape(same[0].help, quotes=False)}")
        lines.append(f"# TYPE {PREFIX}{name} {same[0].kind}")
        for metric in same:
            labels = ",".join(f'{key}="{_escape(value)}"' for key, value in sorted(metric.labels.items()))
            lines.append(f"{PREFIX}{name}{'{' + labels + '}' if labels else ''} {_number(metric.value)}")
    return "\n".join(lines) + "\n"


def write_metrics(path: Path, metrics: Iterable[Metric]) -> None:
    """Replace the file ``path`` in one step, readable by any exporter. Raises ``OSError``."""
    write_durably(path, exposition(metrics).encode(), mode=0o644)


def _escape(text: str, *, quotes: bool = True) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
