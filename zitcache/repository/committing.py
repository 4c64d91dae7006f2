"""Committing a snapshot while others delete: claim, look, write.

The writer's half of docs/FORMAT.md, "Deleting". The sweeper publishes what it is about to delete, *then*
looks for claims and snapshots. The writer publishes what it needs, *then* looks for sweeps and for the packs
themselves. Whichever looks second sees the other, so no snapshot is committed whose packs are going away,
whatever the clocks say and however long a backup runs.
"""

from __future__ import annotations

import contextlib
import socket
import time

from zitcache.errors import BlobDamaged, Exit, IntegrityError, ZitcacheError
from zitcache.repository.index import Index, Location
from zitcache.repository.lag import may_lag
from zitcache.repository.marks import (
    CLAIM_FOLDER,
    SWEEP_FOLDER,
    ClaimRecord,
    SweepRecord,
    load_notes,
    nonce,
    now,
)
from zitcache.repository.needs import BlobKey, Needs
from zitcache.repository.records import SnapshotRecord
from zitcache.repository.repository import SNAPSHOT_FOLDER, Repository

_TRIES = 20
_STALE_LOOK_SECONDS = 600
"""After this long, asleep or not, a look at the sweeps is taken again before anything rests on it."""


class PacksGone(IntegrityError):
    """Packs that the snapshot needs were deleted while it was made."""

    exit_code = Exit.UNREACHABLE
    code = "packs-gone"
    default_hint = "Run the same command again: it stores what is missing."

    def __init__(self, missing: set[BlobKey]) -> None:
        self.missing = missing
        what = f"{len(missing)} blobs" if missing else "Blobs"
        super().__init__(f"{what} that the snapshot needs were deleted by a prune.")


def commit_snapshot(repository: Repository, record: SnapshotRecord) -> str:
    """Write a snapshot, everything that it names being durable and indexed already; returns its id.

    Raises :class:`PacksGone` if a pack that it needs is being deleted or is gone, and no other holds the
    same blobs; then there is no snapshot, and storing the missing blobs anew will do.
    """
    snapshot_id, data = repository.snapshot_object(record)
    return commit_object(repository, snapshot_id, data, record)


def commit_object(
    repository: Repository,
    snapshot_id: str,
    data: bytes,
    record: SnapshotRecord,
    *,
    lost: frozenset[BlobKey] = frozenset(),
) -> str:
    """As :func:`commit_snapshot`, for an object that exists already: undelete and copy.

    ``lost``: blobs that it is known to lack; it is written without them.
    """
    needs = Needs(repository)
    try:
        needs.add(record)
    except BlobDamaged as error:
        raise PacksGone(set()) from error
    needs.blobs -= lost
    for _ in range(_TRIES):
        chosen = _choose_packs(repository, needs.blobs)
        claim = _claim(repository, snapshot_id, chosen)
        looked = _awake_or_asleep()
        gone = _going_or_gone(repository, chosen)
        if not gone and _awake_or_asleep() - looked < _STALE_LOOK_SECONDS:
            # From here on the claim stays if anything fails: the snapshot may have been written all the same.
            repository.storage.store(f"{SNAPSHOT_FOLDER}/{snapshot_id}", data)
            if _awake_or_asleep() - looked > _STALE_LOOK_SECONDS:
                _require_still_there(repository, chosen, needs.blobs)
            if not may_lag(repository):
                _withdraw(repository, claim)
            # Else it stays until a prune sees the snapshot: it must not vanish before that shows up.
            return snapshot_id
        _withdraw(repository, claim)
        # For good, in this process: a pack that is being deleted is still there for a while.
        repository.distrust_packs(gone)
    raise PacksGone(needs.blobs)


def condemned_packs(repository: Repository, *, apart_from: str | None = None) -> set[str]:
    """Packs that are being deleted, by all sweeps or by all but one. Raises :class:`IntegrityError`."""
    return {
        pack
        for note in load_notes(repository, SWEEP_FOLDER, SweepRecord)
        if note.name != apart_from
        for pack in note.record.packs
    }


def _choose_packs(repository: Repository, blobs: set[BlobKey]) -> dict[str, int]:
    """One pack for each blob, with its size; what the index does not know is looked for anew, once."""
    chosen, missing = _places(repository.index, blobs)
    if missing:
        # Blobs may have moved to new packs, or been saved by another machine, since the index was read.
        chosen, missing = _places(repository.reload_index(), blobs)
    if missing:
        raise PacksGone(missing)
    return chosen


def _places(index: Index, blobs: set[BlobKey]) -> tuple[dict[str, int], set[BlobKey]]:
    chosen: dict[str, int] = {}
    missing: set[BlobKey] = set()
    for blob, kind in blobs:
        places: list[Location] = [at for at in index.locations(blob) if at.kind == kind]
        if not places:
            missing.add((blob, kind))
        elif not any(at.pack in chosen for at in places):
            chosen[places[0].pack] = index.packs[places[0].pack]
    return chosen, missing


def _claim(repository: Repository, snapshot_id: str, packs: dict[str, int]) -> str:
    record = ClaimRecord(
        time=now(),
        host=socket.gethostname(),
        nonce=nonce(),
        snapshot=snapshot_id,
        packs=sorted(packs),
    )
    return f"{CLAIM_FOLDER}/{repository.store_record(CLAIM_FOLDER, record)}"


def _withdraw(repository: Repository, claim: str) -> None:
    """A claim that cannot be removed (append-only storage) is passed over once its snapshot is there."""
    with contextlib.suppress(ZitcacheError):
        repository.storage.delete(claim)


def _going_or_gone(repository: Repository, packs: dict[str, int]) -> set[str]:
    """Sweeps first, packs after: a sweep that is over has left its packs absent."""
    condemned = condemned_packs(repository)
    present = repository.pack_sizes()
    return {pack for pack, size in packs.items() if pack in condemned or present.get(pack) != size}


def _require_still_there(repository: Repository, packs: dict[str, int], blobs: set[BlobKey]) -> None:
    """The machine slept between the look and the commit, perhaps for longer than a claim is respected."""
    gone = _going_or_gone(repository, packs)
    if gone:
        repository.distrust_packs(gone)
        _choose_packs(repository, blobs)  # storing what is missing makes the snapshot whole again


def _awake_or_asleep() -> float:
    """Seconds of a clock that nobody sets and that goes on while the machine is suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
