"""Choosing a snapshot: by id, or the newest good one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zitcache.errors import IntegrityError, ObjectNotFound, SnapshotNotFound
from zitcache.repository.notes import LossRecord, load_labels, load_losses
from zitcache.repository.records import SnapshotRecord
from zitcache.repository.repository import Repository

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot, its id (64 hex digits), and what became known of it since it was written.

    ``pinned``: it is not to be forgotten. ``added_tags``: beside those that it was made with. ``losses``: the
    files of which the repository lost bytes.
    """

    id: str
    record: SnapshotRecord
    pinned: bool = False
    added_tags: frozenset[str] = frozenset()
    losses: LossRecord | None = None

    @property
    def tags(self) -> list[str]:
        """Those that it was made with and those that were added, sorted."""
        return sorted({*self.record.tags, *self.added_tags})

    @property
    def is_suspect(self) -> bool:
        """Whether the cache was damaged when it was taken, or the repository has lost some of it since."""
        return self.record.suspect or self.losses is not None

    @property
    def suspect_reasons(self) -> list[str]:
        """Why it is suspect, as sentences."""
        if self.losses is None:
            return list(self.record.suspect_reasons)
        paths = [file.path for file in self.losses.files]
        names = ", ".join(paths[:3]) + (" …" if len(paths) > 3 else "")
        return [*self.record.suspect_reasons, f"The repository has lost parts of: {names}."]

    @property
    def is_good(self) -> bool:
        """Whether it may be restored without a second thought: nothing damaged, nothing missing or lost."""
        return not self.is_suspect and not self.record.left_out

    @property
    def short_id(self) -> str:
        """The first eight digits: what people type."""
        return self.id[:8]


def list_snapshots(repository: Repository) -> tuple[list[Snapshot], dict[str, str]]:
    """All readable snapshots, oldest first, and the problem of each that is not (by id)."""
    found: list[Snapshot] = []
    unreadable: dict[str, str] = {}
    labels, losses = load_labels(repository), load_losses(repository)
    for snapshot_id, read in repository.load_snapshots():
        if isinstance(read, ObjectNotFound):
            continue  # forgotten since it was listed
        if isinstance(read, IntegrityError):
            unreadable[snapshot_id] = read.message
            continue
        found.append(
            Snapshot(
                snapshot_id,
                read,
                pinned=snapshot_id in labels.pinned,
                added_tags=frozenset(labels.tags.get(snapshot_id, ())),
                losses=losses.get(snapshot_id),
            )
        )
    found.sort(key=lambda snapshot: (snapshot.record.time, snapshot.id))
    return found, unreadable


def newest_good(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """The newest snapshot without damage; one that left files out only if there is no complete one."""
    ordered = list(snapshots)
    for acceptable in (lambda s: s.is_good, lambda s: not s.is_suspect):
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
