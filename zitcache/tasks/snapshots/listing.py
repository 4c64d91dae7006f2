"""``snapshots``: what can be restored."""

from __future__ import annotations

import msgspec

from zitcache.errors import Exit
from zitcache.events import Outcome, Session
from zitcache.repository.selection import Snapshot, list_snapshots
from zitcache.tasks.locations import open_repository


class SnapshotSummary(msgspec.Struct, kw_only=True):
    """One snapshot. ``time``: ISO 8601 UTC. ``models``: ids like "Tongyi-MAI/Z-Image-Turbo@master".

    ``left_out``: paths that could not be backed up. ``lost``: paths of which the repository lost bytes.
    """

    id: str
    time: str
    host: str
    cache: str
    models: list[str]
    files: int
    size_bytes: int
    suspect: bool
    tags: list[str]
    bytes_new_stored: int
    left_out: list[str] = []
    pinned: bool = False
    lost: list[str] = []


class SnapshotsReport(msgspec.Struct, kw_only=True):
    """All snapshots, oldest first. In JSON, ``data`` is this list itself."""

    repository: str
    snapshots: list[SnapshotSummary]


def snapshots(repository: str | None, session: Session) -> Outcome[SnapshotsReport]:
    """List snapshots, oldest first.

    Exit codes: 0; 1 if there are some that cannot be read (a warning names each, the others are listed).
    Raises ``RepositoryNotFound``, ``UnsupportedFormat``, ….
    """
    opened = open_repository(repository, session)
    found, unreadable = list_snapshots(opened)
    for snapshot_id, problem in sorted(unreadable.items()):
        session.warn(
            "snapshot-unreadable", f"Snapshot {snapshot_id[:8]} cannot be read: {problem}", "zitcache check"
        )
    report = SnapshotsReport(
        repository=opened.storage.location, snapshots=[_summary(snapshot) for snapshot in found]
    )
    exit_code = Exit.DAMAGE if unreadable else Exit.OK
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


def _summary(snapshot: Snapshot) -> SnapshotSummary:
    record = snapshot.record
    return SnapshotSummary(
        id=snapshot.id,
        time=record.time,
        host=record.host,
        cache=record.cache,
        models=[f"{model.id}@{model.revision}" for model in record.models],
        files=record.files,
        size_bytes=record.size_bytes,
        suspect=snapshot.is_suspect,
        tags=snapshot.tags,
        bytes_new_stored=record.bytes_new_stored,
        left_out=list(record.left_out),
        pinned=snapshot.pinned,
        lost=[] if snapshot.losses is None else [file.path for file in snapshot.losses.files],
    )
