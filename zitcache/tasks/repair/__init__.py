"""``repair``: mend a repository as far as it goes, and write down what it lost.

``config``: a lost config · ``aside``: broken small objects go to quarantine · ``survey``: what is damaged
and what that costs · ``salvage``: sound blobs out of broken packs · ``healing``: lost blobs out of the live
cache · ``losses``: the notes beside snapshots. Here: their order and the report.

Nothing is deleted but notes that were replaced; broken objects are moved, and broken packs stay until a prune
finds that nobody misses anything of them. Each step can be repeated: a repair that was stopped is run again.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zitcache.cache.environment import LocatedCache
from zitcache.errors import CacheNotFound, Exit, IntegrityError, ObjectNotFound, UsageError
from zitcache.events import Outcome, Session
from zitcache.repository.locks import PruneLock
from zitcache.repository.marks import FORGOTTEN_FOLDER, ForgottenRecord
from zitcache.repository.needs import BlobKey
from zitcache.repository.notes import record_bad_copies
from zitcache.repository.records import PackRecord, SnapshotRecord
from zitcache.repository.repository import INDEX_FOLDER, Repository
from zitcache.tasks.locations import locate
from zitcache.tasks.repair.aside import Aside, SetAside, set_broken_objects_aside
from zitcache.tasks.repair.config import open_for_repair
from zitcache.tasks.repair.healing import Healed, heal_from
from zitcache.tasks.repair.losses import note_losses
from zitcache.tasks.repair.salvage import salvage
from zitcache.tasks.repair.survey import Damage, Lost, Place, Survey, find_lost, survey


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """``cache``: where to look for lost blobs; None to find it. ``read_data``: read every pack first."""

    repository: str | None = None
    cache: str | None = None
    read_data: bool = False
    dry_run: bool = False


class DamagedSnapshot(msgspec.Struct, kw_only=True):
    """``files``: paths that cannot be brought back whole; "*" stands for an unreadable part of the tree."""

    id: str
    time: str
    files: list[str]


class RepairReport(msgspec.Struct, kw_only=True):
    """Counts and bytes. In a dry run: what would be done.

    ``set_aside``: broken objects that were moved to quarantine. ``packs_indexed``: newly named in the index.
    ``packs_broken``: packs that cannot be used as they are; ``bytes_salvaged``: of blobs taken out of them.
    ``copies_damaged``: copies of blobs in usable packs that are known to be wrong. ``blobs_lost``: needed,
    and in no usable pack when the repair began; ``blobs_healed``/``bytes_healed``: of these, found in the
    cache and stored anew. ``snapshots_damaged``: those that lack something now; ``snapshots_healed``: ids of
    those that were, and are whole again.
    """

    repository: str
    cache: str | None
    config_rebuilt: bool
    set_aside: list[SetAside]
    packs_indexed: int
    packs_broken: int
    packs_read: int
    bytes_salvaged: int
    copies_damaged: int
    blobs_lost: int
    blobs_healed: int
    bytes_healed: int
    snapshots: int
    snapshots_damaged: list[DamagedSnapshot]
    snapshots_healed: list[str]
    seconds: float
    dry_run: bool = False


def repair(request: RepairRequest, session: Session) -> Outcome[RepairReport]:
    """Mend what can be mended.

    Exit codes: 0 if every snapshot that is listed is whole; 1 if something is lost, or could not even be
    set aside. Raises ``RepositoryNotFound``, ``Locked`` where a prune is at work, ``NoSpace``, ….
    """
    started = time.monotonic()
    aside = Aside(dry_run=request.dry_run)
    cache = _cache(request, session)
    repository, config_rebuilt = open_for_repair(request.repository, aside, session, dry_run=request.dry_run)
    lock = contextlib.nullcontext() if request.dry_run else PruneLock(repository)
    with lock:
        set_broken_objects_aside(repository, aside, session)
        report = _Repair(request, repository, cache, aside, session).run()
    report.config_rebuilt = config_rebuilt
    report.seconds = time.monotonic() - started
    is_broken = report.snapshots_damaged or any(each.place is None for each in aside.moved)
    exit_code = Exit.DAMAGE if is_broken else Exit.OK
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


def _cache(request: RepairRequest, session: Session) -> Path | None:
    """Where to look for lost blobs. One that was named has to be there; else it may be missing."""
    try:
        located: LocatedCache = locate(request.cache, session)
    except (CacheNotFound, UsageError):
        if request.cache is not None:
            raise
        return None
    return None if located.is_empty else located.path


@dataclass(slots=True)
class _Repair:
    request: RepairRequest
    repository: Repository
    cache: Path | None
    aside: Aside
    session: Session

    def run(self) -> RepairReport:
        """Everything behind the small objects."""
        repository, session, dry = self.repository, self.session, self.request.dry_run
        indexed, headless = self._indexed()
        repository.reload_index()
        # What it holds is stored anew, so that the index is not the only one to know what that is.
        repository.distrust_packs(headless)
        found = survey(repository, indexed, session, read_data=self.request.read_data)
        unindexed = list(repository.unindexed_packs)
        if not dry:
            record_bad_copies(repository, found.bad)
            repository.write_index(unindexed)
        repository.distrust_copies(found.bad)
        snapshots, listed = self._snapshots()
        session.progress.stage("Looking at what the snapshots need")
        lost = find_lost(repository, snapshots, session)
        salvaged, healed = self._mend(found, lost)
        if headless and not dry:
            record_bad_copies(
                repository,
                [(pack, blob.id, blob.kind) for pack in headless for blob in indexed[pack].blobs],
            )
        if (salvaged or healed.blobs) and not dry:
            repository.reload_index()
            lost_now = find_lost(repository, snapshots, session)
        else:
            lost_now = _without(lost, healed)
        damaged = {
            snapshot: damage for snapshot, damage in lost_now.by_snapshot.items() if snapshot in listed
        }
        healed_snapshots = note_losses(repository, damaged, listed, dry_run=dry)
        self._say(damaged)
        return RepairReport(
            repository=repository.storage.location,
            cache=None if self.cache is None else str(self.cache),
            config_rebuilt=False,
            set_aside=self.aside.moved,
            packs_indexed=len(unindexed),
            packs_broken=len(found.broken),
            packs_read=found.packs_read,
            bytes_salvaged=salvaged,
            copies_damaged=len(found.bad),
            blobs_lost=len(lost.places),
            blobs_healed=len(healed.blobs),
            bytes_healed=healed.bytes_found,
            snapshots=len(listed),
            snapshots_damaged=[
                DamagedSnapshot(
                    id=snapshot,
                    time=snapshots[snapshot].time,
                    files=sorted(path for path, _ in damage.files),
                )
                for snapshot, damage in sorted(damaged.items(), key=lambda item: snapshots[item[0]].time)
            ],
            snapshots_healed=healed_snapshots,
            seconds=0.0,
            dry_run=dry,
        )

    def _indexed(self) -> tuple[dict[str, PackRecord], set[str]]:
        """What index objects say; one that contradicts a pack's own table of contents is set aside.

        And the packs of which only the index can tell what they hold.
        """
        repository = self.repository
        sizes = repository.pack_sizes()
        said: dict[str, list[tuple[str, PackRecord]]] = {}
        for name, _ in repository.objects(INDEX_FOLDER):
            try:
                record = repository.load_index_object(name)
            except (IntegrityError, ObjectNotFound):
                continue  # set aside already, or only in a dry run not yet
            for pack in record.packs:
                said.setdefault(pack.id, []).append((name, pack))
        lying: dict[str, str] = {}
        headless: set[str] = set()
        self.session.progress.stage("Comparing the index with the packs")
        present = {pack: sizes[pack] for pack in sorted(said) if pack in sizes}
        for pack_id, contents in repository.contents_of(present):
            self.session.cancel.check()
            if isinstance(contents, IntegrityError):
                headless.add(pack_id)
            if not isinstance(contents, PackRecord):
                continue
            for name, pack in said[pack_id]:
                if pack != contents:
                    lying[name] = f"It contradicts the table of contents of pack {pack_id[:8]}."
        for name, problem in sorted(lying.items()):
            self.aside.move(repository.storage, name, repository.storage.load(name), problem)
        indexed = {
            pack_id: pack for pack_id, records in said.items() for name, pack in records if name not in lying
        }
        return indexed, {pack for pack in headless & indexed.keys() if indexed[pack].size == sizes.get(pack)}

    def _snapshots(self) -> tuple[dict[str, SnapshotRecord], set[str]]:
        """All that can be read, forgotten ones included, and the ids of those that are listed."""
        repository = self.repository
        found: dict[str, SnapshotRecord] = {}
        for snapshot_id in repository.snapshot_ids():
            with contextlib.suppress(IntegrityError, ObjectNotFound):
                found[snapshot_id] = repository.load_snapshot(snapshot_id)
        listed = set(found)
        for note in repository.load_records(FORGOTTEN_FOLDER, ForgottenRecord):
            with contextlib.suppress(IntegrityError):
                found.setdefault(note.snapshot, note.snapshot_record())
        return found, listed

    def _mend(self, found: Survey, lost: Lost) -> tuple[int, Healed]:
        """Salvage, then heal: bytes taken out of broken packs, and what the cache gave."""
        repository, session = self.repository, self.session
        if self.request.dry_run:
            healed = Healed()
            if lost.places and self.cache is not None:
                healed = heal_from(self.cache, lost.places, repository, None, session)
            return salvage(repository, None, found.broken, session), healed
        salvaged = 0
        if found.broken:
            with repository.saver(1) as saver:
                salvaged = salvage(repository, saver, found.broken, session)
                repository.write_index(saver.finish())
        if not lost.places or self.cache is None:
            if lost.places:
                session.warn(
                    "no-cache",
                    "Blobs are lost, and no model cache was found to look for them.",
                    "Name it: zitcache repair --cache /path/to/the/cache",
                )
            return salvaged, Healed()
        missing = {key: places for key, places in lost.places.items() if not repository.index.has(*key)}
        healed = self._heal(missing)
        # A piece list that was found again names pieces of which nobody knew that they are lost.
        more = find_lost(repository, self._snapshots()[0], session).places
        if more.keys() - missing.keys():
            again = self._heal(more)
            healed.blobs |= again.blobs
            healed.bytes_found += again.bytes_found
        return salvaged, healed

    def _heal(self, missing: dict[BlobKey, list[Place]]) -> Healed:
        assert self.cache is not None
        with self.repository.saver(1) as saver:
            healed = heal_from(self.cache, missing, self.repository, saver, self.session)
            self.repository.write_index(saver.finish())
        return healed

    def _say(self, damaged: dict[str, Damage]) -> None:
        for snapshot, damage in damaged.items():
            paths = sorted(path for path, _ in damage.files)
            names = ", ".join(paths[:3]) + (" …" if len(paths) > 3 else "")
            self.session.warn(
                "snapshot-damaged",
                f"Snapshot {snapshot[:8]} has lost parts of {len(paths)} files: {names}.",
                "If another place has these files whole: zitcache repair --cache THAT_PLACE",
            )


def _without(lost: Lost, healed: Healed) -> Lost:
    """What would be lost still, once ``healed`` was stored."""
    rest = Lost(places={key: places for key, places in lost.places.items() if key not in healed.blobs})
    for snapshot, damage in lost.by_snapshot.items():
        left = Damage({name: keys - healed.blobs for name, keys in damage.files.items()})
        left.files = {name: keys for name, keys in left.files.items() if keys}
        if left.files:
            rest.by_snapshot[snapshot] = left
    return rest


__all__ = ["DamagedSnapshot", "RepairReport", "RepairRequest", "SetAside", "repair"]
