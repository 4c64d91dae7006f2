"""Saving blobs from many threads into packs, each blob once.

A few packs are open at a time, so that workers do not wait for each other; finished packs are made durable
by a thread of their own, so that nobody waits for fsync; over a network by several, so that several are sent
at once. Whoever saves waits when too many are pending: a cache is read only as fast as it is stored. Nothing
here is visible to readers before the index object and the snapshot are written.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

from zitcache.codec.blob import EncodedBlob
from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError
from zitcache.repository.index import Index
from zitcache.repository.pack import MAX_BLOBS, PackWriter
from zitcache.repository.records import PackRecord
from zitcache.storage.protocol import Storage

if TYPE_CHECKING:
    from concurrent.futures import Future

_PENDING_COMMITS = 2
_MEMORY_FOR_PACKS = 256 << 20
"""For the packs of a remote repository that are being filled or sent, which are in memory as a whole."""
_PACK_SLACK = 8 << 20
"""By how much a pack's buffer can exceed ``pack_size``: its last blob, and room it grew by in vain."""
_SALT_BYTES = 16


class Saver:
    """Stores blobs that the index does not know yet. Every method may be called from any thread.

    Use as a context manager: leaving it with an exception aborts the open packs; finished packs stay and
    are found again by the next run.
    """

    def __init__(self, storage: Storage, index: Index, pack_size: int, streams: int) -> None:
        self._storage = storage
        self._index = index
        self._pack_size = pack_size
        commits = 1
        pending = _PENDING_COMMITS
        if storage.is_remote:
            in_memory = max(2, _MEMORY_FOR_PACKS // (pack_size + _PACK_SLACK))
            streams = max(1, min(streams, in_memory // 3))
            commits = pending = max(1, min(storage.concurrency, in_memory - streams))
        # Last in, first out: a small backup fills one pack instead of starting several.
        self._slots: queue.LifoQueue[PackWriter | None] = queue.LifoQueue()
        for _ in range(max(1, streams)):
            self._slots.put(None)
        self._streams = max(1, streams)
        self._claimed: set[tuple[str, FrameKind]] = set()
        self._lock = threading.Lock()
        # Commands that only read import this module too, and should not pay for executors.
        from concurrent.futures import ThreadPoolExecutor

        self._committer = ThreadPoolExecutor(commits, thread_name_prefix="commit")
        self._room = threading.BoundedSemaphore(pending)
        self._commits: list[Future[PackRecord]] = []
        self._writers: set[PackWriter] = set()
        self.bytes_stored = 0

    def claim(self, blob_id: str, kind: FrameKind = FrameKind.DATA) -> bool:
        """Whether the caller has to encode and :meth:`save` this blob: True once, for an unknown blob.

        A file may hold the very bytes of a piece list or tree: each kind is stored for itself, so that a
        reader always finds the kind it looks for.
        """
        with self._lock:
            if self._index.has(blob_id, kind) or (blob_id, kind) in self._claimed:
                return False
            self._claimed.add((blob_id, kind))
            return True

    def save(self, blob: EncodedBlob) -> None:
        """Append a claimed blob to an open pack."""
        self._raise_failed_commit()
        writer = self._slots.get()
        reusable = None
        try:
            if writer is None:
                writer = PackWriter(self._storage, os.urandom(_SALT_BYTES).hex())
                with self._lock:
                    self._writers.add(writer)
            writer.add(blob)
            if writer.size >= self._pack_size or len(writer.blobs) >= MAX_BLOBS:
                self._finish(writer)
            else:
                reusable = writer
        finally:
            # A pack that failed half way is never written to again; leaving the context aborts it.
            self._slots.put(reusable)

    def _finish(self, writer: PackWriter) -> None:
        self._room.acquire()
        future = self._committer.submit(self._commit, writer)
        with self._lock:
            self._commits.append(future)

    def _commit(self, writer: PackWriter) -> PackRecord:
        try:
            pack = writer.commit()
        except BaseException:
            writer.abort()
            raise
        finally:
            self._room.release()
            with self._lock:
                self._writers.discard(writer)
        with self._lock:
            self.bytes_stored += pack.size
        return pack

    def _raise_failed_commit(self) -> None:
        with self._lock:
            failed = [future for future in self._commits if future.done() and future.exception() is not None]
        for future in failed:
            future.result()

    def finish(self) -> list[PackRecord]:
        """Make all open packs durable and return every pack written. No blob may be saved while it runs."""
        for _ in range(self._streams):
            writer = self._slots.get()
            if writer is not None:
                self._finish(writer)
        for _ in range(self._streams):
            self._slots.put(None)
        packs = [future.result() for future in self._commits]
        self._commits = []
        for pack in packs:
            self._index.add_pack(pack)
        missing = {blob_id for blob_id, _ in self._claimed} - set(self._index)
        if missing:
            raise IntegrityError(f"{len(missing)} blobs were claimed but not stored: a bug in zitcache.")
        return packs

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *error: object) -> None:
        self._committer.shutdown(wait=True, cancel_futures=error[0] is not None)
        for writer in list(self._writers):
            writer.abort()
