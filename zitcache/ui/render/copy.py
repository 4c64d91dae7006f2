"""How ``copy`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import short, speed
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.copy import CopyReport
    from zitcache.ui.report import View


def render_copy(report: CopyReport, view: View) -> list[str]:
    """What is at the other place now, and what is not."""
    lines = [_headline(report, view)]
    if report.snapshots_copied:
        blobs = f"{count(report.blobs_copied, 'blob')}, {size(report.bytes_copied)}"
        if not report.dry_run:
            blobs += speed(report.bytes_copied, report.seconds)
        lines.append(f"{blobs}; from {printable(report.source)}")
        lines += view.items([f"  {short(snapshot)}" for snapshot in report.snapshots_copied])
    if report.snapshots_skipped:
        lines.append(f"{count(report.snapshots_skipped, 'snapshot')} there already or left out.")
    if report.snapshots_failed:
        title = f"{count(len(report.snapshots_failed), 'snapshot')} could not be copied:"
        lines.append(view.style.bad(title))
        lines += view.items(
            [f"  {short(failed.id)}: {printable(failed.reason)}" for failed in report.snapshots_failed]
        )
        lines.append(f"Next: zitcache check --read-data --repo {printable(report.source)}")
    return lines


def _headline(report: CopyReport, view: View) -> str:
    place = printable(report.to)
    copied = count(len(report.snapshots_copied), "snapshot")
    if report.dry_run:
        return f"Would copy {copied} to {place}. Nothing was written."
    if not report.snapshots_copied:
        if report.snapshots_failed:
            return view.style.bad("Nothing was copied") + f" to {place}."
        return view.style.good("Nothing to copy:") + f" {place} has every snapshot."
    done = view.style.bad("Copied in part:") if report.snapshots_failed else view.style.good("Copied")
    return f"{done} {copied} in {duration(report.seconds)} to {place}."
