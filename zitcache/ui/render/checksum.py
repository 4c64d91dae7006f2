"""How ``checksum`` is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from zitcache.ui.render.common import bullets, speed
from zitcache.ui.table import Column, table
from zitcache.ui.text import count, duration, printable, size

if TYPE_CHECKING:
    from zitcache.tasks.checksum import ChecksumReport
    from zitcache.ui.report import View


class _File(msgspec.Struct):
    path: str
    size: int
    blake3: str
    sha256: str | None = None


class _Fingerprint(msgspec.Struct):
    """The part of a fingerprint that is shown."""

    model: str
    revision: str
    size_bytes: int
    digest: str
    files: list[_File]


COLUMNS = (
    Column("Model"),
    Column("Revision"),
    Column("Files", right=True),
    Column("Size", right=True),
    Column("Digest (BLAKE3)"),
)


def render_checksum(report: ChecksumReport, view: View) -> list[str]:
    """One digest per model; with ``-v`` the digests of every file; what was written where."""
    took = f"{duration(report.seconds)}{speed(report.bytes_read, report.seconds)}"
    done = f"{view.style.good('Fingerprinted')} {count(report.files, 'file')}, {size(report.bytes_read)}"
    lines = [f"{done}, in {took}: {printable(report.cache)}."]
    prints = [msgspec.json.decode(raw, type=_Fingerprint) for raw in report.fingerprints]
    lines += table(COLUMNS, map(_row, prints), view.style)
    if view.limit is None:
        for item in prints:
            lines.append(f"{printable(item.model)}@{printable(item.revision)} (SHA-256, else BLAKE3):")
            lines += [
                f"  {printable(file.sha256 or file.blake3)}  {printable(file.path)}" for file in item.files
            ]
    lines += bullets(view.style.caution("Left out:"), report.left_out, view)
    if report.recorded:
        lines.append(f"Recorded the SHA-256 of {count(report.recorded, 'file')} in the repository.")
    if report.output:
        lines.append(f"Fingerprint in {printable(report.output)}. Compare later with:")
        lines.append("  " + view.command("verify", "--against", report.output))
    if report.sha256sums:
        lines.append(f"SHA-256 sums in {printable(report.sha256sums)}.")
    if not report.output and not report.sha256sums:
        lines.append(f"To keep it: {view.command('checksum', '-o', 'fingerprint.json')}")
    return lines


def _row(item: _Fingerprint) -> list[str]:
    name, revision = printable(item.model), printable(item.revision)[:12]
    return [name, revision, f"{len(item.files):,}", size(item.size_bytes), printable(item.digest)]
