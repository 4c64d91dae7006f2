"""How ``history`` and ``log`` are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.table import Column, table
from zitcache.ui.text import duration, local_time, printable

if TYPE_CHECKING:
    from zitcache.tasks.history import HistoryReport, RunSummary
    from zitcache.ui.report import View


def render_history(report: HistoryReport, view: View) -> list[str]:
    """One line for each run."""
    if not report.runs:
        return ["No run is recorded yet.", f"Next: {view.command('night')}"]
    rows = []
    for run in report.runs:
        failed = [step for step in run.steps if step.exit_code]
        said = f"{failed[0].name}: {failed[0].message}" if failed else ", ".join(s.name for s in run.steps)
        rows.append(
            [
                short(run.id),
                local_time(run.started),
                duration(run.seconds),
                str(run.exit_code),
                printable(run.host),
                printable(said) + (" (not in the repository yet)" if run.pending else ""),
            ]
        )
    columns = [
        Column("Id"),
        Column("Started"),
        Column("Took", right=True),
        Column("Exit", right=True),
        Column("Host"),
        Column("What"),
    ]
    return table(columns, rows, view.style)


def render_log(run: RunSummary, view: View) -> list[str]:
    """The head, then the log as it was written."""
    state = (
        view.style.good("exit code 0") if run.exit_code == 0 else view.style.bad(f"exit code {run.exit_code}")
    )
    head = f"{printable(run.command)} {short(run.id)} on {printable(run.host)}, {local_time(run.started)}, "
    return [f"{head}{duration(run.seconds)}, {state}", *(printable(line) for line in run.log.splitlines())]
