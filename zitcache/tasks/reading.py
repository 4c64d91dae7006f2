"""Read files once, in pieces, with all cores: the pipeline below backup, checksum and verify.

One or two threads read files from front to back (the pattern disks and read-ahead like best); workers take
the pieces, do what the caller wants with each, and hash the file on the way. A 10 GB file keeps all workers
as busy as a thousand small ones. Memory: the buffers of the pool, whatever the size of the cache.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from zitcache.cache.cutting import Piece
from zitcache.errors import Interrupted, ZitcacheError, from_os_error
from zitcache.events import Session
from zitcache.machine.files import drop_cached, is_resident, pread_into
from zitcache.tasks.buffers import BufferPool, Lease
from zitcache.tasks.hashing import Digests, FileHasher
from zitcache.tasks.workers import Stop, run_threads

KeyT = TypeVar("KeyT")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells, without reading, that a file is the one it was: size, times in ns, inode."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """From a stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@dataclass(frozen=True, slots=True)
class Wanted(Generic[KeyT]):
    """A file to read. ``expected``: its identity when it was listed; None to take it as it is now."""

    key: KeyT
    path: str
    expected: Identity | None = None


@dataclass(frozen=True, slots=True)
class FileRead(Generic[KeyT]):
    """A file that was read. ``problem``: None, or why its content must not be used ("changed", …).

    ``error`` is set where the system refused. ``results``: what the caller's function returned per piece.
    """

    key: KeyT
    path: str
    identity: Identity | None
    pieces: tuple[Piece, ...]
    results: tuple[object, ...]
    digests: Digests | None
    problem: str | None = None
    error: ZitcacheError | None = None


CutFunction = Callable[[int, int, str], Sequence[Piece]]
"""(file descriptor, size, name) -> pieces."""


class _Open(Generic[KeyT]):
    """A file on its way through the pipeline. It is done when every (piece, step) is."""

    def __init__(self, wanted: Wanted[KeyT], fd: int, sha256: bool, cut: CutFunction) -> None:
        self.wanted = wanted
        self.fd = fd
        self.identity = Identity.of(os.fstat(fd))
        self.pieces = tuple(cut(fd, self.identity.size, wanted.path))
        self.hasher = FileHasher(sha256=sha256)
        self.results: list[object] = [None] * len(self.pieces)
        self.problem: str | None = None
        self._left = len(self.pieces) * (1 + self.hasher.holds)
        self._lock = threading.Lock()

    def done(self, steps: int) -> bool:
        """Count finished steps; True for the one call that finishes the last."""
        with self._lock:
            self._left -= steps
            return self._left == 0


class ReadPipeline(Generic[KeyT]):
    """``on_piece(key, piece, bytes, hold)`` runs in workers; ``on_file`` once a file, also in a worker.

    Both must be thread-safe. ``keep_cached``: leave in the page cache what was not there before. A changed
    or unreadable file comes to ``on_file`` with its problem; every other exception ends the whole run.
    """

    def __init__(
        self,
        session: Session,
        *,
        cut: CutFunction,
        max_piece: int,
        workers: int,
        readers: int = 1,
        sha256: bool = False,
        keep_cached: bool = False,
        on_piece: Callable[[KeyT, Piece, memoryview], object] | None,
        on_file: Callable[[FileRead[KeyT]], None],
    ) -> None:
        self._session = session
        self._cut = cut
        self._sha256 = sha256
        self._keep_cached = keep_cached
        self._on_piece = on_piece
        self._on_file = on_file
        self._workers = workers
        self._readers = readers
        # One in each worker's hands, one ahead for it, one for each reader to fill. More would not help: a
        # buffer that is used again soon is still in the CPU's cache.
        self._pool = BufferPool(2 * workers + readers, max_piece)
        self._tasks: queue.SimpleQueue[tuple[_Open[KeyT], int, Lease] | None] = queue.SimpleQueue()
        self._stop = Stop(self._pool.close)
        self._readers_left = readers
        self._open: set[_Open[KeyT]] = set()
        self._lock = threading.Lock()

    def run(self, files: Iterable[Wanted[KeyT]]) -> None:
        """Read all files. Raises the first exception of a callback, or ``Interrupted``."""
        source = iter(files)
        bodies = [lambda: self._read(source)] * self._readers + [self._work] * self._workers
        try:
            run_threads(bodies, self._stop, self._session.cancel)
        finally:
            for file in self._open:
                os.close(file.fd)
            self._open.clear()

    # -- reading ------------------------------------------------------------------------------------

    def _read(self, source: Iterable[Wanted[KeyT]]) -> None:
        try:
            while not self._stop.is_set:
                with self._lock:
                    wanted = next(source, None)  # type: ignore[call-overload]
                if wanted is None:
                    return
                self._read_file(wanted)
        except Interrupted:
            if not self._stop.is_set:
                raise
        finally:
            with self._lock:
                self._readers_left -= 1
                last = self._readers_left == 0
            if last or self._stop.is_set:
                for _ in range(self._workers):
                    self._tasks.put(None)

    def _read_file(self, wanted: Wanted[KeyT]) -> None:
        self._session.progress.file(wanted.path)
        try:
            fd = os.open(wanted.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._fail(wanted, from_os_error(error, f"opening {wanted.path}"))
            return
        try:
            file = _Open(wanted, fd, self._sha256, self._cut)
        except OSError as error:
            os.close(fd)
            self._fail(wanted, from_os_error(error, f"reading {wanted.path}"))
            return
        with self._lock:
            self._open.add(file)
        if wanted.expected is not None and file.identity != wanted.expected:
            file.problem = "changed"
        if not file.pieces or file.problem:
            self._finish(file)
            return
        keep_cached = self._keep_cached or is_resident(fd, file.identity.size)
        for index, piece in enumerate(file.pieces):
            lease = self._pool.lease(piece.length, 1 + file.hasher.holds)
            if file.problem is None:
                try:
                    got = pread_into(fd, lease.view, piece.offset)
                except OSError as error:
                    file.problem = f"{error.strerror} at byte {piece.offset}"
                    got = piece.length
                if got < piece.length:
                    file.problem = "changed"
                if not keep_cached:
                    drop_cached(fd, piece.offset, piece.length)
            self._tasks.put((file, index, lease))

    def _fail(self, wanted: Wanted[KeyT], error: ZitcacheError) -> None:
        self._on_file(FileRead(wanted.key, wanted.path, None, (), (), None, "unreadable", error))

    # -- working ------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None or self._stop.is_set:
                return
            file, index, lease = task
            # Hash first: the chain is the only part of the work that has an order.
            steps = file.hasher.offer(index, lease)
            if self._on_piece is not None and file.problem is None:
                file.results[index] = self._on_piece(file.wanted.key, file.pieces[index], lease.view)
            length = len(lease.view)
            lease.release()
            self._session.progress.advance(length)
            if file.done(steps + 1):
                self._finish(file)

    def _finish(self, file: _Open[KeyT]) -> None:
        problem = file.problem
        try:
            if problem is None and not self._unchanged(file):
                problem = "changed"
        finally:
            with self._lock:
                self._open.discard(file)
            os.close(file.fd)
        self._on_file(
            FileRead(
                file.wanted.key,
                file.wanted.path,
                file.identity,
                file.pieces,
                tuple(file.results),
                None if problem else file.hasher.digests(),
                problem,
            )
        )

    def _unchanged(self, file: _Open[KeyT]) -> bool:
        """Whether the file, and the file now at its path, is still what it was before it was read."""
        try:
            return (
                Identity.of(os.fstat(file.fd)) == file.identity
                and Identity.of(os.lstat(file.wanted.path)) == file.identity
            )
        except OSError:
            return False
