"""``init``, ``snapshots`` and ``diff``: make a repository, and see what is in it.

``creating``: ``init`` · ``listing``: ``snapshots`` · ``comparing``: ``diff``.
"""

from __future__ import annotations

from zitcache.tasks.snapshots.comparing import Change, DiffReport, diff
from zitcache.tasks.snapshots.creating import InitReport, init
from zitcache.tasks.snapshots.listing import SnapshotsReport, SnapshotSummary, snapshots

__all__ = [
    "Change",
    "DiffReport",
    "InitReport",
    "SnapshotSummary",
    "SnapshotsReport",
    "diff",
    "init",
    "snapshots",
]
