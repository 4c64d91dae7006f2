"""How ``sample`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.text import count, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.sample import SampleReport
    from zitcache.ui.report import View


def render_sample(report: SampleReport, view: View) -> list[str]:
    """Where it lies and what to try on it."""
    made = f"{printable(report.model)}, {count(report.files, 'file')}, {size(report.size_bytes)}"
    return [
        view.style.good("Made")
        + f" {made}, in layout {printable(report.layout)}: {printable(report.cache)}.",
        f"Load it with from_pretrained({printable(report.model_path)!r}).",
        f"Next: {view.command('models', '--cache', report.cache)}",
    ]
