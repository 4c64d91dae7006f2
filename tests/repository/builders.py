"""Small repositories, built through the real parts."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from zitcache.codec.blob import blob_id, encode
from zitcache.codec.frame import FrameKind
from zitcache.events import Outcome, Session
from zitcache.repository.records import CuttingRules, SnapshotRecord, TreeEntry, TreeRecord
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Storage
from zitcache.tasks.backup import BackupReport, BackupRequest, backup
from zitcache.tasks.restore import RestoreRequest, restore

SMALL_PIECES = CuttingRules(piece_size=4096, merge_below=1024)


def new_repository(directory: Path, rules: CuttingRules = SMALL_PIECES) -> Repository:
    return Repository.create(LocalStorage(directory), cutting=rules)


def reopened(repository: Repository) -> Repository:
    """The repository as another process finds it."""
    return Repository.open(LocalStorage(repository.storage.location))


def save(repository: Repository, blobs: Iterable[bytes], *, index: bool = True) -> list[str]:
    """Store blobs in packs; their ids."""
    ids = []
    with repository.saver(1) as saver:
        for data in blobs:
            ids.append(blob_id(data).hex())
            if saver.claim(ids[-1]):
                saver.save(encode(data))
        packs = saver.finish()
    if index:
        repository.write_index(packs)
    return ids


def write_snapshot(repository: Repository, entries: list[TreeEntry], **fields: object) -> str:
    """A snapshot of ``entries``, whatever they say; its id."""
    with repository.saver(1) as saver:
        tree = repository.save_metadata(saver, TreeRecord(entries=entries), FrameKind.TREE)
        repository.write_index(saver.finish())
    files = [entry for entry in entries if entry.kind == "file"]
    values = {
        "time": "2026-01-02T03:04:05.000006Z",
        "host": "box",
        "cache": "/root/cache",
        "program": "test",
        "trees": [tree],
        "files": len(files),
        "size_bytes": sum(entry.size for entry in files),
    }
    return repository.write_snapshot(SnapshotRecord(**{**values, **fields}))  # type: ignore[arg-type]


def back_up(location: Path | str, cache: Path, **options: object) -> Outcome[BackupReport]:
    request = BackupRequest(repository=str(location), cache=str(cache), init=True, **options)  # type: ignore[arg-type]
    return backup(request, Session())


def bring_back(location: Path | str, target: Path, snapshot: str = "latest") -> None:
    request = RestoreRequest(repository=str(location), snapshot=snapshot, to=str(target))
    assert restore(request, Session()).exit_code == 0


def use_storage(monkeypatch: pytest.MonkeyPatch, storage: Storage) -> None:
    """Let the next command find ``storage`` at whatever place it opens."""
    for name, module in list(sys.modules.items()):
        if name.startswith("zitcache.tasks") and hasattr(module, "open_storage"):
            monkeypatch.setattr(module, "open_storage", lambda location: storage)


def read_files(repository: Repository, snapshot: SnapshotRecord) -> dict[str, bytes]:
    """Every file of a snapshot, read blob by blob."""
    return {
        entry.real_path: b"".join(repository.load_blob(each) for _, each in repository.piece_list(entry))
        for entry in repository.tree(snapshot)
        if entry.kind == "file"
    }


def temporaries(repository: Path) -> list[str]:
    """What unfinished writes left behind."""
    return sorted(str(path.relative_to(repository)) for path in repository.rglob(".tmp-*"))


def picture(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything about a tree that a restore must bring back: names, kinds, modes, times, content, links."""
    found: dict[bytes, tuple[object, ...]] = {}
    first_names: dict[int, bytes] = {}
    base = os.fsencode(root)
    for folder, folders, names in os.walk(base):
        for name in sorted([*folders, *names]):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, base)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                found[relative] = ("symlink", os.readlink(path))
                continue
            kind = stat.S_IFMT(status.st_mode)
            content = None
            links: frozenset[bytes] | None = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
                if status.st_nlink > 1:
                    links = frozenset({first_names.setdefault(status.st_ino, relative)})
            found[relative] = (kind, stat.S_IMODE(status.st_mode), status.st_mtime_ns, content, links)
    return found
