"""How ``init`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.text import printable

if TYPE_CHECKING:
    from zitcache.tasks.snapshots import InitReport
    from zitcache.ui.report import View


def render_init(report: InitReport, view: View) -> list[str]:
    """The new repository and the next step."""
    place = printable(report.repository)
    return [
        view.style.good("Created")
        + f" repository {printable(report.id)[:8]} (format {report.version}) in {place}.",
        f"Next: export ZITCACHE_REPO={_quoted(report.repository)}; zitcache backup",
    ]


def _quoted(text: str) -> str:
    from shlex import quote

    return printable(quote(text))
