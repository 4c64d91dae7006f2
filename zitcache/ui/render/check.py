"""How ``check`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import speed
from zitcache.ui.text import count, duration, local_time, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.check import CheckReport
    from zitcache.tasks.check.findings import DamagedBlob
    from zitcache.ui.report import View


def render_check(report: CheckReport, view: View) -> list[str]:
    """The verdict, what was read, then each damaged object and the files that need it."""
    place = printable(report.repository)
    took = f"{duration(report.seconds)}{speed(report.bytes_read, report.seconds)}"
    if report.damaged:
        lines = [
            view.style.bad(count(len(report.damaged), "damaged object")) + f" in {place}; checked in {took}."
        ]
    elif view.exit_code:
        lines = [view.style.bad("Not sound:") + f" {place}; checked in {took}."]
    else:
        # "All" only if all was read: a part of the packs says nothing of the others.
        if report.blobs_checked and report.packs_checked == report.packs:
            what = "All good"
        elif report.blobs_checked:
            what = f"What was read is sound ({report.packs_checked} of {count(report.packs, 'pack')})"
        else:
            what = "The structure is sound"
        lines = [view.style.good(what) + f": {place}; checked in {took}."]
    lines.append(
        f"{count(report.snapshots, 'snapshot')}, {count(report.packs, 'pack')}, "
        f"{count(report.blobs, 'blob')}; {report.blobs_checked:,} of them read ({size(report.bytes_read)})."
    )
    blobs = report.damaged if view.limit is None else report.damaged[: view.limit]
    for blob in blobs:
        lines += _damaged(blob, view)
    if len(blobs) < len(report.damaged):
        lines.append(view.style.dim(f"  … and {len(report.damaged) - len(blobs):,} more (-v shows all)"))
    if report.unindexed_packs:
        lines.append(
            f"{count(report.unindexed_packs, 'pack')} of unfinished backups: the next backup uses them."
        )
    if report.leftovers:
        lines.append(f"{count(report.leftovers, 'leftover file')} of interrupted writes, harmless.")
    if report.sha256_filled_in:
        lines.append(f"Recorded the SHA-256 of {count(report.sha256_filled_in, 'file')}.")
    lines += _what_next(report, view)
    return lines


def _what_next(report: CheckReport, view: View) -> list[str]:
    if report.damaged:
        return [
            "The files that need them cannot be restored whole; all others can.",
            f"Next, see whether the cache still holds them intact: {view.command('verify')}",
            f"and take from there what is missing here: {view.command('repair')}",
        ]
    if report.oldest_check is None and report.packs:
        return [f"Some data was never read back. Next: {view.command('check', '--read-data')}"]
    if report.oldest_check is not None:
        return [f"All data was read back since {local_time(report.oldest_check)}."]
    return []


def _damaged(blob: DamagedBlob, view: View) -> list[str]:
    where = f" in pack {printable(blob.pack)[:16]}" if blob.pack else ""
    tampered = " (tampered with: no failing disk brings this about)" if blob.tampered else ""
    lines = [f"{view.style.bad(printable(blob.id)[:16])}{where}: {printable(blob.problem)}{tampered}"]
    return lines + view.items([f"    needed by {printable(path)}" for path in blob.files])
