"""What there is and what is needed, read in the one order that overlooks nothing.

Sweeps, then claims, then snapshots, then forgotten ones, then the index and the packs. Each writer does these
things the other way round (docs/FORMAT.md, "Deleting"), so what one of them has finished by the time this
reads its last trace is seen here, and what it has not finished it will itself see is being deleted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from zitcache.errors import IntegrityError, ObjectNotFound
from zitcache.events import Session
from zitcache.repository.marks import (
    ABANDONED_CLAIM_SECONDS,
    CLAIM_FOLDER,
    FORGOTTEN_FOLDER,
    MARK_FOLDER,
    SWEEP_FOLDER,
    ClaimRecord,
    ForgottenRecord,
    MarkRecord,
    Note,
    SweepRecord,
    load_notes,
)
from zitcache.repository.needs import BlobKey, Needs
from zitcache.repository.notes import (
    LABEL_FOLDER,
    BadCopy,
    LabelRecord,
    Labels,
    known_bad_copies,
    load_losses,
    lost_blobs,
)
from zitcache.repository.objects import OBJECT_ID
from zitcache.repository.pack import FOLDER as PACK_FOLDER
from zitcache.repository.records import SnapshotRecord
from zitcache.repository.repository import Repository
from zitcache.tasks.prune.errors import PruneRefused

FUTURE_TOLERANCE_SECONDS = 86400
_CLAIM_NOTED_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks, because either may be wrong: this machine's, and the storage's, both seconds."""

    own: float
    storage: float

    @classmethod
    def of_this_machine(cls) -> Clock:
        """For a dry run, which writes nothing from which the storage's time could be told."""
        return cls(time.time(), time.time())

    def age(self, recorded: float, modified: float) -> float:
        """How old a note is at least: the smaller of what both clocks say."""
        return min(self.own - recorded, self.storage - modified)

    def is_ahead(self, recorded: float) -> bool:
        """Whether a note was written under a clock that was wrong: it would never come of age."""
        return recorded > self.own + FUTURE_TOLERANCE_SECONDS


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A forgotten snapshot. ``is_held``: it may still come back, so what it needs stays."""

    note: Note[ForgottenRecord]
    record: SnapshotRecord
    is_held: bool


@dataclass(slots=True)
class Knowledge:
    """One reading. ``live``/``needs``: blobs of the listed snapshots, and those of the held ones as well.

    ``sizes``: bytes of every pack there is, ``modified`` when it was written; the index knows only those that
    are whole by their size. ``lost``: blobs that are known to be gone.
    """

    repository: Repository
    clock: Clock
    sweeps: list[Note[SweepRecord]]
    claims: list[Note[ClaimRecord]]
    snapshots: dict[str, SnapshotRecord]
    forgotten: list[Forgotten]
    marks: list[Note[MarkRecord]]
    labels: Labels
    lost: frozenset[BlobKey]
    bad_copies: set[BadCopy]
    live: set[BlobKey] = field(default_factory=set)
    needs: set[BlobKey] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    modified: dict[str, float] = field(default_factory=dict)

    def claimed_packs(self) -> set[str]:
        """Packs of snapshots that are about to be committed."""
        return {pack for claim in self.claims if self.is_active(claim) for pack in claim.record.packs}

    def is_active(self, claim: Note[ClaimRecord]) -> bool:
        """Whether a claim's snapshot may still come: it is not there, and its writer may be alive."""
        if claim.record.snapshot in self.snapshots:
            return False
        # One that is forgotten is not there: undelete claims what it is about to bring back.
        return not (self.looks_abandoned(claim) and claim.name in self._noted_claims())

    def looks_abandoned(self, claim: Note[ClaimRecord]) -> bool:
        """Whether a claim is too old to be of a living writer, by both clocks."""
        return self.clock.age(claim.record.time, claim.modified) > ABANDONED_CLAIM_SECONDS

    def stale_claims(self) -> list[str]:
        """Claims that look abandoned and that no mark names yet."""
        noted = {name for mark in self.marks for name in mark.record.claims}
        return sorted(
            claim.name
            for claim in self.claims
            if self.is_active(claim) and self.looks_abandoned(claim) and claim.name not in noted
        )

    def _noted_claims(self) -> set[str]:
        """Claims that a prune of a day ago or more took for abandoned."""
        return {
            name
            for mark in self.marks
            if self.clock.age(mark.record.time, mark.modified) >= _CLAIM_NOTED_SECONDS
            for name in mark.record.claims
        }


def gather(repository: Repository, clock: Clock, grace_seconds: float, session: Session) -> Knowledge:
    """Read everything anew. Raises :class:`PruneRefused` if any of it cannot be read or is missing."""
    try:
        return _gather(repository, clock, grace_seconds, session)
    except IntegrityError:
        # Once more: packs may have been put together by another machine while this one was reading.
        try:
            return _gather(repository, clock, grace_seconds, session)
        except PruneRefused:
            raise
        except IntegrityError as error:
            raise PruneRefused(f"{error.message} Nothing was deleted.") from error


def _gather(repository: Repository, clock: Clock, grace_seconds: float, session: Session) -> Knowledge:
    fresh = Repository(repository.storage, repository.config)
    knowledge = _read_notes(fresh, clock, grace_seconds)
    _read_needs(knowledge, session)
    return knowledge


def _read_notes(repository: Repository, clock: Clock, grace_seconds: float) -> Knowledge:
    sweeps = load_notes(repository, SWEEP_FOLDER, SweepRecord)
    claims = load_notes(repository, CLAIM_FOLDER, ClaimRecord)
    snapshots: dict[str, SnapshotRecord] = {}
    for snapshot_id in sorted(repository.snapshot_ids()):
        record = _load_snapshot(repository, snapshot_id)
        if record is not None:
            snapshots[snapshot_id] = record
    notes = load_notes(repository, FORGOTTEN_FOLDER, ForgottenRecord)
    labels = Labels(note.record for note in load_notes(repository, LABEL_FOLDER, LabelRecord))
    forgotten = [
        Forgotten(
            note,
            note.record.snapshot_record(),
            note.record.snapshot in labels.pinned
            or clock.age(note.record.time, note.modified) < grace_seconds
            or clock.is_ahead(note.record.time),
        )
        for note in notes
    ]
    return Knowledge(
        repository=repository,
        clock=clock,
        sweeps=sweeps,
        claims=claims,
        snapshots=snapshots,
        forgotten=forgotten,
        marks=load_notes(repository, MARK_FOLDER, MarkRecord),
        labels=labels,
        lost=frozenset(lost_blobs(load_losses(repository))),
        bad_copies=known_bad_copies(repository),
    )


def _load_snapshot(repository: Repository, snapshot_id: str) -> SnapshotRecord | None:
    """None if it was forgotten since it was listed: then it is among the forgotten, which are read next."""
    try:
        return repository.load_snapshot(snapshot_id)
    except ObjectNotFound:
        return None
    except IntegrityError as error:
        raise PruneRefused(
            f"Snapshot {snapshot_id[:8]} cannot be read, so it is not known what it needs: "
            f"{error.message} Nothing was deleted."
        ) from None


def _read_needs(knowledge: Knowledge, session: Session) -> None:
    repository = knowledge.repository
    index = repository.index
    for info in repository.storage.list(PACK_FOLDER):
        pack_id = info.name.rpartition("/")[2]
        if not OBJECT_ID.fullmatch(pack_id):
            continue  # not ours, whatever it is
        knowledge.sizes[pack_id], knowledge.modified[pack_id] = info.size, info.modified
    index.forget_packs([pack for pack, size in index.packs.items() if knowledge.sizes.get(pack) != size])
    needs = Needs(repository)
    for record in knowledge.snapshots.values():
        session.cancel.check()
        needs.add(record)
    knowledge.live = set(needs.blobs)
    for forgotten in knowledge.forgotten:
        if forgotten.is_held:
            session.cancel.check()
            needs.add(forgotten.record)
    knowledge.needs = needs.blobs
    missing = [key for key in needs.blobs if key not in knowledge.lost and not index.has(*key)]
    if missing:
        raise PruneRefused(
            f"{len(missing)} blobs that snapshots need are in no pack that can be read. Nothing was deleted."
        )
