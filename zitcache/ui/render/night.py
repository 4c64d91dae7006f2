"""How ``night`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.text import duration, printable

if TYPE_CHECKING:
    from zitcache.tasks.night import NightReport
    from zitcache.ui.report import View


def render_night(report: NightReport, view: View) -> list[str]:
    """One line for each step that ran; what did not run only with ``-v`` or in a dry run."""
    if report.none_missed:
        return ["No night was missed."]
    if not report.steps:
        return [view.style.good("Told.") if report.told else view.style.bad("Not everybody could be told.")]
    lines = []
    for step in report.steps:
        name = f"{printable(step.name):<7}"
        if step.skipped is not None:
            if report.dry_run or view.limit is None:
                lines.append(view.style.dim(f"  -    {name} {printable(step.skipped)}"))
            continue
        if report.dry_run:
            lines.append(f"  due  {name}")
            continue
        mark = view.style.good("ok  ") if step.exit_code == 0 else view.style.bad(f"{step.exit_code:<4}")
        lines.append(f"  {mark} {name} {printable(step.message)} ({duration(step.seconds)})")
    if report.dry_run:
        return ["This night would do, in this order:", *lines]
    failed = [printable(step.name) for step in report.steps if step.exit_code]
    head = view.style.bad(f"Failed: {', '.join(failed)}.") if failed else view.style.good("A good night.")
    lines.append(f"{head} It took {duration(report.seconds)}.")
    if not report.told:
        lines.append(view.style.caution("Not everybody could be told; see the warnings."))
    return lines
