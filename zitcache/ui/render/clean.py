"""How ``clean`` is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zitcache.ui.table import Column, table
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.clean import CleanItem, CleanReport
    from zitcache.ui.report import View

COLUMNS = (Column("Size", right=True), Column("Age", right=True), Column("Kind"), Column("Path"))
_DAY = 86400


def render_clean(report: CleanReport, view: View) -> list[str]:
    """What can go or went, the largest first; then what stays and why; then the command that does it."""
    going = [item for item in report.items if item.removed or (report.dry_run and item.kept_because is None)]
    staying = [item for item in report.items if item.kept_because is not None]
    lines = [_headline(report, going, staying, view)]
    lines += view.items(_table(going, view))
    for kind, reason in dict.fromkeys((item.kind, item.reason) for item in going):
        lines.append(view.style.dim(f"{printable(kind)}: {printable(reason)}"))
    if staying:
        lines.append("Left alone:")
        lines += view.items([line for item in _by_size(staying) for line in _stays(item)])
    if report.dry_run and going:
        lines.append(f"Nothing was removed. To remove this: {view.command('clean', '--delete')}")
    return lines


def _headline(
    report: CleanReport, going: Sequence[CleanItem], staying: Sequence[CleanItem], view: View
) -> str:
    if not report.dry_run and (going or report.bytes_freed):
        return (
            view.style.good(f"{size(report.bytes_freed)} freed") + f": {count(len(going), 'item')} removed."
        )
    if going:
        return view.style.good(f"{size(report.bytes_removable)} can go") + f" in {count(len(going), 'item')}:"
    if staying:
        return f"Nothing to remove: {count(len(staying), 'leftover')} found, all left alone."
    return view.style.good("Nothing to clean.")


def _table(items: Sequence[CleanItem], view: View) -> list[str]:
    rows = [[size(i.size_bytes), _age(i.age_seconds), printable(i.kind), _place(i)] for i in _by_size(items)]
    return table(COLUMNS, rows, view.style)


def _stays(item: CleanItem) -> list[str]:
    return [
        f"  {size(item.size_bytes)}  {printable(item.kind)}  {_place(item)}",
        f"      {printable(item.kept_because or '')}",
    ]


def _place(item: CleanItem) -> str:
    more = f" ({count(item.files, 'file')})" if item.files > 1 else ""
    return printable(item.path) + more


def _by_size(items: Sequence[CleanItem]) -> list[CleanItem]:
    return sorted(items, key=lambda item: -item.size_bytes)


def _age(seconds: float) -> str:
    return f"{seconds / _DAY:.0f} d" if seconds >= 2 * _DAY else duration(seconds)
