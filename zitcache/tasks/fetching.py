"""Write files from the repository, many workers at once inside each file: below restore and repair.

A piece is taken from where it costs least: it may lie in the destination already (an earlier run was cut
off), or in another local file (the damaged one, most of which is good), else it is read from a pack and
decoded. Whatever its origin, it is used only if its BLAKE3 is its id; and a file counts only if the BLAKE3
of the whole is right, too.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from zitcache.codec.blob import blob_id
from zitcache.errors import IntegrityError, Unreachable, ZitcacheError, from_os_error
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.machine.files import drop_cached, pread_into, preallocate, pwrite_all, start_writeback
from zitcache.repository.records import TreeEntry
from zitcache.repository.repository import Repository
from zitcache.tasks.buffers import BufferPool, Lease
from zitcache.tasks.hashing import FileHasher
from zitcache.tasks.workers import Stop, run_threads

_FRAME_SLACK = 1 << 16
_MAX_FINISHING = 64
"""Files that wait for fsync at a time: each holds descriptors."""


@dataclass(frozen=True, slots=True)
class FetchTask:
    """Write the content of ``entry`` to ``destination`` (made if missing, continued if not).

    ``candidate``: another local file that may hold good pieces at the same offsets.
    """

    entry: TreeEntry
    destination: str
    candidate: str | None = None


@dataclass(slots=True)
class Fetched:
    """``failed``: by path, why a file could not be brought back. Bytes: written, and read from packs."""

    files: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    bytes_written: int = 0
    bytes_from_repository: int = 0


class _Target:
    """A file being written."""

    def __init__(self, task: FetchTask, pieces: list[tuple[int, str]]) -> None:
        self.task = task
        self.pieces = pieces
        self.offsets: list[int] = []
        offset = 0
        for length, _ in pieces:
            self.offsets.append(offset)
            offset += length
        self.hasher = FileHasher(sha256=False)
        self.problem: str | None = None
        self._left = len(pieces) * (1 + self.hasher.holds)
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(task.destination, flags, 0o600)
        try:
            status = os.fstat(self.fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{task.destination} is not a regular file")
            self.started_before = status.st_size > 0
            if status.st_size != task.entry.size:
                os.ftruncate(self.fd, task.entry.size)
            preallocate(self.fd, task.entry.size)
            self.candidate_fd = _open_candidate(task.candidate)
        except BaseException:
            os.close(self.fd)
            raise

    def done(self, steps: int) -> bool:
        """Count finished steps; True for the one call that finishes the last."""
        with self._lock:
            self._left -= steps
            return self._left == 0

    def close(self) -> None:
        """Close all descriptors."""
        os.close(self.fd)
        if self.candidate_fd is not None:
            os.close(self.candidate_fd)


def _open_candidate(path: str | None) -> int | None:
    if path is None:
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


class _Fetch:
    """One run of the pipeline."""

    def __init__(
        self, repository: Repository, session: Session, on_durable: Callable[[FetchTask], None]
    ) -> None:
        self._repository = repository
        self._session = session
        self._on_durable = on_durable
        self._workers = worker_count() + 1
        # A piece waits for its turn to be hashed at most as long as its neighbours are being decoded.
        self._piece_size = repository.config.cutting.piece_size
        self._pool = BufferPool(2 * self._workers + 2, self._piece_size)
        self._stop = Stop(self._pool.close)
        self._lock = threading.Lock()
        self._order = threading.Lock()
        self._finisher = ThreadPoolExecutor(2, thread_name_prefix="finish")
        self._finishing: list[Future[None]] = []
        self._finishing_room = threading.BoundedSemaphore(_MAX_FINISHING)
        self._open: set[_Target] = set()
        self._unreadable: Unreachable | None = None
        self._last_read: str | None = None
        self.result = Fetched()

    def run(self, tasks: Iterable[FetchTask]) -> Fetched:
        """Fetch everything. Damaged blobs end up in ``failed``; other errors end the run."""
        steps = self._steps(tasks)
        try:
            run_threads([lambda: self._work(steps)] * self._workers, self._stop, self._session.cancel)
        finally:
            self._finisher.shutdown(wait=True)
            for target in self._open:
                target.close()
            self._open.clear()
        for future in self._finishing:
            future.result()
        self._require_disk()
        return self.result

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

    def _steps(self, tasks: Iterable[FetchTask]) -> Iterator[tuple[_Target, int, Lease]]:
        """Every piece of every file with a buffer for it, in order.

        Buffers are handed out in the order of the pieces: a later piece never starves an earlier one for
        which its file's hash waits.
        """
        for task in tasks:
            self._session.progress.file(task.entry.path)
            try:
                pieces = self._repository.piece_list(task.entry)
                too_long = max((length for length, _ in pieces), default=0) > self._piece_size
            except (IntegrityError, Unreachable) as error:
                self._note_unreadable(error)
                self._fail(task, error.message)
                continue
            if too_long:
                self._fail(task, "A piece is longer than the repository's rules allow.")
                continue
            try:
                target = _Target(task, pieces)
            except OSError as error:
                raise from_os_error(error, f"writing {task.destination}") from error
            with self._lock:
                self._open.add(target)
            if not pieces:
                self._finish(target)
            for index, (length, _) in enumerate(pieces):
                yield target, index, self._pool.lease(length, 1 + target.hasher.holds)

    def _fail(self, task: FetchTask, reason: str) -> None:
        with self._lock:
            self.result.failed[task.entry.real_path] = reason

    def _work(self, steps: Iterator[tuple[_Target, int, Lease]]) -> None:
        scratch = memoryview(bytearray(self._piece_size + _FRAME_SLACK))
        while not self._stop.is_set:
            with self._order:
                step = next(steps, None)
            if step is None:
                return
            target, index, lease = step
            self._fill(target, index, lease, scratch)
            # Failed pieces are offered, too: those behind them in the chain hold buffers until it moves on.
            done = target.hasher.offer(index, lease)
            length = len(lease.view)
            lease.release()
            self._session.progress.advance(length)
            if target.done(done + 1):
                self._finish(target)

    def _fill(self, target: _Target, index: int, lease: Lease, scratch: memoryview) -> None:
        if target.problem is not None:
            return
        length, wanted = target.pieces[index]
        offset = target.offsets[index]
        identity = bytes.fromhex(wanted)
        if target.started_before and _holds(target.fd, offset, lease.view, identity):
            return
        local = target.candidate_fd is not None and _holds(target.candidate_fd, offset, lease.view, identity)
        stored = 0
        if not local:
            try:
                stored = self._repository.load_blob_into(wanted, lease.view, scratch=scratch)
            except (IntegrityError, Unreachable) as error:
                self._note_unreadable(error)
                target.problem = error.message
                return
            self._last_read = wanted
        try:
            pwrite_all(target.fd, lease.view, offset)
            start_writeback(target.fd, offset, length)
        except OSError as error:
            raise from_os_error(error, f"writing {target.task.destination}") from error
        with self._lock:
            self.result.bytes_written += length
            self.result.bytes_from_repository += stored

    def _finish(self, target: _Target) -> None:
        """Make a complete file durable, in a thread that may wait for the disk."""
        self._finishing_room.acquire()
        self._finishing.append(self._finisher.submit(self._make_durable, target))

    def _make_durable(self, target: _Target) -> None:
        entry = target.task.entry
        try:
            digest = target.hasher.digests().blake3
            if target.problem is None and entry.blake3 is not None and digest != entry.blake3:
                target.problem = "The whole file does not match its digest although its pieces do."
            if target.problem is not None:
                self._fail(target.task, target.problem)
                return
            try:
                os.fchmod(target.fd, entry.mode)
                os.utime(target.fd, ns=(entry.mtime_ns, entry.mtime_ns))
                os.fsync(target.fd)
            except OSError as error:
                raise from_os_error(error, f"writing {target.task.destination}") from error
            drop_cached(target.fd, 0, 0)
        except ZitcacheError as error:
            self._stop.set(error)
            raise
        finally:
            with self._lock:
                self._open.discard(target)
            target.close()
            self._finishing_room.release()
        with self._lock:
            self.result.files.append(entry.real_path)
        self._on_durable(target.task)


def _holds(fd: int, offset: int, view: memoryview, identity: bytes) -> bool:
    """Read ``view`` from ``fd`` and tell whether it is the blob ``identity``."""
    try:
        return pread_into(fd, view, offset) == len(view) and blob_id(view) == identity
    except OSError:
        return False


def fetch_files(
    repository: Repository,
    tasks: Iterable[FetchTask],
    session: Session,
    on_durable: Callable[[FetchTask], None] = lambda task: None,
) -> Fetched:
    """Write every file durably, with mode and time; ``on_durable`` is called (in a thread) for each.

    A file whose blobs are damaged or missing comes back in ``failed``, its destination unfinished. Raises
    ``NoSpace``, ``CredentialsError``, ``Interrupted``, …: then finished pieces stay for the next run.
    """
    return _Fetch(repository, session, on_durable).run(tasks)
