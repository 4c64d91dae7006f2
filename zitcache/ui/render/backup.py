"""How ``backup`` is shown."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from zitcache.ui.render.common import bullets, short, speed
from zitcache.ui.render.proof import render_proofs
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.backup import BackupReport
    from zitcache.ui.report import View


def render_backup(report: BackupReport, view: View) -> list[str]:
    """What is safe now, how long it took, and what is not."""
    lines = [_headline(report, view)]
    counts = f"{count(report.files, 'file')}, {report.files_unchanged:,} unchanged"
    if not report.dry_run:
        counts += f", {size(report.bytes_read)} read{speed(report.bytes_read, report.seconds)}"
    lines.append(f"{counts}; from {printable(report.cache)}")
    lines += [f"  {printable(model)}" for model in report.models]
    if report.suspect or report.damaged:
        lines.append(view.style.bad("Damage:") + " content changed while size and time did not.")
        lines += bullets("Damaged:", report.damaged, view)
        if report.suspect:
            lines.append("This snapshot is marked suspect; the last good one stays what restore brings back.")
        lines.append(f"Next: {view.command('verify', '--repair')}")
    if report.left_out:
        lines += bullets(
            view.style.caution(f"Left out: {count(len(report.left_out), 'file')}"), report.left_out, view
        )
    if report.kit in {"made", "updated"}:
        script = f"{report.repository.rstrip('/')}/kit/recover.sh"
        lines.append(view.style.strong("After a reset:") + f" sh {printable(quote(script))}")
    return lines + render_proofs(report.proofs, view)


def _headline(report: BackupReport, view: View) -> str:
    place, total = printable(report.repository), size(report.size_bytes)
    if report.dry_run:
        return f"Would back up {total} into {place}. Nothing was written."
    if report.snapshot_id is None:
        return view.style.caution("No snapshot was written") + f" into {place}."
    done = view.style.bad("Backed up") if report.suspect else view.style.good("Backed up")
    new = f"{size(report.bytes_new_stored)} new" if report.bytes_new_stored else "nothing new"
    snapshot = f"snapshot {short(report.snapshot_id)} ({new})"
    return f"{done} {total} in {duration(report.seconds)}: {snapshot} in {place}."
