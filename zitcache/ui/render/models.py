"""How ``models`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.table import Column, table
from zitcache.ui.text import count, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.models import ModelsReport, ModelSummary
    from zitcache.ui.report import View

COLUMNS = (
    Column("Model"),
    Column("Revision"),
    Column("Layout"),
    Column("Files", right=True),
    Column("Size", right=True),
    Column("Dtypes"),
    Column("State"),
)


def render_models(report: ModelsReport, view: View) -> list[str]:
    """A table, then what is wrong with each model, then where they lie (``-v``)."""
    place = printable(report.cache)
    if not report.models:
        return [f"No models in {place}."]
    total = size(sum(model.size_bytes for model in report.models))
    broken = [model for model in report.models if not model.complete or model.problems]
    state = view.style.bad(f"{len(broken)} with problems") if broken else view.style.good("all complete")
    lines = [f"{count(len(report.models), 'model')}, {total}, in {place}: {state}."]
    lines += table(COLUMNS, map(_row, report.models), view.style)
    for model in broken:
        lines.append(view.style.bad(f"{_name(model)}:"))
        lines += view.items(
            [f"  {printable(problem)}" for problem in model.problems or ["files are missing"]]
        )
    if broken:
        lines.append(f"Next: {view.command('verify')}")
    if view.limit is None:
        lines += [f"{_name(model)} lies in {printable(model.path)}" for model in report.models]
    return lines


def _name(model: ModelSummary) -> str:
    return printable(f"{model.id}@{model.revision}")


def _row(model: ModelSummary) -> list[str]:
    # Shares of the weights, the largest first: "F32 75 %, BF16 25 %".
    weights = sum(model.dtypes.values())
    ordered = sorted(model.dtypes.items(), key=lambda item: -item[1])
    dtypes = ", ".join(
        f"{printable(name)} {100 * number / weights:.0f} %" for name, number in ordered if weights
    )
    revision = printable(model.revision)
    return [
        printable(model.id),
        revision[:12],
        printable(model.layout),
        f"{model.files:,}",
        size(model.size_bytes),
        dtypes,
        "complete" if model.complete and not model.problems else "see below",
    ]
