"""How ``restore`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import bullets, short, speed
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.restore import RestoreReport
    from zitcache.ui.report import View


def render_restore(report: RestoreReport, view: View) -> list[str]:
    """What is back, where, and which files are not."""
    target, snapshot = printable(report.target), short(report.snapshot_id)
    written = size(report.bytes_written)
    if report.action == "nothing to do":
        state = "is already" if not report.failed else "is, but for the files below,"
        lines = [view.style.good("Nothing to do:") + f" {target} {state} as in snapshot {snapshot}."]
    elif report.dry_run:
        lines = [f"Would restore {written} from snapshot {snapshot} to {target}. Nothing was written."]
    elif report.action == "relinked":
        lines = [
            view.style.good("Relinked") + f" {target} in {duration(report.seconds)}: snapshot {snapshot}."
        ]
    else:
        done = view.style.bad("Restored in part:") if report.failed else view.style.good("Restored")
        took = f"{duration(report.seconds)}{speed(report.bytes_written, report.seconds)}"
        lines = [f"{done} {written} in {took}: snapshot {snapshot} to {target}."]
    kept = f", {report.files_kept:,} were good already" if report.files_kept else ""
    lines.append(f"{count(report.files, 'file')} {'to bring' if report.dry_run else 'brought'} back{kept}.")
    if report.failed:
        title = view.style.bad(f"{count(len(report.failed), 'file')} could not be restored:")
        lines += bullets(title, report.failed, view)
        lines.append(f"Next: {view.command('check', '--read-data')}")
    return lines
