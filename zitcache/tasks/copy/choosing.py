"""Which snapshots are to be copied, and what the target lacks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from zitcache.errors import IntegrityError
from zitcache.events import Session
from zitcache.repository.index import Location
from zitcache.repository.marks import FORGOTTEN_FOLDER, ForgottenRecord
from zitcache.repository.needs import BlobKey, Needs
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot, list_snapshots, resolve
from zitcache.tasks.copy.ends import Ends

_BATCH_BYTES = 256 << 20
"""So much is worth an index object and a commit of its own: nights in which little changed go together."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``wanted``: oldest first. ``skipped``: how many are there already. ``unreadable``: by id, why."""

    wanted: list[Snapshot]
    skipped: int
    unreadable: dict[str, str]


def choose(ends: Ends, selectors: Sequence[str], session: Session) -> Choice:
    """The snapshots that are named, or all; without those that the target has.

    What was forgotten at the target, and can still be brought back there, is copied only when named. Raises
    ``SnapshotNotFound`` for a selector that fits none.
    """
    session.progress.stage("Looking at snapshots")
    source, target = ends.source, ends.target
    found, unreadable = list_snapshots(source)
    present = set(target.snapshot_ids()) if target is not None else set()
    unreadable = {snapshot: problem for snapshot, problem in unreadable.items() if snapshot not in present}
    if selectors:
        named = {resolve(found, text, source.storage.location).id for text in selectors}
        chosen = [snapshot for snapshot in found if snapshot.id in named]
        unreadable = {}
    else:
        forgotten = _forgotten(target) if target is not None else set()
        chosen = [snapshot for snapshot in found if snapshot.id not in forgotten - present]
    wanted = [snapshot for snapshot in chosen if snapshot.id not in present]
    skipped = (len(chosen) if selectors else len(found)) - len(wanted)
    return Choice(wanted, skipped, unreadable)


def _forgotten(target: Repository) -> set[str]:
    return {record.snapshot for record in target.load_records(FORGOTTEN_FOLDER, ForgottenRecord)}


@dataclass(slots=True)
class Batch:
    """Snapshots with all the blobs they need, and where those lie that the target lacks.

    ``unreadable``: snapshots of which it cannot be told what they need, and why.
    """

    snapshots: list[tuple[Snapshot, frozenset[BlobKey]]] = field(default_factory=list)
    missing: dict[BlobKey, Location | None] = field(default_factory=dict)
    size_bytes: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, snapshot: Snapshot, needs: frozenset[BlobKey], source: Repository, held: _Held) -> None:
        """Take a snapshot in."""
        self.snapshots.append((snapshot, needs))
        for blob in needs:
            if blob in self.missing or held.has(blob):
                continue
            location = next((at for at in source.index.locations(blob[0]) if at.kind == blob[1]), None)
            self.missing[blob] = location
            self.size_bytes += location.length if location is not None else 0

    @classmethod
    def of(
        cls,
        snapshots: list[tuple[Snapshot, frozenset[BlobKey]]],
        source: Repository,
        target: Repository,
        *,
        reload: bool = False,
    ) -> Batch:
        """What is missing now for snapshots that were looked at before."""
        if reload:
            target.reload_index()
        batch = cls()
        held = _Held(target)
        for snapshot, needs in snapshots:
            batch.add(snapshot, needs, source, held)
        return batch


class _Held:
    """What the target has, or will have when earlier batches are done."""

    def __init__(self, target: Repository | None) -> None:
        self._index = target.index if target is not None else None
        self.expected: set[BlobKey] = set()

    def has(self, blob: BlobKey) -> bool:
        return blob in self.expected or (self._index is not None and self._index.has(*blob))


def batches(
    source: Repository, target: Repository | None, wanted: Sequence[Snapshot], session: Session
) -> Iterator[Batch]:
    """Snapshots in batches, the newest first; each is looked at when its turn comes."""
    batch = Batch()
    expected: set[BlobKey] = set()
    for snapshot in reversed(wanted):
        session.cancel.check()
        needs = Needs(source)
        try:
            source.tree(snapshot.record)  # refuses what could not be restored anyway
            needs.add(snapshot.record)
        except IntegrityError as error:
            batch.unreadable[snapshot.id] = error.message
            continue
        held = _Held(target)
        held.expected = expected
        batch.add(snapshot, frozenset(needs.blobs), source, held)
        if batch.size_bytes >= _BATCH_BYTES:
            yield batch
            if target is None:
                expected |= batch.missing.keys()
            batch = Batch()
    if batch.snapshots or batch.unreadable:
        yield batch
