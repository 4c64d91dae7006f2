"""Real caches and repositories in directories, and time that passes for what lies in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from tests.backup.world import KIB, back_up, make_repository, noise
from zitcache.events import Outcome, Session
from zitcache.repository.marks import FORGOTTEN_FOLDER, MARK_FOLDER, ForgottenRecord, MarkRecord
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.forget import ForgetReport, ForgetRequest, forget
from zitcache.tasks.prune import PruneReport, PruneRequest, prune
from zitcache.tasks.undelete import UndeleteReport, UndeleteRequest, undelete

DAY = 86400
MODEL = "models/a--b/snapshots/master"


def write(cache: Path, **files: bytes) -> Path:
    """Files of a model; the names have no dots here: ``weights_bin`` is ``weights.bin``."""
    folder = cache / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return cache


def remove(cache: Path, name: str) -> None:
    (cache / MODEL / name).unlink()


def big(seed: str, size: int = 300 * KIB) -> bytes:
    return noise(size, seed)


def new_repository(place: Path) -> Path:
    """Packs of one mebibyte, pieces of 64 KiB."""
    return make_repository(place, piece_size=64 * KIB, merge_below=16 * KIB, pack_size=1 << 20)


def snapshot(repository: Path, cache: Path, **options: Any) -> str:
    report = back_up(repository, cache, **options).data
    assert report.snapshot_id is not None
    return report.snapshot_id


def opened(repository: Path) -> Repository:
    return Repository.open(LocalStorage(repository))


def run_forget(repository: Path, *ids: str, **options: Any) -> Outcome[ForgetReport]:
    return forget(ForgetRequest(repository=str(repository), ids=ids, **options), Session())


def run_prune(repository: Path, session: Session | None = None, **options: Any) -> Outcome[PruneReport]:
    return prune(PruneRequest(repository=str(repository), **options), session or Session())


def run_undelete(repository: Path, *ids: str, **options: Any) -> Outcome[UndeleteReport]:
    return undelete(UndeleteRequest(repository=str(repository), ids=ids, **options), Session())


def names(repository: Path, folder: str) -> set[str]:
    place = repository / folder
    return {path.name for path in place.iterdir() if path.name[0] != "."} if place.is_dir() else set()


def everything(repository: Path) -> dict[str, tuple[int, int]]:
    """Each file with size and time of change."""
    return {
        str(path.relative_to(repository)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in repository.rglob("*")
        if path.is_file()
    }


def pass_time(repository: Path, seconds: float, *, own: bool = True, files: bool = True) -> None:
    """Everything was written so much earlier, by the notes' own times, by those of the files, or by both."""
    found = opened(repository)
    if own:
        for folder, kind in ((MARK_FOLDER, MarkRecord), (FORGOTTEN_FOLDER, ForgottenRecord)):
            for name, record in found.load_records_by_id(folder, kind):
                when = (repository / folder / name).stat().st_mtime_ns
                (repository / folder / name).unlink()
                moved = msgspec.structs.replace(record, time=int(record.time - seconds))
                new = found.store_record(folder, moved)
                os.utime(repository / folder / new, ns=(when, when))
    if files:
        for path in repository.rglob("*"):
            if path.is_file():
                when = path.stat().st_mtime_ns - int(seconds * 1e9)
                os.utime(path, ns=(when, when))
