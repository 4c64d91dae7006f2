"""What a copy is asked for, and what it says."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """``source``, ``to``: places of repositories. ``snapshots``: id prefixes or "latest"; none: all that are
    not there yet. ``init``: make the target if there is none, with the cutting rules of the source."""

    source: str
    to: str
    snapshots: tuple[str, ...] = ()
    init: bool = False
    dry_run: bool = False


class FailedSnapshot(msgspec.Struct, kw_only=True):
    """A snapshot that could not be copied, and why."""

    id: str
    reason: str


class CopyReport(msgspec.Struct, kw_only=True):
    """``snapshots_copied``: ids (they stay the same); ``snapshots_skipped``: how many were there already.

    ``blobs_copied``, ``bytes_copied``: frames sent, with their headers; ``bytes_stored``: the packs they
    became. ``records_copied``: SHA-256 digests, goldens and labels. ``created``: the target was made.
    """

    source: str = msgspec.field(name="from")
    to: str
    snapshots_copied: list[str] = []
    snapshots_skipped: int = 0
    snapshots_failed: list[FailedSnapshot] = []
    blobs_copied: int = 0
    bytes_copied: int = 0
    bytes_stored: int = 0
    records_copied: int = 0
    seconds: float = 0.0
    created: bool = False
    dry_run: bool = False
