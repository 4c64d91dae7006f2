"""How ``tag`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.text import count, printable

if TYPE_CHECKING:
    from zitcache.tasks.tag import TagReport
    from zitcache.ui.report import View


def render_tag(report: TagReport, view: View) -> list[str]:
    """How many labels changed, and how each snapshot is labelled now."""
    verb = "Would change" if report.dry_run else "Changed"
    lines = [view.style.good(verb) + f" {count(report.changed, 'label')} in {printable(report.repository)}."]
    for item in report.snapshots:
        words = (["pinned"] if item.pinned else []) + [printable(tag) for tag in item.tags]
        lines.append(f"{short(item.id)}  {', '.join(words) or 'no labels'}")
    return lines
