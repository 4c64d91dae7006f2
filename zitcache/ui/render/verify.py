"""How ``verify`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.render.common import bullets, speed
from zitcache.ui.render.proof import render_proofs
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.verify import DamagedFile, VerifyReport
    from zitcache.ui.report import View

RANGES_SHOWN = 4


def render_verify(report: VerifyReport, view: View) -> list[str]:
    """The verdict, then each damaged file with kind and byte ranges, then what to do."""
    broken = [file for file in report.damaged if not file.repaired]
    lines = [_headline(report, len(broken), view)]
    if report.sources:
        lines.append("Compared with: " + "; ".join(map(printable, report.sources)))
    shown = report.damaged if view.limit is None else report.damaged[: view.limit]
    for file in shown:
        lines += _damaged(file, view)
    if len(report.damaged) > len(shown):
        lines.append(view.style.dim(f"  … and {len(report.damaged) - len(shown):,} more (-v shows all)"))
    lines += bullets(view.style.bad("Missing:"), report.missing, view)
    lines += bullets(view.style.good("Were missing, are back:"), report.restored, view)
    lines += bullets("Would repair:", report.would_repair, view)
    lines += bullets(view.style.caution("Nothing known to compare with:"), report.unverified, view)
    lines += bullets(view.style.dim("Known to nobody, left alone:"), report.extra, view)
    if view.limit is None:
        lines += bullets(view.style.dim("Written anew by the tools since, no damage:"), report.changed, view)
    return lines + _what_next(report, broken, view) + render_proofs(report.proofs, view)


def _what_next(report: VerifyReport, broken: list[DamagedFile], view: View) -> list[str]:
    if not broken and not report.missing:
        return []
    # Which missing files a snapshot has is not told; that there is a snapshot is reason enough to try.
    if any(file.repairable for file in broken) or (report.missing and report.snapshot_id is not None):
        return [f"Next: {view.command('verify', '--repair')}"]
    return [
        "No snapshot at hand has these bytes whole: download these files again, and only these.",
        f"If they lie in another repository: {view.command('verify', '--repair', '--repo', 'PLACE')}",
    ]


def _headline(report: VerifyReport, broken: int, view: View) -> str:
    took = f"{duration(report.seconds)}{speed(report.bytes_read, report.seconds)}"
    checked = f"{count(report.files_checked, 'file')} checked in {took}: {printable(report.path)}"
    if broken or report.missing:
        parts = [f"{count(broken, 'file')} damaged"] if broken else []
        parts += [f"{count(len(report.missing), 'file')} missing"] if report.missing else []
        parts += [f"{report.repaired:,} repaired"] if report.repaired else []
        return view.style.bad(", ".join(parts)) + f"; {checked}."
    if report.repaired:
        return view.style.good(f"{count(report.repaired, 'file')} repaired") + f"; {checked}."
    if report.quick:
        return view.style.good("Looks sound") + f" (sizes and headers only); {checked}."
    if report.unverified:
        compared = max(0, report.files_checked - len(report.unverified))
        return (
            view.style.caution(f"No damage found in {compared:,}, {len(report.unverified):,} unknown")
            + f"; {checked}."
        )
    return view.style.good("All good") + f"; {checked}, {size(report.bytes_read)} read."


def _damaged(file: DamagedFile, view: View) -> list[str]:
    state = view.style.good("repaired") if file.repaired else view.style.bad(printable(file.kind))
    lines = [f"{state}  {printable(file.path)}"]
    lines += [f"    seen as {printable(name)}" for name in file.names]
    lines.append(f"    {printable(file.message)}")
    if file.ranges:
        shown = file.ranges if view.limit is None else file.ranges[:RANGES_SHOWN]
        text = ", ".join(f"{start:,} to {end:,}" for start, end in shown)
        more = len(file.ranges) - len(shown)
        lines.append(f"    bytes {text}" + (f" and {count(more, 'more range')}" if more else ""))
    return lines
