"""How ``config`` is shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from zitcache.ui.text import printable

if TYPE_CHECKING:
    from zitcache.tasks.config import ConfigInitReport, ConfigReport, ConfigValidation
    from zitcache.ui.report import View

_NO_FILE = "# There is no configuration file; these are the defaults."


def render_config(report: ConfigReport, view: View, *, origin: bool) -> list[str]:
    """``name = value``, with what set it if that was asked for; defaults dimmed."""
    lines = [view.style.dim(f"# {printable(report.path)}" if report.path else _NO_FILE)]
    for setting in report.settings:
        value = "" if setting.value is None else json.dumps(setting.value, ensure_ascii=False)
        line = printable(f"{setting.name} = {value}".rstrip())
        if origin:
            source = f" ({setting.source})" if setting.source else ""
            line += view.style.dim(printable(f"    # {setting.origin}{source}"))
        lines.append(view.style.dim(line) if setting.origin == "default" else line)
    return lines


def render_validation(report: ConfigValidation, view: View) -> list[str]:
    """What is wrong, a line each."""
    if report.path is None:
        return ["There is no configuration file, which is fine.", f"Next: {view.command('config', 'init')}"]
    if report.problems:
        return [view.style.bad(printable(problem)) for problem in report.problems]
    return [view.style.good("Fine:") + f" {printable(report.path)}"]


def render_config_init(report: ConfigInitReport, view: View) -> list[str]:
    """Where the file is and what was found; all of it in a dry run."""
    if report.dry_run:
        return [f"Would write {printable(report.path)}:", *map(printable, report.text.splitlines())]
    return [
        view.style.good("Written:") + f" {printable(report.path)}",
        f"Cache: {printable(report.cache or 'none was found')}",
        f"Repository: {printable(report.repo or 'no data disk is mounted')}",
        f"Next: {_after_init(report, view)}",
    ]


def _after_init(report: ConfigInitReport, view: View) -> str:
    if report.repo is None:
        return "mount a data disk or name a bucket, and set repo in the file"
    if not report.repo_exists:
        return f"{view.command('backup', '--init')} (makes the repository)"
    return view.command("schedule", "install")
