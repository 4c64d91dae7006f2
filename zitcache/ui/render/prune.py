"""How ``prune`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.text import count, duration, local_time, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.prune import PruneReport
    from zitcache.ui.report import View


def render_prune(report: PruneReport, view: View) -> list[str]:
    """What was freed, what waits and until when, and what is kept."""
    place = printable(report.repository)
    freed = f"{size(report.bytes_freed)} ({count(report.packs_deleted, 'pack')})"
    if report.dry_run:
        lines = [f"Would free {freed} in {place}."]
    elif report.packs_deleted:
        lines = [view.style.good("Freed") + f" {freed} in {place}; {duration(report.seconds)}."]
    else:
        lines = [
            view.style.good("Nothing to delete yet")
            + f" in {place}; looked through in {duration(report.seconds)}."
        ]
    lines += prune_details(report)
    return lines


def prune_details(report: PruneReport) -> list[str]:
    """The lines below the verdict."""
    lines = []
    if report.packs_repacked:
        word = "Would copy" if report.dry_run else "Copied"
        lines.append(
            f"{word} {size(report.bytes_repacked)} out of {count(report.packs_repacked, 'pack')} that are "
            "mostly unused or small."
        )
    if report.packs_waiting:
        when = f", to be deleted from {local_time(report.next_sweep)} on" if report.next_sweep else ""
        lines.append(f"{size(report.bytes_waiting)} in {count(report.packs_waiting, 'pack')} marked{when}.")
    if report.packs_revived:
        lines.append(f"{count(report.packs_revived, 'marked pack')} needed again: kept.")
    if report.snapshots_held:
        lines.append(f"{count(report.snapshots_held, 'forgotten snapshot')} can still be had back.")
    if report.snapshots_gone:
        word = "would go" if report.dry_run else "went"
        lines.append(f"{count(len(report.snapshots_gone), 'forgotten snapshot')} {word} for good.")
    if report.packs_unreadable:
        lines.append(f"{count(report.packs_unreadable, 'pack')} cannot be read: left alone.")
    if report.reserve_used:
        lines.append("The disk was full: the reserve was given up to work at all.")
    need = "needs" if report.snapshots == 1 else "need"
    lines.append(
        f"{count(report.snapshots, 'snapshot')} {need} {size(report.bytes_used)} of "
        f"{size(report.bytes_total)}."
    )
    return lines
