"""Setting broken objects aside: never deleted, but out of the way, below ``quarantine/``."""

from __future__ import annotations

import msgspec

from zitcache.codec.blob import blob_id
from zitcache.codec.frame import FrameKind
from zitcache.errors import CredentialsError, IntegrityError, ObjectNotFound, ZitcacheError
from zitcache.events import Session
from zitcache.proof.goldens import GoldenRecord
from zitcache.repository.locks import LOCK_FOLDER, LockRecord
from zitcache.repository.marks import (
    CLAIM_FOLDER,
    FORGOTTEN_FOLDER,
    MARK_FOLDER,
    SWEEP_FOLDER,
    ClaimRecord,
    ForgottenRecord,
    MarkRecord,
    SweepRecord,
)
from zitcache.repository.notes import (
    DAMAGED_FOLDER,
    LABEL_FOLDER,
    LOSS_FOLDER,
    DamagedRecord,
    LabelRecord,
    LossRecord,
)
from zitcache.repository.objects import decode_object, load_bytes
from zitcache.repository.records import CheckRecord, DigestRecord, IndexRecord, SnapshotRecord
from zitcache.repository.repository import INDEX_FOLDER, SNAPSHOT_FOLDER, Repository
from zitcache.storage.protocol import Storage
from zitcache.tasks.check.frames import explain
from zitcache.tasks.deleting import denied

QUARANTINE_FOLDER = "quarantine"
FOLDERS: dict[str, tuple[FrameKind, type[msgspec.Struct]]] = {
    SNAPSHOT_FOLDER: (FrameKind.SNAPSHOT, SnapshotRecord),
    INDEX_FOLDER: (FrameKind.INDEX, IndexRecord),
    FORGOTTEN_FOLDER: (FrameKind.RECORD, ForgottenRecord),
    MARK_FOLDER: (FrameKind.RECORD, MarkRecord),
    SWEEP_FOLDER: (FrameKind.RECORD, SweepRecord),
    CLAIM_FOLDER: (FrameKind.RECORD, ClaimRecord),
    LABEL_FOLDER: (FrameKind.RECORD, LabelRecord),
    LOSS_FOLDER: (FrameKind.RECORD, LossRecord),
    DAMAGED_FOLDER: (FrameKind.RECORD, DamagedRecord),
    LOCK_FOLDER: (FrameKind.RECORD, LockRecord),
    "digests": (FrameKind.RECORD, DigestRecord),
    "checks": (FrameKind.RECORD, CheckRecord),
    "goldens": (FrameKind.RECORD, GoldenRecord),
}


class SetAside(msgspec.Struct, kw_only=True):
    """``name``: of the object as it was; ``place``: where its bytes lie now, None if they cannot be read."""

    name: str
    problem: str
    place: str | None


class Aside:
    """Moves objects into quarantine, or in a dry run only says so."""

    def __init__(self, *, dry_run: bool) -> None:
        self._dry_run = dry_run
        self.moved: list[SetAside] = []

    def move(self, storage: Storage, name: str, data: bytes, problem: str) -> None:
        """Keep the bytes below ``quarantine/``, then take the object away. Raises what the storage raises."""
        folder = name.rpartition("/")[0] or name
        place = f"{QUARANTINE_FOLDER}/{folder}/{blob_id(data).hex()}"
        if not self._dry_run:
            storage.store(place, data)
            storage.delete(name)
        self.moved.append(SetAside(name=name, problem=problem, place=place))

    def leave(self, name: str, problem: str) -> None:
        """It is broken, and its bytes cannot be had to keep them: so it stays where it is."""
        self.moved.append(SetAside(name=name, problem=problem, place=None))


def set_broken_objects_aside(repository: Repository, aside: Aside, session: Session) -> None:
    """Look at every small object; those that are not what their name and folder say are moved away."""
    session.progress.stage("Looking at small objects")
    try:
        for folder, (kind, record) in FOLDERS.items():
            for name, _ in repository.objects(folder):
                session.cancel.check()
                # Twice: a byte that was turned over on its way here is no reason to move anything.
                if _problem(repository, name, kind, record):
                    _set_aside(repository, name, kind, record, aside)
    except CredentialsError as error:
        raise denied(repository, error) from error


def _problem(
    repository: Repository, name: str, kind: FrameKind, record: type[msgspec.Struct]
) -> ZitcacheError | None:
    """Why an object cannot be used; None if it can, or is not there any more."""
    try:
        decode_object(load_bytes(repository.storage, name), name, kind, record)
    except ObjectNotFound:
        return None
    except ZitcacheError as error:
        return error
    return None


def _set_aside(
    repository: Repository, name: str, kind: FrameKind, record: type[msgspec.Struct], aside: Aside
) -> None:
    problem = _problem(repository, name, kind, record)
    if problem is None:
        return
    if not isinstance(problem, IntegrityError):
        aside.leave(name, explain(repository.storage, problem))
        return
    try:
        data = repository.storage.load(name)
    except ObjectNotFound:
        return
    aside.move(repository.storage, name, data, problem.message)
