"""A small repository in memory, and what people do to it, at the level at which the races are."""

from __future__ import annotations

import time

import msgspec

from tests.prune.memory import MemoryStorage
from zitcache.codec.blob import blob_id, encode
from zitcache.codec.frame import FrameKind
from zitcache.events import Session
from zitcache.repository.committing import PacksGone, commit_snapshot
from zitcache.repository.records import RepositoryConfig, SnapshotRecord, TreeEntry, TreeRecord
from zitcache.repository.repository import CONFIG, Repository
from zitcache.repository.selection import list_snapshots
from zitcache.storage.protocol import Storage
from zitcache.tasks.prune.knowledge import Clock
from zitcache.tasks.prune.sweeping import sweep

CACHE = "/root/cache"


def new_storage() -> MemoryStorage:
    storage = MemoryStorage()
    config = RepositoryConfig(id="0" * 32, created="2026-01-01T00:00:00Z")
    storage.create(CONFIG, msgspec.json.encode(config))
    return storage


def entry(name: str, content: bytes) -> TreeEntry:
    digest = blob_id(content).hex()
    return TreeEntry(
        path=name, kind="file", mode=0o644, mtime_ns=0, size=len(content), blake3=digest, blob=digest
    )


def back_up(storage: Storage, files: dict[str, bytes], moment: str = "2026-01-02T00:00:00.000000Z") -> str:
    """What ``backup`` does to a repository, in its order and with its second try, without its threads."""
    repository = Repository.open(storage)
    list_snapshots(repository)
    for _ in range(5):
        with repository.saver(1) as saver:
            for content in files.values():
                if saver.claim(blob_id(content).hex()):
                    saver.save(encode(content))
            tree = TreeRecord(entries=[entry(name, content) for name, content in sorted(files.items())])
            tree_id = repository.save_metadata(saver, tree, FrameKind.TREE)
            packs = saver.finish()
        repository.write_index([*repository.unindexed_packs, *packs])
        record = SnapshotRecord(
            time=moment,
            host="box",
            cache=CACHE,
            program="test",
            trees=[tree_id],
            files=len(files),
            size_bytes=sum(map(len, files.values())),
        )
        try:
            return commit_snapshot(repository, record)
        except PacksGone:
            repository.reload_index()
    raise AssertionError("five times in a row, packs went away")


class NoLock:
    """In the place of the lock: what must not rest on it is tried without it."""

    moment = 0.0

    def renew(self) -> None:
        """Nothing to do."""


def sweep_packs(storage: Storage, candidates: set[str], clock: Clock | None = None) -> None:
    """The deleting half of ``prune``, without a lock and without waiting."""
    repository = Repository.open(storage)
    now = clock or Clock(time.time(), time.time())
    sweep(repository, candidates, now, 0, NoLock(), Session())  # type: ignore[arg-type]


def packs_with(storage: MemoryStorage, content: bytes) -> set[str]:
    index = Repository.open(storage).index
    return {at.pack for at in index.locations(blob_id(content).hex())}


def require_whole(storage: MemoryStorage) -> list[str]:
    """Every blob of every snapshot can be read by a reader that comes now; their ids."""
    repository = Repository.open(storage)
    snapshots, unreadable = list_snapshots(repository)
    assert not unreadable
    for snapshot in snapshots:
        for item in repository.tree(snapshot.record):
            for _, blob in repository.piece_list(item):
                assert repository.load_blob(blob)
    return [snapshot.id for snapshot in snapshots]
