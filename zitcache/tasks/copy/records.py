"""What goes along with snapshots: SHA-256 digests, goldens, and the labels of what was copied.

They are copied byte for byte, so each keeps its name and is copied once. Records of checks stay where they
are: they say when the packs of *that* repository were read.
"""

from __future__ import annotations

from collections.abc import Set

from zitcache.codec.blob import decode
from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError, ObjectNotFound, UnsupportedFormat, ZitcacheError
from zitcache.events import Session
from zitcache.proof.goldens import FOLDER as GOLDEN_FOLDER
from zitcache.repository.digests import FOLDER as DIGEST_FOLDER
from zitcache.repository.notes import LABEL_FOLDER, LabelRecord
from zitcache.repository.objects import load_bytes
from zitcache.repository.repository import Repository
from zitcache.storage.parallel import in_parallel


def copy_records(source: Repository, target: Repository, session: Session, *, dry_run: bool) -> int:
    """Copy digests and goldens that the target lacks; how many. A damaged one stays, with a warning."""
    count = 0
    for folder in (DIGEST_FOLDER, GOLDEN_FOLDER):
        here = {name for name, _ in source.objects(folder)}
        missing = sorted(here - {name for name, _ in target.objects(folder)} if here else ())
        count += len(missing) if dry_run else _copy(source, target, missing, session)
    return count


def copy_labels(source: Repository, target: Repository, snapshots: Set[str], session: Session) -> int:
    """Copy pins and tags of snapshots that were copied just now: later ones are each repository's own."""
    found = source.load_records_by_id(LABEL_FOLDER, LabelRecord)
    names = [f"{LABEL_FOLDER}/{label_id}" for label_id, record in found if record.snapshot in snapshots]
    return _copy(source, target, names, session)


def _copy(source: Repository, target: Repository, names: list[str], session: Session) -> int:
    def copy(name: str) -> ZitcacheError | None:
        try:
            data = load_bytes(source.storage, name)
            if decode(data)[0].kind is not FrameKind.RECORD:
                raise IntegrityError(f"{name} is not what its folder says.")
        except (IntegrityError, ObjectNotFound, UnsupportedFormat) as error:
            return error
        target.storage.store(name, data)
        return None

    concurrency = max(source.storage.concurrency, target.storage.concurrency)
    count = 0
    for name, error in zip(names, in_parallel(copy, names, concurrency, session.cancel), strict=True):
        if error is None:
            count += 1
        elif not isinstance(error, ObjectNotFound):  # that one was removed since it was listed
            session.warn(
                "record-not-copied", f"{name[:20]} was not copied: {error.message}", "zitcache check"
            )
    return count
