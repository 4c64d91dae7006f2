"""Fetch from a disk: workers take the pieces of one file in order, because that is how it reads fastest."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator

from zitcache.errors import IntegrityError, Unreachable, ZitcacheError
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.repository.records import MAX_PIECE_SIZE
from zitcache.repository.repository import Repository
from zitcache.tasks.buffers import BufferPool, Lease
from zitcache.tasks.fetching.writing import Fetched, FetchTask, Target, Writing
from zitcache.tasks.hashing import FileHasher
from zitcache.tasks.workers import Stop, run_threads

_FRAME_SLACK = 1 << 16


class _Hasher(FileHasher):
    """BLAKE3 of a file whose pieces are held until it is their turn."""

    def __init__(self) -> None:
        super().__init__(sha256=False)

    def blake3(self) -> str:
        return self.digests().blake3


class LocalFetch:
    """One run of the pipeline."""

    def __init__(
        self, repository: Repository, session: Session, on_durable: Callable[[FetchTask], None]
    ) -> None:
        self._repository = repository
        self._session = session
        self._workers = worker_count() + 1
        # A piece waits for its turn to be hashed at most as long as its neighbours are being decoded.
        self._piece_size = repository.config.cutting.piece_size
        self._pool = BufferPool(2 * self._workers + 2, self._piece_size)
        self._stop = Stop(self._pool.close)
        self._order = threading.Lock()
        self._writing = Writing(session, self._stop, lambda fd, pieces: _Hasher(), on_durable)
        self._unreadable: Unreachable | None = None
        self._last_read: str | None = None

    def run(self, tasks: Iterable[FetchTask]) -> Fetched:
        """Fetch everything. Damaged blobs end up in ``failed``; other errors end the run."""
        steps = self._steps(tasks)
        try:
            run_threads([lambda: self._work(steps)] * self._workers, self._stop, self._session.cancel)
        finally:
            self._writing.close()
        self._writing.raise_failures()
        self._require_disk()
        return self._writing.result

    def _note_unreadable(self, error: ZitcacheError) -> None:
        """A bad sector is damage of what lies on it; anything else that does not answer ends the run."""
        if isinstance(error, Unreachable):
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.EIO:
                raise error
            self._unreadable = self._unreadable or error

    def _require_disk(self) -> None:
        """Raise the first "Input/output error" if it was not a bad sector: nothing can be read any more."""
        if self._unreadable is None:
            return
        try:
            if self._last_read is None:
                raise self._unreadable
            self._repository.load_blob(self._last_read)
        except (IntegrityError, Unreachable):
            raise self._unreadable from None

    def _steps(self, tasks: Iterable[FetchTask]) -> Iterator[tuple[Target[_Hasher], int, Lease]]:
        """Every piece of every file with a buffer for it, in order.

        Buffers are handed out in the order of the pieces: a later piece never starves an earlier one for
        which its file's hash waits.
        """
        for task in tasks:
            self._session.progress.file(task.entry.path)
            try:
                pieces = self._repository.piece_list(task.entry)
                too_long = max((length for length, _ in pieces), default=0) > MAX_PIECE_SIZE
            except (IntegrityError, Unreachable) as error:
                self._note_unreadable(error)
                self._writing.fail(task, error.message)
                continue
            if too_long:
                self._writing.fail(task, "A piece is longer than the format allows.")
                continue
            target = self._writing.begin(task, pieces)
            for index, (length, _) in enumerate(pieces):
                yield target, index, self._pool.lease(length, 1 + target.hasher.holds)

    def _work(self, steps: Iterator[tuple[Target[_Hasher], int, Lease]]) -> None:
        scratch = memoryview(bytearray(self._piece_size + _FRAME_SLACK))
        while not self._stop.is_set:
            with self._order:
                step = next(steps, None)
            if step is None:
                return
            target, index, lease = step
            self._fill(target, index, lease.view, scratch)
            # Failed pieces are offered, too: those behind them in the chain hold buffers until it moves on.
            done = target.hasher.offer(index, lease)
            length = len(lease.view)
            lease.release()
            self._session.progress.advance(length)
            self._writing.count(target, done + 1)

    def _fill(self, target: Target[_Hasher], index: int, view: memoryview, scratch: memoryview) -> None:
        if target.problem is not None or target.holds(index, view):
            return
        stored = 0
        if not target.candidate_holds(index, view):
            wanted = target.pieces[index][1]
            try:
                stored = self._repository.load_blob_into(wanted, view, scratch=scratch)
            except (IntegrityError, Unreachable) as error:
                self._note_unreadable(error)
                target.problem = error.message
                return
            self._last_read = wanted
        self._writing.write(target, index, view, stored)
