"""How ``generate`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.text import count, duration, printable

if TYPE_CHECKING:
    from zitcache.tasks.generate import GenerateReport
    from zitcache.ui.report import View


def render_generate(report: GenerateReport, view: View) -> list[str]:
    """Where each picture is, then the times."""
    lines = [printable(image.path) for image in report.images]
    if view.limit is None:
        lines = [
            f"{printable(image.path)}  {duration(image.seconds)}  seed {image.seed}  "
            f"{printable(image.prompt)}"
            for image in report.images
        ]
    drawing = sum(image.seconds for image in report.images)
    each = f", {duration(drawing / len(report.images))} each" if len(report.images) > 1 else ""
    sizes = sorted({image.size for image in report.images})
    settings = f"{'/'.join(map(str, sizes))} px, {count(report.steps, 'step')}, {printable(report.dtype)}"
    where = printable(report.device_name) + (
        "" if report.device == "cpu" else f" ({printable(report.device)})"
    )
    lines.append(
        view.style.good(f"Drew {count(len(report.images), 'picture')}")
        + f" with {printable(report.model)}: {settings}, on {where}."
    )
    lines.append(f"Loaded in {duration(report.seconds_load)}, drawn in {duration(drawing)}{each}.")
    return lines
