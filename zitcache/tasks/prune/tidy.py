"""Put together what grows by one object each night, and remove what nobody needs any more.

New objects are written before old ones go, so a reader that comes in between sees both, and one that had
listed the old ones lists again (``Repository``).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import msgspec

from zitcache.errors import IntegrityError, ObjectNotFound
from zitcache.events import Session
from zitcache.repository.checks import FOLDER as CHECK_FOLDER
from zitcache.repository.digests import FOLDER as DIGEST_FOLDER
from zitcache.repository.index import Index
from zitcache.repository.marks import MARK_FOLDER
from zitcache.repository.needs import BlobKey
from zitcache.repository.notes import (
    DAMAGED_FOLDER,
    LABEL_FOLDER,
    LOSS_FOLDER,
    DamagedRecord,
    LabelRecord,
    LossRecord,
)
from zitcache.repository.records import CheckRecord, DigestRecord, IndexRecord
from zitcache.repository.repository import INDEX_FOLDER, Repository
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Storage
from zitcache.tasks.check import STALE_AFTER_SECONDS
from zitcache.tasks.prune.knowledge import Knowledge

MAX_INDEX_OBJECTS = 8
_MAX_SIMILAR_RECORDS = 4
_MAX_ABSENT_SHARE = 0.1


@dataclass(slots=True)
class Tidied:
    """How many objects were put together or removed, by what they were."""

    index_objects: int = 0
    records: int = 0
    temporaries: int = 0


def tidy(knowledge: Knowledge, session: Session) -> Tidied:
    """All of it. ``knowledge``: the last reading. Raises what the storage raises."""
    session.progress.stage("Tidying up")
    repository, done = knowledge.repository, Tidied()
    index_objects = _index_objects(repository)
    # The packs after the index: a backup writes them the other way round.
    sizes = repository.pack_sizes()
    done.index_objects = _consolidate_index(repository, index_objects, sizes)
    session.cancel.check()
    done.records = _consolidate_checks(repository, sizes) + _consolidate_digests(repository)
    done.records += _drop_marks(knowledge, sizes) + _drop_sweeps(knowledge, sizes)
    done.records += _drop_claims(knowledge) + _drop_notes(knowledge, sizes)
    done.temporaries = remove_temporaries(repository.storage)
    return done


def _index_objects(repository: Repository) -> dict[str, IndexRecord]:
    """By name, those that can be read; the others are for ``repair``."""
    found: dict[str, IndexRecord] = {}
    for name, _ in repository.objects(INDEX_FOLDER):
        with contextlib.suppress(IntegrityError, ObjectNotFound):
            found[name] = repository.load_index_object(name)
    return found


def _consolidate_index(repository: Repository, old: dict[str, IndexRecord], sizes: dict[str, int]) -> int:
    """One index object (or a few) for all packs that are there; how many old ones it replaced."""
    named = {pack.id: pack for record in old.values() for pack in record.packs}
    packs = [pack for pack in named.values() if sizes.get(pack.id) == pack.size]
    absent = len(named) - len(packs)
    if len(old) <= MAX_INDEX_OBJECTS and absent <= _MAX_ABSENT_SHARE * len(named):
        return 0
    new = {f"{INDEX_FOLDER}/{each}" for each in repository.write_index(packs)}
    gone = [name for name in old if name not in new]
    for name in gone:
        repository.storage.delete(name)
    return len(gone)


def _consolidate_checks(repository: Repository, sizes: dict[str, int]) -> int:
    found = repository.load_records_by_id(CHECK_FOLDER, CheckRecord)
    if len(found) < 2:
        return 0
    merged: dict[str, int] = {}
    for _, record in found:
        for pack, moment in record.packs.items():
            if pack in sizes:
                merged[pack] = max(moment, merged.get(pack, 0))
    new = repository.store_record(CHECK_FOLDER, CheckRecord(packs=dict(sorted(merged.items()))))
    return _delete_others(repository, CHECK_FOLDER, [name for name, _ in found], new)


def _consolidate_digests(repository: Repository) -> int:
    """Not while two records differ about one content: then it counts as unknown, and has to stay so."""
    found = repository.load_records_by_id(DIGEST_FOLDER, DigestRecord)
    merged: dict[str, str] = {}
    for _, record in found:
        for content, sha256 in record.sha256.items():
            if merged.setdefault(content, sha256) != sha256:
                return 0
    if len(found) <= _MAX_SIMILAR_RECORDS:
        return 0
    new = repository.store_record(DIGEST_FOLDER, DigestRecord(sha256=dict(sorted(merged.items()))))
    return _delete_others(repository, DIGEST_FOLDER, [name for name, _ in found], new)


def _delete_others(repository: Repository, folder: str, old: list[str], new: str) -> int:
    gone = [name for name in old if name != new]
    for name in gone:
        repository.storage.delete(f"{folder}/{name}")
    return len(gone)


def _drop_marks(knowledge: Knowledge, sizes: dict[str, int]) -> int:
    """Marks that name nothing any more; those that name gone packs among others are left as they are."""
    claims = {claim.name for claim in knowledge.claims}
    gone = [
        note.name
        for note in knowledge.marks
        if not set(note.record.packs) & set(sizes) and not set(note.record.claims) & claims
    ]
    for name in gone:
        knowledge.repository.storage.delete(name)
    return len(gone)


def _drop_sweeps(knowledge: Knowledge, sizes: dict[str, int]) -> int:
    """What interrupted sweeps left, once none of their packs is there: no pack's name ever comes back."""
    gone = [note.name for note in knowledge.sweeps if not set(note.record.packs) & set(sizes)]
    for name in gone:
        knowledge.repository.storage.delete(name)
    return len(gone)


def _drop_claims(knowledge: Knowledge) -> int:
    """Claims whose snapshot is there, and those of writers that died long ago."""
    gone = [claim.name for claim in knowledge.claims if not knowledge.is_active(claim)]
    for name in gone:
        knowledge.repository.storage.delete(name)
    return len(gone)


def _drop_notes(knowledge: Knowledge, sizes: dict[str, int]) -> int:
    """What was noted of snapshots and packs that are gone for good, and losses that were found again."""
    repository = knowledge.repository
    alive = set(knowledge.snapshots) | {each.note.record.snapshot for each in knowledge.forgotten}
    gone: list[str] = []
    for name, label in repository.load_records_by_id(LABEL_FOLDER, LabelRecord):
        if label.snapshot not in alive and not label.pin:
            gone.append(f"{LABEL_FOLDER}/{name}")
    for name, loss in repository.load_records_by_id(LOSS_FOLDER, LossRecord):
        blobs: set[BlobKey] = {blob for file in loss.files for blob in file.blobs}
        if loss.snapshot not in alive or _all_found(repository.index, blobs, knowledge):
            gone.append(f"{LOSS_FOLDER}/{name}")
    for name, damaged in repository.load_records_by_id(DAMAGED_FOLDER, DamagedRecord):
        if not set(damaged.packs) & set(sizes):
            gone.append(f"{DAMAGED_FOLDER}/{name}")
    for name in gone:
        repository.storage.delete(name)
    return len(gone)


def _all_found(index: Index, blobs: set[BlobKey], knowledge: Knowledge) -> bool:
    """Whether each of these has a copy that is not known to be bad."""
    return bool(blobs) and all(
        any(
            at.kind == kind and (at.pack, blob, kind) not in knowledge.bad_copies
            for at in index.locations(blob)
        )
        for blob, kind in blobs
    )


def restamp(knowledge: Knowledge, revived: set[str]) -> int:
    """Write marks anew that name packs which are needed again, or that carry a time from the future."""
    repository, written = knowledge.repository, 0
    for note in knowledge.marks:
        is_ahead = knowledge.clock.is_ahead(note.record.time)
        rest = [pack for pack in note.record.packs if pack not in revived and pack in knowledge.sizes]
        if not is_ahead and not revived & set(note.record.packs):
            continue
        if rest or note.record.claims:
            moment = int(knowledge.clock.own) if is_ahead else note.record.time
            record = msgspec.structs.replace(note.record, time=moment, packs=sorted(rest))
            repository.store_record(MARK_FOLDER, record)
        repository.storage.delete(note.name)
        written += 1
    return written


def remove_temporaries(storage: Storage) -> int:
    """Remove what killed writers left behind in a local repository a day ago or more."""
    local = getattr(storage, "inner", storage)
    if not isinstance(local, LocalStorage):
        return 0
    names = local.stale_temporaries(STALE_AFTER_SECONDS)
    for name in names:
        local.remove_temporary(name)
    return len(names)


__all__ = ["Tidied", "remove_temporaries", "restamp", "tidy"]
