"""How ``restore`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import bullets, short, speed
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.restore import RestoreReport
    from zitcache.tasks.restore.relink import LinkReport
    from zitcache.ui.report import View


def render_restore(report: RestoreReport, view: View) -> list[str]:
    """What is back, where, and which files are not."""
    lines = _from_snapshot(report, view) if report.snapshot_id else _relinked(report, view)
    lines += _surroundings(report, view)
    if report.failed:
        title = view.style.bad(f"{count(len(report.failed), 'file')} could not be restored:")
        lines += bullets(title, report.failed, view)
        lines.append(f"Next: {view.command('check', '--read-data')}")
    elif report.candidates and not report.dry_run:
        lines.append("Next, prove that the models load and draw: zitcache verify --generate")
    return lines


def _from_snapshot(report: RestoreReport, view: View) -> list[str]:
    target, snapshot = printable(report.target), short(report.snapshot_id)
    written = size(report.bytes_written)
    if report.action == "relinked":
        lines = [
            view.style.good("Relinked") + f" {target} in {duration(report.seconds)}: snapshot {snapshot}."
        ]
    elif report.action == "nothing to do":
        state = "is already" if not report.failed else "is, but for the files below,"
        lines = [view.style.good("Nothing to do:") + f" {target} {state} as in snapshot {snapshot}."]
    elif report.dry_run:
        lines = [f"Would restore {written} from snapshot {snapshot} to {target}. Nothing was written."]
    else:
        done = view.style.bad("Restored in part:") if report.failed else view.style.good("Restored")
        took = f"{duration(report.seconds)}{speed(report.bytes_written, report.seconds)}"
        lines = [f"{done} {written} in {took}: snapshot {snapshot} to {target}."]
    kept = f", {report.files_kept:,} were good already" if report.files_kept else ""
    lines.append(f"{count(report.files, 'file')} {'to bring' if report.dry_run else 'brought'} back{kept}.")
    return lines


def _relinked(report: RestoreReport, view: View) -> list[str]:
    """A migrated cache: nothing was copied, because nothing was lost."""
    place = printable(report.target)
    if report.action == "nothing to do":
        headline = view.style.good("Nothing to do:") + f" {place} is in use, and its models are complete."
    elif report.dry_run:
        headline = f"Would bring back the migrated cache in {place}, where it lies. Nothing was written."
    else:
        done = view.style.good("Your models are back")
        headline = f"{done}, in {duration(report.seconds)}: they lie in {place}, untouched by the reset."
    return [headline, *view.items([f"  {printable(model)}" for model in report.models])]


def _surroundings(report: RestoreReport, view: View) -> list[str]:
    """What else was put back, a line each."""
    lines = [_link(link, report.dry_run) for link in report.links]
    if report.environment_files:
        names = ", ".join(sorted(report.variables))
        lines += bullets(f"{printable(names)} set in:", report.environment_files, view)
    if report.config is not None:
        lines.append(f"Configuration: {printable(report.config)}")
    if report.launcher is not None:
        lines.append(f"The command zitcache: {printable(report.launcher)}")
    if report.schedule:
        lines += bullets("Scheduled again:", report.schedule, view)
    return lines


def _link(link: LinkReport, dry_run: bool) -> str:
    path, place = printable(link.path), printable(link.place)
    if link.state == "right":
        return f"Link: {path} leads to {place} already."
    if link.state == "made":
        return f"Link: {path} {'would lead' if dry_run else 'leads'} to {place}{'' if dry_run else ' again'}."
    return f"No link: {path} stays as it is ({printable(link.reason or link.state)})."
