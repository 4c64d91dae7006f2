"""What is damaged and what that costs: bad copies, broken packs, blobs of which no sound copy is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError
from zitcache.events import Session
from zitcache.repository.needs import BlobKey
from zitcache.repository.notes import BadCopy, known_bad_copies
from zitcache.repository.pack import FOLDER as PACK_FOLDER
from zitcache.repository.records import PackRecord, SnapshotRecord, TreeEntry, TreeRecord, decode_record
from zitcache.repository.repository import Repository
from zitcache.tasks.check.data import PackCheck
from zitcache.tasks.check.findings import Findings
from zitcache.tasks.check.frames import is_object_id


@dataclass(slots=True)
class Survey:
    """``bad``: copies that are wrong. ``broken``: packs that the index cannot use (id -> size), ``contents``:
    what the index said of them, if anything did. ``packs_read``: in full.
    """

    bad: set[BadCopy] = field(default_factory=set)
    broken: dict[str, int] = field(default_factory=dict)
    contents: dict[str, PackRecord] = field(default_factory=dict)
    packs_read: int = 0


def survey(
    repository: Repository, indexed: dict[str, PackRecord], session: Session, *, read_data: bool
) -> Survey:
    """Look at packs: by their sizes and contents, or byte for byte. ``indexed``: what index objects say."""
    index = repository.index
    sizes = {
        info.name.rpartition("/")[2]: info.size
        for info in repository.storage.list(PACK_FOLDER)
        if is_object_id(info.name.rpartition("/")[2])
    }
    found = Survey(bad=known_bad_copies(repository))
    found.broken = {pack: size for pack, size in sizes.items() if pack not in index.packs}
    found.contents = {pack: indexed[pack] for pack in found.broken if pack in indexed}
    if read_data:
        packs = {**indexed, **{pack.id: pack for pack in repository.unindexed_packs}}
        whole = [packs[pack] for pack in sorted(index.packs) if pack in packs]
        session.progress.stage("Reading packs", sum(pack.size for pack in whole))
        findings = Findings()
        check = PackCheck(repository, findings, session)
        check.run(whole, dict(index.packs))
        found.bad |= set(findings.bad_copies())
        found.packs_read = check.result.packs
    found.bad = {copy for copy in found.bad if copy[0] in sizes}
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a blob belongs: ``path`` as the system takes it, sizes in bytes."""

    path: str
    file_size: int
    offset: int
    length: int


@dataclass(slots=True)
class Damage:
    """What one snapshot lacks. ``files``: by (path, path_bytes), the blobs; "*" for an unreadable tree."""

    files: dict[tuple[str, str | None], set[BlobKey]] = field(default_factory=dict)

    def add(self, path: str, path_bytes: str | None, key: BlobKey) -> None:
        """A file lacks a blob."""
        self.files.setdefault((path, path_bytes), set()).add(key)


@dataclass(slots=True)
class Lost:
    """``places``: of each lost blob all places in files, as far as lists can be read. ``by_snapshot``."""

    places: dict[BlobKey, list[Place]] = field(default_factory=dict)
    by_snapshot: dict[str, Damage] = field(default_factory=dict)


def find_lost(repository: Repository, snapshots: dict[str, SnapshotRecord], session: Session) -> Lost:
    """What snapshots need and the index, bad copies taken out of it, does not have."""
    lost = Lost()
    reader = _Reader(repository, lost)
    for snapshot_id, record in snapshots.items():
        session.cancel.check()
        damage = reader.snapshot(record)
        if damage.files:
            lost.by_snapshot[snapshot_id] = damage
    return lost


class _Reader:
    def __init__(self, repository: Repository, lost: Lost) -> None:
        self._repository = repository
        self._lost = lost
        self._trees: dict[str, list[TreeEntry] | None] = {}
        self._missing: dict[str, dict[BlobKey, list[tuple[int, int]]]] = {}

    def snapshot(self, record: SnapshotRecord) -> Damage:
        damage = Damage()
        for tree in record.trees:
            entries = self._entries(tree)
            if entries is None:
                key = (tree, int(FrameKind.TREE))
                damage.add("*", None, key)
                self._lost.places.setdefault(key, [])
                continue
            for entry in entries:
                for key, ranges in self._missing_of(entry).items():
                    damage.add(entry.path, entry.path_bytes, key)
                    known = self._lost.places.setdefault(key, [])
                    new = [Place(entry.real_path, entry.size, offset, length) for offset, length in ranges]
                    known += [place for place in new if place not in known]
        return damage

    def _entries(self, tree: str) -> list[TreeEntry] | None:
        if tree not in self._trees:
            try:
                data = self._repository.load_blob(tree, FrameKind.TREE)
                self._trees[tree] = decode_record(data, TreeRecord, "tree").entries
            except IntegrityError:
                self._trees[tree] = None
        return self._trees[tree]

    def _missing_of(self, entry: TreeEntry) -> dict[BlobKey, list[tuple[int, int]]]:
        """The blobs that a file lacks, with the (offset, length) at which they belong."""
        if entry.kind != "file" or (entry.pieces is None and entry.blob is None):
            return {}
        name = entry.pieces or f"{entry.blob} {entry.size}"
        if name not in self._missing:
            self._missing[name] = dict(self._look(entry))
        return self._missing[name]

    def _look(self, entry: TreeEntry) -> Iterator[tuple[BlobKey, list[tuple[int, int]]]]:
        try:
            pieces = self._repository.piece_list(entry)
        except IntegrityError:
            if entry.pieces is not None:
                yield (entry.pieces, int(FrameKind.PIECES)), [(0, entry.size)]
            return
        offset = 0
        ranges: dict[BlobKey, list[tuple[int, int]]] = {}
        for length, blob in pieces:
            if not self._repository.index.has(blob, FrameKind.DATA):
                ranges.setdefault((blob, int(FrameKind.DATA)), []).append((offset, length))
            offset += length
        yield from ranges.items()
