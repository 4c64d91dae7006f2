"""From files to blobs: read, cut, name, encode and save, with all cores."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.cache.cutting import Piece, cut_file
from zitcache.cache.tree import TreeItem
from zitcache.codec.blob import blob_id, encode
from zitcache.codec.frame import FrameKind
from zitcache.errors import NotFound
from zitcache.events import Session
from zitcache.machine.cpu import has_sha_extensions, worker_count
from zitcache.repository.records import PieceList, TreeEntry, portable
from zitcache.repository.repository import Repository
from zitcache.repository.saver import Saver
from zitcache.tasks.backup.plan import Plan
from zitcache.tasks.reading import FileRead, Identity, ReadPipeline, Wanted

_REMOTE_WORKERS = 9
_SETTLED_NS = 100_000_000
"""A file whose ctime is this close to the moment it was read might change again within the same clock tick
without a trace (git calls this "racy"): its identity is not trusted next time."""


@dataclass(slots=True)
class Stored:
    """``entries``: by path, of every file that was read; ``left_out``: paths that were not usable."""

    entries: dict[str, TreeEntry] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    bytes_read: int = 0


def store_files(repository: Repository, saver: Saver, cache: Path, plan: Plan, session: Session) -> Stored:
    """Read every file of the plan and save the blobs that the repository does not have."""
    stored = Stored()
    if not plan.to_read:
        return stored
    lock = threading.Lock()
    rules = repository.config.cutting
    cores = worker_count()
    started_ns = time.time_ns()

    def on_piece(item: TreeItem, piece: Piece, data: memoryview) -> str:
        identity = blob_id(data)
        name = identity.hex()
        if saver.claim(name):
            saver.save(encode(data, piece.dtype, known_id=identity))
        return name

    def on_file(read: FileRead[TreeItem]) -> None:
        if read.problem is not None or read.digests is None:
            with lock:
                stored.left_out.append(read.key.path)
            _explain(read, session)
            return
        entry = _entry(repository, saver, read, started_ns)
        with lock:
            stored.entries[read.key.path] = entry
            stored.bytes_read += entry.size

    pipeline = ReadPipeline[TreeItem](
        session,
        cut=lambda fd, size, _name: cut_file(fd, size, rules),
        max_piece=rules.piece_size,
        # One more than there are cores: while a worker waits for the disk to take a block, another computes.
        # A network takes less than a few of them make, and each holds buffers beside the packs in memory.
        workers=min(cores + 1, _REMOTE_WORKERS) if repository.storage.is_remote else cores + 1,
        readers=1 if cores <= 4 else 4,
        sha256=has_sha_extensions(),
        on_piece=on_piece,
        on_file=on_file,
    )
    session.progress.stage("Backing up", sum(item.size for item in plan.to_read))
    pipeline.run(
        Wanted(
            item,
            os.path.join(cache, item.path),
            Identity(item.size, item.mtime_ns, item.ctime_ns, item.inode),
        )
        for item in plan.to_read
    )
    return stored


def _entry(repository: Repository, saver: Saver, read: FileRead[TreeItem], started_ns: int) -> TreeEntry:
    """The tree entry of a file that was read whole."""
    assert read.digests is not None
    item = read.key
    path, path_bytes = portable(item.path)
    pieces = [(piece.length, str(name)) for piece, name in zip(read.pieces, read.results, strict=True)]
    blob = list_id = None
    if len(pieces) == 1:
        blob = pieces[0][1]
    elif pieces:
        record = PieceList(size=item.size, pieces=pieces)
        list_id = repository.save_metadata(saver, record, FrameKind.PIECES)
    settled = item.ctime_ns < started_ns - _SETTLED_NS
    return TreeEntry(
        path=path,
        kind="file",
        mode=item.mode,
        mtime_ns=item.mtime_ns,
        size=item.size,
        ctime_ns=item.ctime_ns if settled else 0,
        inode=item.inode,
        blake3=read.digests.blake3,
        sha256=read.digests.sha256,
        blob=blob,
        pieces=list_id,
        read_at=started_ns // 1_000_000_000,
        path_bytes=path_bytes,
    )


def _explain(read: FileRead[TreeItem], session: Session) -> None:
    path = read.key.path
    if read.problem == "changed":
        session.warn(
            "changed-while-read",
            f"{path} changed while it was read, so it is not in this snapshot.",
            "Run the backup again when nothing writes to the cache.",
        )
    elif isinstance(read.error, NotFound):
        session.warn("vanished", f"{path} was removed while the backup ran, so it is not in this snapshot.")
    else:
        reason = read.error.message if read.error else read.problem
        session.warn("unreadable", f"{path} could not be read, so it is not in this snapshot: {reason}")
