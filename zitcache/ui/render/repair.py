"""How ``repair`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import bullets, short
from zitcache.ui.text import count, duration, local_time, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.repair import RepairReport
    from zitcache.ui.report import View


def render_repair(report: RepairReport, view: View) -> list[str]:
    """The verdict, what was mended, what is lost."""
    place, took = printable(report.repository), duration(report.seconds)
    mended = _mended(report)
    if report.snapshots_damaged:
        broken = count(len(report.snapshots_damaged), "snapshot")
        first = view.style.bad("Not all could be mended:") + f" {broken} of {place} lack files; {took}."
    elif report.dry_run and mended:
        first = f"Would mend {place}; looked through in {took}."
    elif mended:
        first = view.style.good("Mended") + f" {place} in {took}: every snapshot is whole."
    elif view.exit_code:
        first = view.style.bad("Not all could be read") + f" in {place}; {took}."
    else:
        first = view.style.good("Nothing to mend") + f" in {place}; looked through in {took}."
    lines = [first, *mended]
    aside = [
        f"{item.name}: {item.problem}" + ("" if item.place else " It cannot be read, so it was left there.")
        for item in report.set_aside
    ]
    title = "Would set aside (kept below quarantine/):" if report.dry_run else "Set aside, below quarantine/:"
    lines += bullets(title, aside, view)
    for snapshot in report.snapshots_damaged:
        lines += bullets(
            f"Lost from snapshot {short(snapshot.id)} of {local_time(snapshot.time)}:", snapshot.files, view
        )
    return [*lines, *_what_next(report, view)]


def _mended(report: RepairReport) -> list[str]:
    lines = []
    if report.config_rebuilt:
        lines.append("The config was lost; a new one is made from what is stored.")
    if report.packs_indexed:
        lines.append(f"{count(report.packs_indexed, 'pack')} in no index object before.")
    if report.packs_broken:
        lines.append(
            f"{count(report.packs_broken, 'broken pack')}: {size(report.bytes_salvaged)} could be taken out."
        )
    if report.blobs_lost:
        lines.append(
            f"{count(report.blobs_lost, 'blob')} had no sound copy; {report.blobs_healed:,} of them "
            f"({size(report.bytes_healed)}) were found in the cache."
        )
    if report.snapshots_healed:
        lines.append(f"{count(len(report.snapshots_healed), 'snapshot')} whole again.")
    return lines


def _what_next(report: RepairReport, view: View) -> list[str]:
    if report.dry_run:
        return [f"Next: {view.command('repair')}"] if _mended(report) or report.set_aside else []
    if report.snapshots_damaged:
        return ["All other files of these snapshots can be restored; `restore` takes a whole one first."]
    if report.packs_broken or report.copies_damaged:
        return [f"Next, to get rid of what is broken: {view.command('prune')}"]
    return []
