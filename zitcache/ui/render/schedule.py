"""How ``schedule`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.text import local_time, printable

if TYPE_CHECKING:
    from zitcache.tasks.schedule import ScheduleReport
    from zitcache.ui.report import View


def render_schedule(report: ScheduleReport, view: View) -> list[str]:
    """Whether nights come by themselves, what says so, and what was changed."""
    lines = [f"  {printable(entry)}" for entry in report.changed]
    if report.dry_run:
        return ["Nothing was changed.", *lines, *_texts(report, view)]
    name = printable(report.backend or "")
    if report.armed:
        when = f", next on {local_time(report.next_run)}" if report.next_run else ""
        lines.append(view.style.good("Armed:") + f" {name}, at {printable(report.at or '?')}{when}.")
    else:
        lines.append(view.style.bad(printable(report.problem or "Nothing is scheduled.")))
        here = ", ".join(map(printable, report.runs_here)) or "neither systemd nor cron"
        lines.append(f"What runs here: {here}.")
        if report.backend is None:
            lines.append(f"Next: {view.command('schedule', 'install')}")
    lines += [view.style.dim(f"  {printable(entry)}") for entry in report.entries]
    if report.backend == "daemon" and report.armed:
        lines += _until_when(report, view)
    if report.last_run:
        lines.append(f"Last run: {local_time(report.last_run)}, exit code {report.last_exit_code}.")
    return lines


def _texts(report: ScheduleReport, view: View) -> list[str]:
    """What the files would hold, with ``-v``."""
    if view.limit is not None:
        return [view.style.dim("  (-v shows what they would hold)")] if report.texts else []
    lines = []
    for path, text in report.texts.items():
        lines += ["", printable(path) + ":", *(f"  {printable(line)}" for line in text.splitlines())]
    return lines


def _until_when(report: ScheduleReport, view: View) -> list[str]:
    """Our own scheduler is a process like any other: say so before somebody counts on it."""
    command = printable(report.daemon_command or view.command("schedule", "run"))
    return [
        view.style.caution("It runs until this machine or container stops; nothing here starts it again."),
        f"  After a restart: {view.command('schedule', 'install')} (a night that was missed is made up for)",
        f"  Or put this into the start command of the container: {command}",
    ]
