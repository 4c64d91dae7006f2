"""Choosing a snapshot: by id, or the newest good one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zitcache.errors import IntegrityError, ObjectNotFound, SnapshotNotFound
from zitcache.repository.records import SnapshotRecord
from zitcache.repository.repository import Repository

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot and its id (64 hex digits)."""

    id: str
    record: SnapshotRecord

    @property
    def short_id(self) -> str:
        """The first eight digits: what people type."""
        return self.id[:8]


def list_snapshots(repository: Repository) -> tuple[list[Snapshot], dict[str, str]]:
    """All readable snapshots, oldest first, and the problem of each that is not (by id)."""
    found: list[Snapshot] = []
    unreadable: dict[str, str] = {}
    for snapshot_id in repository.snapshot_ids():
        record = _load(repository, snapshot_id, unreadable)
        if record is not None:
            found.append(Snapshot(snapshot_id, record))
    found.sort(key=lambda snapshot: (snapshot.record.time, snapshot.id))
    return found, unreadable


def _load(repository: Repository, snapshot_id: str, unreadable: dict[str, str]) -> SnapshotRecord | None:
    try:
        return repository.load_snapshot(snapshot_id)
    except (IntegrityError, ObjectNotFound) as error:
        unreadable[snapshot_id] = error.message
        return None


def newest_good(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The newest snapshot without damage; one that left files out only if there is no complete one."""
    ordered = list(snapshots)
    for acceptable in (lambda s: s.record.is_good, lambda s: not s.record.suspect):
        for snapshot in reversed(ordered):
            if acceptable(snapshot):
                return snapshot
    return None


def resolve(snapshots: list[Snapshot], selector: str, location: str) -> Snapshot:
    """The snapshot that ``selector`` names: "latest" (the newest good one) or an unambiguous id prefix.

    Raises :class:`SnapshotNotFound`.
    """
    if not snapshots:
        raise SnapshotNotFound(
            f"The repository in {location} holds no snapshot yet.",
            hint=f"Make one: zitcache backup --repo {location}",
        )
    if selector == LATEST:
        chosen = newest_good(snapshots)
        if chosen is None:
            raise SnapshotNotFound(
                f"Every snapshot in {location} is suspect (taken of a damaged cache).",
                hint="List them with `zitcache snapshots` and name the one to use: zitcache restore ID",
            )
        return chosen
    matches = [snapshot for snapshot in snapshots if snapshot.id.startswith(selector.lower())]
    if len(matches) == 1 and selector:
        return matches[0]
    if matches:
        raise SnapshotNotFound(f"{selector!r} fits {len(matches)} snapshots; give more digits of the id.")
    raise SnapshotNotFound(f"No snapshot in {location} has an id that starts with {selector!r}.")
