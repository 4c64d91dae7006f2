"""Write down beside each snapshot what it lost, and take back what turned out to be there."""

from __future__ import annotations

import socket
import time

from zitcache.repository.notes import LOSS_FOLDER, LossRecord, LostFile
from zitcache.repository.repository import Repository
from zitcache.tasks.repair.survey import Damage


def note_losses(
    repository: Repository, damaged: dict[str, Damage], snapshots: set[str], *, dry_run: bool
) -> list[str]:
    """Bring the notes in line with what is lost now; the ids of snapshots that are whole again.

    The new note is written before the old one goes, and one that says the same is left as it is.
    """
    known: dict[str, list[tuple[str, LossRecord]]] = {}
    for name, record in repository.load_records_by_id(LOSS_FOLDER, LossRecord):
        known.setdefault(record.snapshot, []).append((name, record))
    for snapshot, damage in damaged.items():
        files = _files(damage)
        old = known.pop(snapshot, [])
        if any(record.files == files for _, record in old):
            continue
        if not dry_run:
            new = repository.store_record(
                LOSS_FOLDER,
                LossRecord(time=int(time.time()), host=socket.gethostname(), snapshot=snapshot, files=files),
            )
            _delete(repository, [name for name, _ in old if name != new])
    healed = sorted(set(known) & snapshots)
    if not dry_run:
        for snapshot in healed:
            _delete(repository, [name for name, _ in known[snapshot]])
    return healed


def _files(damage: Damage) -> list[LostFile]:
    return [
        LostFile(path=path, path_bytes=path_bytes, blobs=sorted(keys))
        for (path, path_bytes), keys in sorted(damage.files.items(), key=lambda item: item[0][0])
    ]


def _delete(repository: Repository, names: list[str]) -> None:
    for name in names:
        repository.storage.delete(f"{LOSS_FOLDER}/{name}")
