"""How ``migrate`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import speed
from zitcache.ui.style import Style
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.migrate import MigratePlan, MigrateReport
    from zitcache.ui.report import View

GO_ON_QUESTION = "Go on?"
DELETE_QUESTION = "The cache is safe in its new place. Delete the old copy {}?"

_METHODS = {"copy": "copied", "reflink": "sharing its blocks", "rename": "renamed"}


def render_plan(plan: MigratePlan, style: Style) -> list[str]:
    """What is about to be done, for the person who is asked."""
    verb = "Move back" if plan.action == "undone" else "Move"
    source, target = printable(plan.source), printable(plan.target)
    ends = f"{target} to {source}" if plan.action == "undone" else f"{source} to {target}"
    left = f", {size(plan.bytes_left)} of it still to copy" if 0 < plan.bytes_left < plan.bytes else ""
    lines = [style.strong(f"{verb} {size(plan.bytes)} ({count(plan.files, 'file')}){left}:") + f" {ends}"]
    return lines + [f"  {printable(step.name):<18} {printable(step.does)}" for step in plan.steps]


def render_migrate(report: MigrateReport, view: View) -> list[str]:
    """What is where now, and what is left to do."""
    source, target = printable(report.source), printable(report.target)
    amount, files = size(report.bytes), count(report.files, "file")
    took = duration(report.seconds)
    if report.dry_run:
        lines = [f"Would move {amount} ({files}) from {source} to {target}. Nothing was changed."]
        if report.action == "undone":
            lines = [f"Would move {amount} ({files}) from {target} back to {source}. Nothing was changed."]
        elif report.action != "migrated":
            lines = [f"Would do: {printable(report.action)}: {source} to {target}. Nothing was changed."]
        return lines + [f"  {printable(step.name):<18} {printable(step.does)}" for step in report.steps]
    if report.action == "undone":
        lines = [view.style.good("Moved back") + f" {amount} ({files}) in {took}: it lies at {source} again."]
        if report.old_copy:
            kept = printable(report.old_copy)
            lines.append(f"The copy in {kept} is kept. Delete it with: rm -r {_shell_word(report.old_copy)}")
        return lines
    if report.action == "nothing to do":
        lines = [view.style.good("Nothing to do:") + f" the cache of {source} lies at {target}, {amount}."]
    elif report.action == "relinked":
        lines = [view.style.good("Relinked") + f" {source} to {target}, {amount}, in {took}."]
    elif report.action == "source deleted":
        lines = [
            view.style.good("Deleted") + f" the old copy; the cache of {source} lies at {target}, {amount}."
        ]
    else:
        rate = speed(report.bytes - report.bytes_resumed, report.seconds) if report.method == "copy" else ""
        how = _METHODS.get(report.method, printable(report.method))
        lines = [
            view.style.good("Moved") + f" {amount} ({files}, {how}) in {took}{rate}: {source} to {target}."
        ]
    return lines + _details(report, view)


def _details(report: MigrateReport, view: View) -> list[str]:
    lines = []
    if report.files_verified:
        lines.append(f"Read back from the disk and compared: {count(report.files_verified, 'file')}.")
    if report.method == "reflink" and report.action == "migrated":
        lines.append("The copy shares its blocks with the old one: on the same disk it is no second copy.")
    state = "is a link to it: nothing else changes" if report.linked else "is no link to it"
    lines.append(f"{printable(report.source)} {state}.")
    if report.environment_files:
        names = ", ".join(map(printable, report.environment_files))
        lines.append(f"The environment is set in {names}.")
    if report.kit:
        lines.append(view.style.strong("After a reset:") + f" sh {_shell_word(report.kit)}/recover.sh")
    if report.old_copy and not report.source_deleted:
        place = printable(report.old_copy)
        lines.append(
            f"The old copy is kept: {place}. Delete it: "
            + view.command("migrate", report.target, "--delete-source")
        )
    return lines


def _shell_word(path: str) -> str:
    from shlex import quote

    return printable(quote(path))
