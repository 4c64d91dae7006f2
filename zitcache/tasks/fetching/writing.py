"""Files on their way to the disk: opened, written piece by piece, made durable once the whole is right."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from zitcache.codec.blob import blob_id
from zitcache.errors import ZitcacheError, from_os_error
from zitcache.events import Session
from zitcache.machine.files import drop_cached, pread_into, preallocate, pwrite_all, start_writeback
from zitcache.repository.records import TreeEntry
from zitcache.tasks.workers import Stop

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
    """``failed``: by path, why a file could not be brought back. Bytes: written, and read from packs.

    ``first_write``: ``time.monotonic()`` when the first piece was in its file; None if none was written.
    """

    files: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    bytes_written: int = 0
    bytes_from_repository: int = 0
    first_write: float | None = None


class ContentHasher(Protocol):
    """The digest of a whole file, of which one step for each piece is counted by :meth:`Target.done`."""

    def blake3(self) -> str:
        """Hex, once every piece was hashed."""


HasherT = TypeVar("HasherT", bound=ContentHasher)


class Target(Generic[HasherT]):
    """A file being written. It is complete when every piece was dealt with, and every piece hashed."""

    def __init__(
        self,
        task: FetchTask,
        pieces: list[tuple[int, str]],
        make_hasher: Callable[[int, list[tuple[int, str]]], HasherT],
    ) -> None:
        self.task = task
        self.pieces = pieces
        self.offsets: list[int] = []
        offset = 0
        for length, _ in pieces:
            self.offsets.append(offset)
            offset += length
        self.problem: str | None = None
        self._left = 2 * len(pieces)
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
            self.hasher = make_hasher(self.fd, pieces)
            self.candidate_fd = _open_candidate(task.candidate)
        except BaseException:
            os.close(self.fd)
            raise

    def done(self, steps: int) -> bool:
        """Count finished steps; True for the one call that finishes the last."""
        with self._lock:
            self._left -= steps
            return self._left == 0

    def holds(self, index: int, view: memoryview) -> bool:
        """Whether the piece is in the file already; ``view`` then has it."""
        return self.started_before and self._reads(self.fd, index, view)

    def candidate_holds(self, index: int, view: memoryview) -> bool:
        """Whether the other local file has the piece; ``view`` then has it."""
        return self.candidate_fd is not None and self._reads(self.candidate_fd, index, view)

    def _reads(self, fd: int, index: int, view: memoryview) -> bool:
        try:
            whole = pread_into(fd, view, self.offsets[index]) == len(view)
        except OSError:
            return False
        return whole and blob_id(view).hex() == self.pieces[index][1]

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


class Writing(Generic[HasherT]):
    """All files of one run. ``result`` grows; ``stop`` is set by an error in the threads that finish files.

    ``on_close``: called for each file that was opened once it is closed again.
    """

    def __init__(
        self,
        session: Session,
        stop: Stop,
        make_hasher: Callable[[int, list[tuple[int, str]]], HasherT],
        on_durable: Callable[[FetchTask], None],
    ) -> None:
        self._session = session
        self._stop = stop
        self._make_hasher = make_hasher
        self._on_durable = on_durable
        self._lock = threading.Lock()
        self._finisher = ThreadPoolExecutor(2, thread_name_prefix="finish")
        self._finishing: list[Future[None]] = []
        self._finishing_room = threading.BoundedSemaphore(_MAX_FINISHING)
        self._open: set[Target[HasherT]] = set()
        self.on_close: Callable[[], None] = lambda: None
        self.result = Fetched()

    def begin(self, task: FetchTask, pieces: list[tuple[int, str]]) -> Target[HasherT]:
        """Open a file; one without pieces is complete at once. Raises the translation of ``OSError``."""
        try:
            target = Target(task, pieces, self._make_hasher)
        except OSError as error:
            raise from_os_error(error, f"writing {task.destination}") from error
        with self._lock:
            self._open.add(target)
        if not pieces:
            self.finish(target)
        return target

    def write(self, target: Target[HasherT], index: int, view: memoryview, stored_bytes: int = 0) -> None:
        """Put a piece into its place. ``stored_bytes``: what was read of the repository for it."""
        offset = target.offsets[index]
        try:
            pwrite_all(target.fd, view, offset)
            start_writeback(target.fd, offset, len(view))
        except OSError as error:
            raise from_os_error(error, f"writing {target.task.destination}") from error
        with self._lock:
            result = self.result
            result.bytes_written += len(view)
            result.bytes_from_repository += stored_bytes
            if result.first_write is None:
                result.first_write = time.monotonic()

    def fail(self, task: FetchTask, reason: str) -> None:
        """A file cannot be brought back; the others go on."""
        with self._lock:
            self.result.failed[task.entry.real_path] = reason

    def count(self, target: Target[HasherT], steps: int) -> None:
        """Some steps of a file are done; after its last one it is made durable."""
        if target.done(steps):
            self.finish(target)

    def finish(self, target: Target[HasherT]) -> None:
        """Make a complete file durable, in a thread that may wait for the disk."""
        self._finishing_room.acquire()
        self._finishing.append(self._finisher.submit(self._make_durable, target))

    def close(self) -> None:
        """Wait for the files that are complete, and let go of all others."""
        self._finisher.shutdown(wait=True)
        for target in self._open:
            target.close()
        self._open.clear()

    def raise_failures(self) -> None:
        """Raise the first error of the threads that finish files."""
        for future in self._finishing:
            future.result()

    def _make_durable(self, target: Target[HasherT]) -> None:
        entry = target.task.entry
        try:
            if target.problem is None and entry.blake3 is not None and target.hasher.blake3() != entry.blake3:
                target.problem = "The whole file does not match its digest although its pieces do."
            if target.problem is not None:
                self.fail(target.task, target.problem)
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
            self.on_close()
        with self._lock:
            self.result.files.append(entry.real_path)
        self._on_durable(target.task)
