"""How ``env`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.table import Column, table
from zitcache.ui.text import count, printable

if TYPE_CHECKING:
    from zitcache.tasks.environment import EnvReport, FileChange, OwnCache, VariableState
    from zitcache.ui.report import View

COLUMNS = (Column("Variable"), Column("Value"), Column("Set by"), Column("In use"))


def render_env(report: EnvReport, view: View) -> list[str]:
    """The variables alone with ``--format``; else what is set, what should be, what was changed."""
    if report.text is not None:
        return report.text.split("\n")
    if report.action == "remove":
        return _removed(report, view)
    lines = _own(report.own, view) if report.own is not None else []
    if report.action == "write":
        return lines + _written(report, view)
    return lines + _survey(report.variables, view) + _selection(report, view)


def _survey(variables: list[VariableState], view: View) -> list[str]:
    if not variables:
        return ["No variable that concerns a model cache is set: the SDKs use their defaults below ~/.cache."]
    lines = table(COLUMNS, map(_row, variables), view.style)
    lines += [
        view.style.caution(f"{printable(state.name)} ({printable(state.origin)}):")
        + f" {printable(state.warning)}"
        for state in variables
        if state.warning
    ]
    return lines


def _row(state: VariableState) -> list[str]:
    return [
        printable(state.name),
        printable(state.value) or "(empty)",
        printable(state.origin),
        "yes" if state.effective else "no",
    ]


def _selection(report: EnvReport, view: View) -> list[str]:
    if report.cache is None:
        return []
    lines = [f"For the cache {printable(report.cache)}:"]
    lines += _assignments(report)
    right = {state.name: state.value for state in report.variables if state.effective}
    if any(right.get(name) != value for name, value in report.selected.items()):
        lines.append(f"Set them everywhere: {view.command('env', *_choice(report), '--write')}")
    elif report.installed == report.selected:
        lines.append(view.style.good("Set, here and in the files for new shells, cron and services."))
    else:
        lines.append(
            f"{view.style.good('Set here.')} "
            f"For new shells, cron and services: {view.command('env', *_choice(report), '--write')}"
        )
    return lines


def _choice(report: EnvReport) -> list[str]:
    words = [] if report.model is None else ["--model", report.model]
    return words if report.own is None else [*words, "--own", report.own.path]


def _assignments(report: EnvReport) -> list[str]:
    chosen = dict(report.selected)
    if report.model_path is not None:
        chosen["ZITCACHE_MODEL_PATH"] = report.model_path
    return [f"  {printable(name)}={printable(value)}" for name, value in sorted(chosen.items())]


def _written(report: EnvReport, view: View) -> list[str]:
    if report.dry_run:
        return _dry_run(report, view)
    if not report.written:
        state = (
            "Nothing was changed." if report.changes else "Everything is set already; nothing was changed."
        )
        return [state, *_assignments(report)]
    lines = [f"{view.style.good('Set')} for the cache {printable(report.cache or '')}:"]
    lines += _assignments(report)
    return [*lines, "Written:", *(f"  {printable(path)}" for path in report.written)]


def _removed(report: EnvReport, view: View) -> list[str]:
    if report.dry_run:
        return _dry_run(report, view)
    if not report.written:
        return ["Nothing was changed." if report.changes else "Nothing of zitcache is set in any file."]
    return [f"{view.style.good('Removed')} from:", *(f"  {printable(path)}" for path in report.written)]


def _dry_run(report: EnvReport, view: View) -> list[str]:
    if not report.changes:
        return ["Nothing would change."]
    lines = [f"{count(len(report.changes), 'file')} would change:"]
    for change in report.changes:
        lines += _change(change, view)
    return lines


def _change(change: FileChange, view: View) -> list[str]:
    lines = [f"{printable(change.path)} ({change.action})"]
    lines += [view.style.bad(f"  - {printable(line)}") for line in change.removed]
    lines += [view.style.good(f"  + {printable(line)}") for line in change.added]
    return lines


def _own(own: OwnCache, view: View) -> list[str]:
    models = ", ".join(map(printable, own.models)) or "no model"
    made = own.links + own.copies
    lines = [
        f"{view.style.good('Shared')} {models} of {printable(own.shared)} with {printable(own.path)}: "
        f"{count(made, 'name')} made, {own.kept:,} right already, {own.removed:,} removed."
    ]
    if own.skipped:
        lines.append(view.style.caution("Left as they are, because you changed or made them:"))
        lines += view.items([f"  {printable(name)}" for name in own.skipped])
    return lines
