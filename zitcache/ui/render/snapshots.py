"""How ``snapshots`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.table import Column, table
from zitcache.ui.text import count, local_time, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.snapshots import SnapshotsReport, SnapshotSummary
    from zitcache.ui.report import View

COLUMNS = (
    Column("ID"),
    Column("Time"),
    Column("Host"),
    Column("Files", right=True),
    Column("Size", right=True),
    Column("New", right=True),
    Column("Tags"),
    Column("Note"),
    Column("Models"),
    Column("Cache"),
)


def render_snapshots(report: SnapshotsReport, view: View) -> list[str]:
    """A table, oldest first; the cache is shown when not all snapshots are of the same one."""
    place = printable(report.repository)
    if not report.snapshots:
        return [f"No snapshots yet in {place}.", f"Next: {view.command('backup')}"]
    caches = {item.cache for item in report.snapshots}
    show_cache = len(caches) > 1 or view.limit is None
    lines = [f"{count(len(report.snapshots), 'snapshot')} in {place}, the newest {_newest(report)}:"]
    lines += table(COLUMNS, (_row(item, show_cache) for item in report.snapshots), view.style)
    if any(item.lost for item in report.snapshots):
        lines.append(view.style.caution("lost") + ": the repository has lost parts of these files.")
    if any(item.suspect and not item.lost for item in report.snapshots):
        lines.append(view.style.caution("suspect") + ": files had changed although size and time had not.")
    return lines


def _newest(report: SnapshotsReport) -> str:
    return local_time(report.snapshots[-1].time)


def _note(item: SnapshotSummary) -> str:
    notes = ["suspect"] if item.suspect else []
    if item.left_out:
        notes.append(f"{len(item.left_out):,} left out")
    if item.lost:
        notes.append(f"{len(item.lost):,} lost")
    if item.pinned:
        notes.append("pinned")
    return ", ".join(notes)


def _row(item: SnapshotSummary, show_cache: bool) -> list[str]:
    return [
        short(item.id),
        local_time(item.time),
        printable(item.host),
        f"{item.files:,}",
        size(item.size_bytes),
        size(item.bytes_new_stored),
        printable(", ".join(item.tags)),
        _note(item),
        printable(", ".join(item.models)),
        printable(item.cache) if show_cache else "",
    ]
