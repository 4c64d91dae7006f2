"""A repository: create, open, read blobs, write index and snapshots.

The one commit point: packs, then the index object, then the snapshot object. A reader takes the snapshots
first and the index after them, so whatever a snapshot names is in the index that is read.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from zitcache.codec.blob import EncodedBlob, blob_id, decode_expected, encode_metadata
from zitcache.codec.frame import FrameKind
from zitcache.errors import (
    BlobDamaged,
    IntegrityError,
    ObjectNotFound,
    RepositoryNotFound,
    UnsupportedFormat,
    UsageError,
    ZitcacheError,
)
from zitcache.events import Cancel
from zitcache.repository import pack as packs
from zitcache.repository.growing import GrowingIndex
from zitcache.repository.index import Index, Location
from zitcache.repository.objects import MAX_METADATA_SIZE, OBJECT_ID, load_object, load_objects
from zitcache.repository.records import (
    FORMAT_VERSION,
    CuttingRules,
    IndexRecord,
    PackRecord,
    PieceList,
    RecordT,
    RepositoryConfig,
    SnapshotRecord,
    TreeEntry,
    TreeRecord,
    decode_record,
)
from zitcache.repository.saver import Saver
from zitcache.repository.trees import check_entries
from zitcache.storage.cached import CachedStorage
from zitcache.storage.metadata_cache import MetadataCache, default_directory
from zitcache.storage.parallel import in_parallel
from zitcache.storage.protocol import Storage
from zitcache.storage.traits import StorageTraits, adapt_storage

CONFIG = "config"
INDEX_FOLDER = "index"
SNAPSHOT_FOLDER = "snapshots"
KNOWN_FEATURES: frozenset[str] = frozenset()
MAX_CONFIG_SIZE = 1 << 20
MAX_REMEMBERED_SIZE = 32 << 20
_BLOBS = "blobs"
LOCAL_PACK_SIZE = 64 << 20
REMOTE_PACK_SIZE = 32 << 20
"""Of new repositories. A pack waits in memory while it is sent, and several are on their way at once."""
MAX_INDEX_BLOBS = 1 << 20
"""Blobs in one index object, which has some 100 bytes for each: far below what a frame may hold."""
_INDEX_ROUNDS = 5
"""How often the list of index objects is read anew because some were replaced meanwhile."""


class Repository:
    """An open repository. Reading is safe from many threads."""

    def __init__(
        self, storage: Storage, config: RepositoryConfig, cache: MetadataCache | None = None
    ) -> None:
        self.storage = storage
        self.config = config
        self._cache = cache or MetadataCache(None, config.id)
        self._index: Index | None = None
        self._growing: GrowingIndex | None = None
        self._index_lock = threading.Lock()
        self._metadata_lock = threading.Lock()
        self._metadata: dict[tuple[str, FrameKind], bytes] = {}
        self._metadata_bytes = 0
        self._distrusted_packs: set[str] = set()
        self._distrusted_copies: set[tuple[str, str, int]] = set()
        self.unindexed_packs: list[PackRecord] = []
        self.unreadable_packs: dict[str, str] = {}
        self.unreadable_index: dict[str, str] = {}

    # -- making and opening -------------------------------------------------------------------------

    @classmethod
    def create(
        cls, storage: Storage, *, cutting: CuttingRules | None = None, traits: StorageTraits | None = None
    ) -> Repository:
        """Make a new repository. Raises :class:`UsageError` if there is one already.

        ``traits``: what a probe found out about the endpoint of a remote one.
        """
        adapt_storage(storage, traits)
        config = RepositoryConfig(
            id=os.urandom(16).hex(),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            cutting=cutting or CuttingRules(),
            pack_size=REMOTE_PACK_SIZE if storage.is_remote else LOCAL_PACK_SIZE,
            storage=traits or msgspec.UNSET,
        )
        data = msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"
        if not storage.create(CONFIG, data):
            raise UsageError(
                f"{storage.location} already holds a repository.",
                hint=f"Use it: zitcache backup --repo {shlex.quote(storage.location)}",
            )
        return cls(storage, config)

    @classmethod
    def open(cls, storage: Storage) -> Repository:
        """Open a repository.

        Raises :class:`RepositoryNotFound`, :class:`UnsupportedFormat` for a later version or an unknown
        feature, :class:`IntegrityError` if its config is damaged.
        """
        try:
            data = storage.load(CONFIG, 0, MAX_CONFIG_SIZE)
        except ObjectNotFound:
            remains = [folder for folder in (packs.FOLDER, SNAPSHOT_FOLDER) if any(storage.list(folder))]
            if remains:
                raise IntegrityError(
                    f"The repository in {storage.location} lost its config (it has {', '.join(remains)}).",
                    hint="Copy the file `config` back if there is a copy, or make a new one: zitcache repair",
                ) from None
            raise RepositoryNotFound(
                f"There is no repository in {storage.location}.",
                hint=f"Create it: zitcache init {shlex.quote(storage.location)}",
            ) from None
        probe = decode_record(data, _Probe, "repository's config")
        if probe.format != "zitcache":
            raise RepositoryNotFound(f"{storage.location} is not a zitcache repository.")
        if probe.version != FORMAT_VERSION:
            raise UnsupportedFormat(
                f"The repository in {storage.location} has format version {probe.version}; "
                f"this zitcache reads version {FORMAT_VERSION}."
            )
        config = decode_record(data, RepositoryConfig, "repository's config")
        unknown = set(config.features) - KNOWN_FEATURES
        if unknown:
            raise UnsupportedFormat(
                f"The repository in {storage.location} needs features this zitcache does not know: "
                f"{', '.join(sorted(unknown))}."
            )
        if not storage.is_remote:
            return cls(storage, config)
        adapt_storage(storage, config.storage or None)
        cache = MetadataCache(default_directory(), config.id)
        return cls(CachedStorage(storage, cache), config, cache)

    def over(self, storage: Storage) -> Repository:
        """The same repository seen through ``storage``, which wraps that of this one."""
        return Repository(storage, self.config, self._cache)

    # -- index --------------------------------------------------------------------------------------

    @property
    def index(self) -> Index:
        """The index of all packs, loaded once, packs that no index object names included."""
        with self._index_lock:
            if self._index is None:
                growing = self._growing
                try:
                    self._index = growing.result() if growing is not None else self._load_index(Index())
                finally:
                    self._growing = None
            return self._index

    def prefetch_index(self) -> None:
        """Begin to load the index of a remote repository: blobs can be read as soon as it is known where.

        Snapshots that are to be read were listed before: see the order above.
        """
        with self._index_lock:
            if self.storage.is_remote and self._index is None and self._growing is None:
                self._growing = GrowingIndex(self._load_index)

    def locate(self, wanted: str, kind: FrameKind = FrameKind.DATA) -> Location | None:
        """Where a copy of a blob lies, as soon as that is known; None if there is none."""
        for index in self._indexes_for(wanted):
            for location in index.locations(wanted):
                if location.kind == kind:
                    return location
        return None

    def _indexes_for(self, wanted: str) -> Iterator[Index]:
        """The part of the index that knows a blob, if it is still being loaded, and then all of it."""
        growing = self._growing
        part = growing.wait_for(wanted) if growing is not None else None
        if part is not None:
            yield part
        yield self.index

    def reload_index(self, known: Index | None = None) -> Index:
        """The index as it is now; with ``known``, only if nobody has loaded a newer one than that."""
        with self._index_lock:
            if self._index is None or known is None or self._index is known:
                self._index, self._growing = self._load_index(Index()), None
            return self._index

    def distrust_packs(self, pack_ids: Iterable[str]) -> None:
        """Take these packs for lost, now and after a reload, so that all they hold is stored again."""
        gone = set(pack_ids)
        self._distrusted_packs |= gone
        self.index.forget_packs(gone)

    def distrust_copies(self, copies: Iterable[tuple[str, str, int]]) -> None:
        """Take copies (pack id, blob id, kind) for lost, now and after a reload: see ``notes``."""
        bad = set(copies)
        self._distrusted_copies |= bad
        if bad:
            self.index.forget_copies(bad)

    def _load_index(self, index: Index, grown: Callable[[], None] = lambda: None) -> Index:
        self.unindexed_packs, self.unreadable_packs, self.unreadable_index = [], {}, {}
        # Index objects first, packs after: a pack that is named but absent really is gone.
        self._read_index_objects(index, grown)
        present = self._object_ids(packs.FOLDER)
        index.forget_packs(self._gone(index.packs, present))
        unknown = {pack_id: size for pack_id, size in sorted(present.items()) if pack_id not in index.packs}
        for pack_id, found in self.contents_of(unknown):
            if isinstance(found, IntegrityError):
                self.unreadable_packs[pack_id] = found.message
            elif isinstance(found, PackRecord):  # else it was deleted since it was listed
                self.unindexed_packs.append(found)
                index.add_pack(found)
                grown()
        index.forget_packs(self._distrusted_packs)
        if self._distrusted_copies:
            index.forget_copies(self._distrusted_copies)
        return index

    def _gone(self, named: Mapping[str, int], present: Mapping[str, int]) -> list[str]:
        """Those of the packs that index objects name (id -> size) that are not among those listed.

        Some object stores list new objects late: what is not listed is asked for by its name.
        """
        absent = [pack_id for pack_id, size in named.items() if present.get(pack_id) != size]
        if not self.storage.is_remote:
            return absent

        def is_there(pack_id: str) -> bool:
            try:
                return self.storage.info(packs.pack_name(pack_id)).size == named[pack_id]
            except ObjectNotFound:
                return False

        found = in_parallel(is_there, absent, self.storage.concurrency)
        return [pack_id for pack_id, is_whole in zip(absent, found, strict=True) if not is_whole]

    def contents(self, pack_id: str, size: int) -> PackRecord:
        """The table of contents of a pack of ``size`` bytes. Raises :class:`IntegrityError`, …"""
        return packs.read_contents_with(self._cache, self.storage, pack_id, size)

    def contents_of(
        self, sizes: Mapping[str, int]
    ) -> Iterator[tuple[str, PackRecord | IntegrityError | ObjectNotFound]]:
        """The tables of contents of packs (id -> size in bytes), in that order, or why one cannot be read.

        Those of a remote repository are read once and kept by this machine.
        """

        def read(pack: tuple[str, int]) -> tuple[str, PackRecord | IntegrityError | ObjectNotFound]:
            try:
                return pack[0], self.contents(*pack)
            except (IntegrityError, ObjectNotFound) as error:
                return pack[0], error

        return in_parallel(read, sizes.items(), self.storage.concurrency)

    def _read_index_objects(self, index: Index, grown: Callable[[], None]) -> None:
        """Learn what all index objects say, those included that replace some while they are read."""
        seen: set[str] = set()
        for _ in range(_INDEX_ROUNDS):
            vanished = False
            new = [info for info in self.storage.list(INDEX_FOLDER) if info.name not in seen]
            seen.update(info.name for info in new)
            for name, found in load_objects(self.storage, new, FrameKind.INDEX, IndexRecord):
                if isinstance(found, ObjectNotFound):
                    vanished = True
                elif isinstance(found, IntegrityError):
                    # Not fatal: the packs themselves say what they hold.
                    self.unreadable_index[name] = found.message
                else:
                    index.add_packs(found.packs)
                    grown()
            if not vanished:
                return

    def write_index(self, new_packs: Iterable[PackRecord]) -> list[str]:
        """Record packs in new index objects, almost always one; their ids. Nothing is written for none."""
        written: list[str] = []
        part: list[PackRecord] = []
        blobs = 0
        for pack in {pack.id: pack for pack in new_packs}.values():
            if part and blobs + len(pack.blobs) > MAX_INDEX_BLOBS:
                written.append(self._store_object(INDEX_FOLDER, FrameKind.INDEX, IndexRecord(packs=part)))
                part, blobs = [], 0
            part.append(pack)
            blobs += len(pack.blobs)
        if part:
            written.append(self._store_object(INDEX_FOLDER, FrameKind.INDEX, IndexRecord(packs=part)))
            self.unindexed_packs = []
        return written

    def load_index_object(self, name: str) -> IndexRecord:
        """One index object by its full name. Raises ``ObjectNotFound`` or :class:`IntegrityError`."""
        return self._load_object(name, FrameKind.INDEX, IndexRecord)

    def objects(self, folder: str) -> list[tuple[str, float]]:
        """Name and time of writing of every object in a folder, by name; foreign files are left out."""
        return sorted(
            (info.name, info.modified)
            for info in self.storage.list(folder)
            if OBJECT_ID.fullmatch(info.name.rpartition("/")[2])
        )

    def pack_sizes(self) -> dict[str, int]:
        """Id and size in bytes of every pack that is there now."""
        return self._object_ids(packs.FOLDER)

    def _object_ids(self, folder: str) -> dict[str, int]:
        """Id and size of every object in a folder. A file that is named by no id is not an object of ours."""
        found = {info.name.rpartition("/")[2]: info.size for info in self.storage.list(folder)}
        return {object_id: size for object_id, size in found.items() if OBJECT_ID.fullmatch(object_id)}

    # -- objects that are one frame -----------------------------------------------------------------

    def _store_object(self, folder: str, kind: FrameKind, record: msgspec.Struct) -> str:
        object_id, frame = _object(record, kind)
        self.storage.store(f"{folder}/{object_id}", frame)
        return object_id

    def _load_object(self, name: str, kind: FrameKind, record: type[RecordT]) -> RecordT:
        return load_object(self.storage, name, kind, record)

    def store_record(self, folder: str, record: msgspec.Struct) -> str:
        """Store a supplementary record (digests, checks) and return its id."""
        return self._store_object(folder, FrameKind.RECORD, record)

    def load_record(self, name: str, kind: type[RecordT]) -> RecordT:
        """One supplementary record by its full name. Raises ``ObjectNotFound``, :class:`IntegrityError`."""
        return self._load_object(name, FrameKind.RECORD, kind)

    def load_records(self, folder: str, kind: type[RecordT]) -> list[RecordT]:
        """All readable records of a folder, in no order. They are conveniences: a damaged one is skipped."""
        return [record for _, record in self.load_records_by_id(folder, kind)]

    def load_records_by_id(self, folder: str, kind: type[RecordT]) -> list[tuple[str, RecordT]]:
        """As :meth:`load_records`, each with the id that :meth:`store_record` gave."""
        infos = list(self.storage.list(folder))
        return [
            (name.rpartition("/")[2], found)
            for name, found in load_objects(self.storage, infos, FrameKind.RECORD, kind)
            if not isinstance(found, ZitcacheError)
        ]

    # -- blobs --------------------------------------------------------------------------------------

    def saver(self, streams: int) -> Saver:
        """A place to save new blobs, with ``streams`` packs open at a time."""
        return Saver(self.storage, self.index, self.config.pack_size, streams)

    def load_blob(self, wanted: str, kind: FrameKind = FrameKind.DATA) -> bytes:
        """A blob's content, its id checked. Raises :class:`BlobDamaged` if no sound copy of it exists."""
        remembered = self.remembered(wanted, kind)
        if remembered is not None:
            return remembered
        problem = "it is missing"
        for index in self._indexes_for(wanted):
            sizes = {at.raw_size for at in index.locations(wanted) if at.kind == kind}
            if sizes:
                break
        # One size, unless somebody forged a second entry: the id decides which is right.
        for size in sorted(sizes):
            out = bytearray(size)
            try:
                self.load_blob_into(wanted, memoryview(out), kind=kind)
            except BlobDamaged as error:
                problem = error.message
                continue
            return self._keep(wanted, kind, bytes(out))
        raise BlobDamaged(f"Blob {wanted[:8]} cannot be read: {problem}")

    def load_blob_into(
        self,
        wanted: str,
        out: memoryview,
        *,
        kind: FrameKind = FrameKind.DATA,
        scratch: memoryview | None = None,
    ) -> int:
        """Decode a blob into ``out`` (exactly its size) and check its id; returns the bytes read.

        ``scratch`` (any size) takes the encoded bytes if they fit. Raises :class:`BlobDamaged`.
        """
        problem, vanished, index = "it is missing", False, None
        for index in self._indexes_for(wanted):
            length, problem, vanished = self._try_copies(index, wanted, out, kind, scratch)
            if length is not None:
                return length
        if vanished:
            # Another machine may have put the pack's blobs into a new one since the index was read.
            length, problem, _ = self._try_copies(self.reload_index(index), wanted, out, kind, scratch)
            if length is not None:
                return length
        raise BlobDamaged(f"Blob {wanted[:8]} cannot be read: {problem}.")

    def _try_copies(
        self, index: Index, wanted: str, out: memoryview, kind: FrameKind, scratch: memoryview | None
    ) -> tuple[int | None, str, bool]:
        """The length of the first sound copy's frame; else why there is none, and whether a pack was gone."""
        problem, vanished = "it is missing", False
        for location in index.locations(wanted):
            if location.kind != kind:
                continue
            if location.raw_size != len(out):
                problem = f"it has {location.raw_size} bytes where {len(out)} are expected"
                continue
            try:
                self._decode_at(wanted, location, out, kind, scratch)
            except (IntegrityError, ObjectNotFound) as error:
                problem = f"pack {location.pack[:8]}, offset {location.offset}: {error.message}"
                vanished = vanished or isinstance(error, ObjectNotFound)
                continue
            return location.length, "", False
        return None, problem, vanished

    def _decode_at(
        self, wanted: str, location: Location, out: memoryview, kind: FrameKind, scratch: memoryview | None
    ) -> None:
        if location.length > MAX_METADATA_SIZE * 4:
            raise IntegrityError("The index claims an impossible size.")
        if scratch is None or len(scratch) < location.length:
            scratch = memoryview(bytearray(location.length))
        frame = scratch[: location.length]
        try:
            self._read_frame(wanted, location, frame, kind, out)
        except IntegrityError:
            # A byte may have been turned over on its way here.
            if not self.storage.is_remote:
                raise
            self._read_frame(wanted, location, frame, kind, out)

    def _read_frame(
        self, wanted: str, location: Location, frame: memoryview, kind: FrameKind, out: memoryview
    ) -> None:
        self.storage.load_into(packs.pack_name(location.pack), location.offset, frame)
        decode_expected(frame, wanted, kind, out)

    def save_metadata(self, saver: Saver, record: msgspec.Struct, kind: FrameKind) -> str:
        """Save a piece list or tree as a blob and return its id; stored once however often it is saved."""
        data = msgspec.json.encode(record)
        identity = blob_id(data).hex()
        if saver.claim(identity, kind):
            encoded: EncodedBlob = encode_metadata(data, kind)
            saver.save(encoded)
        self._keep(identity, kind, data)
        return identity

    def remembered(self, wanted: str, kind: FrameKind) -> bytes | None:
        """A tree or piece list that was read or written before, by this process or (remote) this machine."""
        if kind is FrameKind.DATA:
            return None
        known = self._metadata.get((wanted, kind))
        if known is None:
            known = self._cache.get(_BLOBS, wanted)
            if known is not None:
                self._remember(wanted, kind, known)
        return known

    def _keep(self, identity: str, kind: FrameKind, data: bytes) -> bytes:
        if kind is not FrameKind.DATA:
            self._remember(identity, kind, data)
            self._cache.put(_BLOBS, identity, data)
        return data

    def _remember(self, identity: str, kind: FrameKind, data: bytes) -> None:
        """Keep trees and piece lists: a backup needs them when it plans and again when it commits."""
        with self._metadata_lock:
            if self._metadata_bytes + len(data) > MAX_REMEMBERED_SIZE:
                self._metadata, self._metadata_bytes = {}, 0
            if (identity, kind) not in self._metadata:
                self._metadata[identity, kind] = data
                self._metadata_bytes += len(data)

    def learn_metadata(self, other: Repository, blobs: Iterable[tuple[str, int]]) -> None:
        """Take over trees and piece lists that ``other`` remembers: their ids say that they are right."""
        for identity, number in blobs:
            kind = FrameKind(number)
            known = other.remembered(identity, kind)
            if known is not None:
                self._keep(identity, kind, known)

    def fetch_metadata(self, blobs: Iterable[tuple[str, FrameKind]], cancel: Cancel | None = None) -> None:
        """Read trees and piece lists that are going to be asked for, many at once where that pays.

        One that cannot be read is passed over: whoever asks for it is told. Does nothing for a local disk.
        """
        if not self.storage.is_remote:
            return

        def load(blob: tuple[str, FrameKind]) -> None:
            with contextlib.suppress(IntegrityError):
                self.load_blob(*blob)

        for _ in in_parallel(load, dict.fromkeys(blobs), self.storage.concurrency, cancel):
            pass

    def piece_list(self, entry: TreeEntry) -> list[tuple[int, str]]:
        """Length and blob id of every piece of a file, in order. Raises :class:`IntegrityError`."""
        if entry.pieces is not None:
            data = self.load_blob(entry.pieces, FrameKind.PIECES)
            found = decode_record(data, PieceList, f"piece list of {entry.path}")
            if found.size != entry.size or sum(length for length, _ in found.pieces) != entry.size:
                raise IntegrityError(f"The piece list of {entry.path} does not add up to its size.")
            return found.pieces
        if entry.blob is not None:
            return [(entry.size, entry.blob)]
        if entry.size:
            raise IntegrityError(f"{entry.path} has a size but no content.")
        return []

    # -- snapshots ----------------------------------------------------------------------------------

    def write_snapshot(self, record: SnapshotRecord) -> str:
        """Write a snapshot's object, whatever it names. Whoever makes one for keeps uses ``committing``."""
        return self._store_object(SNAPSHOT_FOLDER, FrameKind.SNAPSHOT, record)

    def snapshot_object(self, record: SnapshotRecord) -> tuple[str, bytes]:
        """The id and the bytes that :meth:`write_snapshot` would give it."""
        return _object(record, FrameKind.SNAPSHOT)

    def load_snapshot(self, snapshot_id: str) -> SnapshotRecord:
        """One snapshot by its full id. Raises ``ObjectNotFound`` or :class:`IntegrityError`."""
        return self._load_object(f"{SNAPSHOT_FOLDER}/{snapshot_id}", FrameKind.SNAPSHOT, SnapshotRecord)

    def load_snapshots(self) -> Iterator[tuple[str, SnapshotRecord | IntegrityError | ObjectNotFound]]:
        """All snapshots by their ids, or why one cannot be read. In no order."""
        infos = [
            info
            for info in self.storage.list(SNAPSHOT_FOLDER)
            if OBJECT_ID.fullmatch(info.name.rpartition("/")[2])
        ]
        for name, found in load_objects(self.storage, infos, FrameKind.SNAPSHOT, SnapshotRecord):
            yield name.rpartition("/")[2], found

    def snapshot_ids(self) -> list[str]:
        """The ids of all snapshots, in no order."""
        return list(self._object_ids(SNAPSHOT_FOLDER))

    def tree(self, snapshot: SnapshotRecord) -> list[TreeEntry]:
        """All entries of a snapshot, checked: no path leaves the cache, none lies below a file or a link.

        Raises :class:`BlobDamaged` or :class:`IntegrityError`.
        """
        if len(set(snapshot.trees)) != len(snapshot.trees):
            raise IntegrityError("The snapshot lists a part of its tree twice.")
        entries: list[TreeEntry] = []
        self.fetch_metadata((tree_id, FrameKind.TREE) for tree_id in snapshot.trees)
        for tree_id in snapshot.trees:
            data = self.load_blob(tree_id, FrameKind.TREE)
            entries.extend(decode_record(data, TreeRecord, "tree of a snapshot").entries)
        check_entries(entries, snapshot.real_cache)
        return entries


def _object(record: msgspec.Struct, kind: FrameKind) -> tuple[str, bytes]:
    """Id and bytes of an object that is one frame."""
    frame = encode_metadata(msgspec.json.encode(record), kind).to_bytes()
    return blob_id(frame).hex(), frame


class _Probe(msgspec.Struct):
    """What every version's config has in common."""

    format: str = ""
    version: int = 0
