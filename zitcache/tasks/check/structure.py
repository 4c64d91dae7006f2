"""The structure: is every object there and readable that the snapshots lead to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError, ZitcacheError
from zitcache.events import Session
from zitcache.repository.pack import FOLDER as PACK_FOLDER
from zitcache.repository.records import IndexRecord, PackRecord, RecordT, SnapshotRecord
from zitcache.repository.repository import INDEX_FOLDER, SNAPSHOT_FOLDER, Repository
from zitcache.repository.selection import Snapshot
from zitcache.storage.parallel import in_parallel
from zitcache.tasks.check.findings import Blob, Findings, Problem
from zitcache.tasks.check.frames import explain, is_object_id, read_object


@dataclass(slots=True)
class Structure:
    """What there is.

    ``packs``: the content of each pack that can be read, by id; ``sizes``: bytes of each pack there is;
    ``unindexed``: packs that no index object names; ``foreign``: files that are no objects.
    """

    snapshots: list[Snapshot] = field(default_factory=list)
    snapshot_count: int = 0
    packs: dict[str, PackRecord] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    unindexed: set[str] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)


def check_structure(repository: Repository, findings: Findings, session: Session) -> Structure:
    """Look at every snapshot object, index object and pack; what is wrong goes to ``findings``.

    Snapshots first, then the index, then packs: what a backup adds meanwhile is never missed half.
    """
    structure = Structure()
    session.progress.stage("Looking at snapshots and index")
    snapshots = _read_all(repository, SNAPSHOT_FOLDER, FrameKind.SNAPSHOT, SnapshotRecord, structure, session)
    for snapshot_id, found in snapshots:
        structure.snapshot_count += 1
        if isinstance(found, Problem):
            problem = Problem(f"The snapshot cannot be used. {found.message}", found.tampered)
            findings.add_object(snapshot_id, problem, [f"{snapshot_id[:8]}:*"])
        else:
            structure.snapshots.append(Snapshot(snapshot_id, found))
    structure.snapshots.sort(key=lambda snapshot: (snapshot.record.time, snapshot.id))
    indexed = _read_index(repository, findings, structure, session)
    _check_packs(repository, indexed, findings, structure, session)
    return structure


def unreadable_records(repository: Repository, folder: str, record: type[RecordT]) -> int:
    """How many objects of a folder of supplementary records cannot be used."""
    storage = repository.storage
    names = [info.name for info in storage.list(folder)]

    def is_unreadable(name: str) -> bool:
        return isinstance(read_object(storage, name, FrameKind.RECORD, record), Problem)

    return sum(in_parallel(is_unreadable, names, storage.concurrency))


def _read_all(
    repository: Repository,
    folder: str,
    kind: FrameKind,
    record: type[RecordT],
    structure: Structure,
    session: Session,
) -> Iterator[tuple[str, RecordT | Problem]]:
    """Every object of a folder by its id, or what is wrong with it, in the order of their names."""
    storage = repository.storage

    def read(object_id: str) -> tuple[str, RecordT | Problem]:
        return object_id, read_object(storage, f"{folder}/{object_id}", kind, record)

    return in_parallel(read, _objects(repository, folder, structure), storage.concurrency, session.cancel)


def _objects(repository: Repository, folder: str, structure: Structure) -> Iterator[str]:
    """The ids of all objects in a folder; files that cannot be objects are noted and passed over."""
    for info in sorted(repository.storage.list(folder), key=lambda info: info.name):
        object_id = info.name.rpartition("/")[2]
        if is_object_id(object_id):
            yield object_id
        else:
            structure.foreign.append(info.name)


def _read_index(
    repository: Repository, findings: Findings, structure: Structure, session: Session
) -> dict[str, PackRecord]:
    """What the index objects say of each pack."""
    indexed: dict[str, PackRecord] = {}
    objects = _read_all(repository, INDEX_FOLDER, FrameKind.INDEX, IndexRecord, structure, session)
    for object_id, found in objects:
        if isinstance(found, Problem):
            message = (
                f"The index object cannot be used; what it said is taken from the packs. {found.message}"
            )
            findings.add_object(object_id, Problem(message, found.tampered))
            continue
        for pack in found.packs:
            if indexed.setdefault(pack.id, pack) != pack:
                message = f"It contradicts another index object about pack {pack.id[:8]}."
                findings.add_object(object_id, Problem(message, tampered=True))
    return indexed


def _check_packs(
    repository: Repository,
    indexed: dict[str, PackRecord],
    findings: Findings,
    structure: Structure,
    session: Session,
) -> None:
    """Is every pack there, whole by its size, and in agreement with the index."""
    session.progress.stage("Looking at packs")
    known_blobs = repository.index  # loaded before the packs are listed: a pack it names was there
    for info in sorted(repository.storage.list(PACK_FOLDER), key=lambda info: info.name):
        pack_id = info.name.rpartition("/")[2]
        if is_object_id(pack_id):
            structure.sizes[pack_id] = info.size
        else:
            structure.foreign.append(info.name)
    if repository.storage.is_remote:
        # The index has asked by name for packs that some object stores list late.
        for pack_id, size in known_blobs.packs.items():
            structure.sizes.setdefault(pack_id, size)

    def look(pack: PackRecord) -> tuple[PackRecord, Problem | None]:
        return pack, _pack_problem(repository, pack, structure.sizes.get(pack.id))

    known = [pack for _, pack in sorted(indexed.items())]
    for pack, problem in in_parallel(look, known, repository.storage.concurrency, session.cancel):
        pack_id = pack.id
        if pack_id in known_blobs.packs:
            structure.packs[pack_id] = pack
        if problem is not None:
            is_gone = pack_id not in known_blobs.packs
            blobs = (Blob(blob.id, blob.kind) for blob in pack.blobs)
            findings.add_pack(pack_id, problem, blobs if is_gone else ())
    for pack in repository.unindexed_packs:
        structure.packs[pack.id] = pack
        if pack.id not in indexed:
            structure.unindexed.add(pack.id)
    for pack_id, message in repository.unreadable_packs.items():
        if pack_id not in indexed and is_object_id(pack_id):
            findings.add_pack(pack_id, Problem(f"No index object names it, and it cannot be read. {message}"))


def _pack_problem(repository: Repository, indexed: PackRecord, size: int | None) -> Problem | None:
    if size is None:
        return Problem("The pack is missing.")
    try:
        contents = repository.contents(indexed.id, size)
    except IntegrityError as error:
        if size != indexed.size:
            return Problem(f"The pack has {size} bytes where {indexed.size} are expected.")
        return Problem(f"Its blobs are found through the index, but not without it. {error.message}")
    except ZitcacheError as error:
        return Problem(explain(repository.storage, error))
    if size != indexed.size or contents.blobs != indexed.blobs:
        return Problem("Its table of contents contradicts the index.", tampered=True)
    return None
