"""Copy files: each is read once, hashed on the way, written past the page cache, and read back.

Reader and workers are those of ``tasks/reading``; workers write. A large file is read back a little behind
the place that is being written, so that checking ends soon after copying. Others are collected: one
``syncfs`` for many instead of an ``fsync`` for each, then they are read back together.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from zitcache.cache.cutting import Piece
from zitcache.errors import Interrupted, ZitcacheError, from_os_error
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.machine.files import drop_cached, is_resident, pread_into
from zitcache.tasks.buffers import page_aligned
from zitcache.tasks.migrate.destination import Destination
from zitcache.tasks.migrate.journal import Done, Journal, done
from zitcache.tasks.migrate.listing import Entry
from zitcache.tasks.migrate.metadata import Metadata
from zitcache.tasks.migrate.parts import Part
from zitcache.tasks.reading import FileRead, Identity, ReadPipeline, Wanted

PIECE_BYTES = 4 << 20
FOLLOWED_FROM_BYTES = 32 << 20
"""Files from this size on are read back while they are written."""

_MAX_FOLLOWED = 64
_BATCH_FILES = 2000
_BATCH_BYTES = 512 << 20
_FEW_WORKERS = 4


@dataclass(slots=True)
class Copied:
    """``finished``: copied and checked, by path. ``differing``: read back otherwise than it was written.

    What is in neither changed or vanished meanwhile. ``resumed_bytes``: were there from an earlier run.
    ``from_memory``: files whose copy could not be put out of memory before it was read back.
    """

    finished: dict[str, Done] = field(default_factory=dict)
    differing: list[Entry] = field(default_factory=list)
    resumed_bytes: int = 0
    from_memory: int = 0


class _Task:
    """A file on its way: its part is made by the first worker that brings a piece of it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.pieces = _cut(entry.size)
        self.lock = threading.Lock()
        self.part: Part | None = None
        self.is_followed = False
        self.gone = False


@dataclass(slots=True)
class _Batch:
    """Written files that wait for their sync, with their digests."""

    items: list[tuple[Entry, Path, str]] = field(default_factory=list)
    size_bytes: int = 0


class Copier:
    """Copies files of the tree ``source`` into ``destination``, which has all their directories."""

    def __init__(
        self, source: Path, destination: Destination, journal: Journal, metadata: Metadata, session: Session
    ) -> None:
        self._source = source
        self._destination = destination
        self._journal = journal
        self._metadata = metadata
        self._session = session
        self._jobs: queue.SimpleQueue[_Task | _Batch | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._batch = _Batch()
        self._followed = 0
        self._copied = Copied()
        self._local = threading.local()

    def run(self, entries: Sequence[Entry]) -> Copied:
        """Copy ``entries``, the largest first. Raises ``NoSpace``, ``Unreachable``, ``Interrupted``, …"""
        workers = worker_count()
        readers = 1 if workers <= _FEW_WORKERS else 4
        pipeline = ReadPipeline[_Task](
            self._session,
            cut=lambda fd, size, name: _cut(size),
            max_piece=PIECE_BYTES,
            workers=max(workers, _FEW_WORKERS),  # they wait for the disk, too
            readers=readers,
            on_piece=self._write,
            on_file=self._read_whole,
        )
        checkers = [threading.Thread(target=self._check_all, daemon=True) for _ in range(readers + 1)]
        ordered = sorted(entries, key=lambda entry: -entry.size)
        wanted = [
            Wanted(_Task(entry), os.path.join(self._source, entry.path), entry.identity) for entry in ordered
        ]
        for thread in checkers:
            thread.start()
        try:
            pipeline.run(wanted)
            self._jobs.put(self._batch)
        except BaseException:
            self._stop.set()
            raise
        finally:
            for _ in checkers:
                self._jobs.put(None)
            self._join(checkers)
            for item in wanted:
                if item.key.part is not None:
                    item.key.part.close()
        if self._error is not None:
            raise self._error
        self._session.cancel.check()
        return self._copied

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.05)
                if self._session.cancel:
                    self._stop.set()

    # -- workers --------------------------------------------------------------------------------------

    def _write(self, task: _Task, piece: Piece, data: memoryview) -> None:
        if self._error is not None:
            raise self._error
        try:
            self._part_of(task).write(piece.offset // PIECE_BYTES, piece, data, self._scratch())
        except OSError as error:
            raise self._refused(error, task.entry) from error

    def _part_of(self, task: _Task) -> Part:
        with task.lock:
            if task.part is None:
                self._destination.check()
                task.part = Part(self._destination.path, task.entry, lambda: self._stop.is_set() or task.gone)
                with self._lock:
                    wanted = task.entry.size >= FOLLOWED_FROM_BYTES and self._followed < _MAX_FOLLOWED
                    self._followed += wanted
                task.is_followed = wanted
                if wanted:
                    self._jobs.put(task)
            return task.part

    def _read_whole(self, read: FileRead[_Task]) -> None:
        task = read.key
        if read.problem is not None or read.digests is None:
            task.gone = True
            with task.lock:
                if task.part is not None and not task.is_followed:
                    task.part.close()
            self._note_problem(read)
            return
        try:
            part = self._part_of(task)
            part.complete(read.digests.blake3)
            if task.is_followed:
                return
            with self._lock:
                self._copied.resumed_bytes += part.resumed_bytes
            self._metadata.copy(task.entry, part.fd)
            part.close()
        except OSError as error:
            raise self._refused(error, task.entry) from error
        self._collect(task.entry, part.path, read.digests.blake3)

    def _note_problem(self, read: FileRead[_Task]) -> None:
        """What changed or vanished is seen by the next scan; what cannot be read ends the migration."""
        entry = read.key.entry
        if read.problem == "changed" or not _is_still(read.path, entry):
            return
        reason = read.error or from_os_error(OSError(errno.EIO, str(read.problem)), f"reading {read.path}")
        raise reason  # a bad sector, say: whatever else is right, this file would be missing

    def _collect(self, entry: Entry, path: Path, digest: str) -> None:
        full = None
        with self._lock:
            self._batch.items.append((entry, path, digest))
            self._batch.size_bytes += entry.size
            if len(self._batch.items) >= _BATCH_FILES or self._batch.size_bytes >= _BATCH_BYTES:
                full, self._batch = self._batch, _Batch()
        if full is not None:
            self._jobs.put(full)

    # -- checkers -------------------------------------------------------------------------------------

    def _check_all(self) -> None:
        buffer = memoryview(page_aligned(PIECE_BYTES))
        try:
            while (job := self._jobs.get()) is not None and not self._stop.is_set():
                if isinstance(job, _Task):
                    self._follow(job, buffer)
                else:
                    self._check_batch(job, buffer)
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()

    def _follow(self, task: _Task, buffer: memoryview) -> None:
        part, entry = task.part, task.entry
        assert part is not None
        try:
            good = part.read_back(task.pieces, buffer)
            if good:
                self._metadata.copy(entry, part.fd)
                self._finish([(entry, part.path, part.digest)])
            else:
                part.discard()
                with self._lock:
                    self._copied.differing.append(entry)
            with self._lock:
                self._copied.resumed_bytes += part.resumed_bytes
                self._copied.from_memory += part.from_memory
        except Interrupted:
            if not task.gone:
                raise
        except OSError as error:
            raise self._refused(error, entry) from error
        finally:
            part.close()
            with self._lock:
                self._followed -= 1

    def _check_batch(self, batch: _Batch, buffer: memoryview) -> None:
        if not batch.items:
            return
        try:
            self._destination.sync()
        except OSError as error:
            for _, path, _ in batch.items:
                with contextlib.suppress(OSError):
                    path.unlink()  # a failed sync is never tried again: these are written anew
            raise from_os_error(error, f"writing to the disk of {self._destination.path}") from error
        good: list[tuple[Entry, Path, str]] = []
        for entry, path, digest in batch.items:
            if self._stop.is_set():
                raise Interrupted
            try:
                found, from_memory = _digest_from_disk(path, entry.size, buffer)
            except OSError as error:
                raise self._refused(error, entry) from error
            if found == digest:
                good.append((entry, path, digest))
            else:
                path.unlink(missing_ok=True)
                with self._lock:
                    self._copied.differing.append(entry)
            with self._lock:
                self._copied.from_memory += from_memory
        try:
            self._finish(good)
        except OSError as error:
            raise from_os_error(error, f"writing in {self._destination.path}") from error

    def _finish(self, good: Sequence[tuple[Entry, Path, str]]) -> None:
        """Give files their names, and write down that they are done."""
        self._destination.check()
        lines: list[tuple[str, Done]] = []
        for entry, path, digest in good:
            final = self._destination.path / entry.path
            path.replace(final)
            lines.append((entry.path, done(entry, digest, os.lstat(final))))
        self._journal.record(line for _, line in lines)
        with self._lock:
            self._copied.finished.update(lines)

    # -- both -----------------------------------------------------------------------------------------

    def _scratch(self) -> memoryview:
        """This thread's own piece of memory."""
        if not hasattr(self._local, "scratch"):
            self._local.scratch = memoryview(page_aligned(PIECE_BYTES))
        scratch: memoryview = self._local.scratch
        return scratch

    def _refused(self, error: OSError, entry: Entry) -> ZitcacheError:
        self._destination.check()  # the better reason, if the disk is gone
        return from_os_error(error, f"writing {self._destination.path / entry.path}")


def _is_still(path: str, entry: Entry) -> bool:
    try:
        return Identity.of(os.lstat(path)) == entry.identity
    except OSError:
        return False


def _cut(size: int) -> tuple[Piece, ...]:
    return tuple(Piece(offset, min(PIECE_BYTES, size - offset)) for offset in range(0, size, PIECE_BYTES))


def _digest_from_disk(path: Path, size: int, buffer: memoryview) -> tuple[str, bool]:
    """BLAKE3 of a synced file, read after its pages were dropped; and whether they stayed all the same."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        drop_cached(fd, 0, 0)
        from_memory = is_resident(fd, size)
        hasher = blake3()
        offset = 0
        # To the end of the file, not to its expected size: a longer copy is a different one.
        while got := pread_into(fd, buffer, offset):
            hasher.update(buffer[:got])
            drop_cached(fd, offset, got)
            offset += got
        return hasher.hexdigest(), from_memory
    finally:
        os.close(fd)
