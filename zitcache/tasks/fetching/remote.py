"""Fetch over a network: large ranges of packs, many at once, whatever file they belong to.

The pieces of a file were saved into several packs side by side. So a window of pieces that come next, of as
many files as it takes, is sorted into ranges; each range is read, decoded and written by one thread while
others wait for theirs. The windows grow: the first is small, so that bytes reach the disk at once. The last
ranges are small again: they all arrive together, and then nothing is left to read while they are decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from zitcache.codec.blob import decode_expected
from zitcache.codec.frame import HEADER_SIZE, FrameKind
from zitcache.errors import IntegrityError, Interrupted, ObjectNotFound, from_os_error
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.machine.files import pread_into
from zitcache.repository.index import Location
from zitcache.repository.pack import pack_name
from zitcache.repository.ranges import RANGE_BYTES, Range, coalesce, ranges_in_flight
from zitcache.repository.records import MAX_PIECE_SIZE
from zitcache.repository.repository import Repository
from zitcache.storage.parallel import in_parallel
from zitcache.tasks.buffers import BufferPool
from zitcache.tasks.fetching.writing import Fetched, FetchTask, Target, Writing
from zitcache.tasks.workers import Stop, run_threads

_FIRST_WINDOW = 2 << 20
_WINDOW = 64 << 20
_WINDOW_FILES = 64
_LAST_BYTES = 384 << 20
_LAST_RANGE = 2 << 20
_OPEN_FILES = 192
"""More than twice the files of a window: those of one that is being put together wait for earlier ones."""
_POLL_SECONDS = 0.1


class LateHasher:
    """BLAKE3 of a file whose pieces are written in any order.

    A piece is hashed by whoever brings the one that is next. Those behind it that were written before are
    read back, from the page cache as a rule, so that no buffer waits for its turn.
    """

    def __init__(self, fd: int, pieces: list[tuple[int, str]]) -> None:
        self._fd = fd
        self._lengths = [length for length, _ in pieces]
        self._written = bytearray(len(pieces))
        self._next = 0
        self._position = 0
        self._is_busy = False
        self._lock = threading.Lock()
        self._hasher = blake3()

    def written(self, index: int, view: memoryview, spare: memoryview, *, is_good: bool) -> int:
        """Piece ``index`` was dealt with, its bytes are in ``view``; how many pieces this call hashed.

        ``spare``: at least as large as any piece of the file, may be the same memory. Raises ``OSError``.
        """
        with self._lock:
            self._written[index] = 1
            if self._is_busy:
                return 0
            self._is_busy = True
        hashed = 0
        while True:
            with self._lock:
                if self._next == len(self._lengths) or not self._written[self._next]:
                    self._is_busy = False
                    return hashed
            length = self._lengths[self._next]
            if is_good:
                if self._next != index:
                    view = spare[:length]
                    pread_into(self._fd, view, self._position)
                self._hasher.update(view)
            self._position += length
            with self._lock:
                self._next += 1
            hashed += 1

    def blake3(self) -> str:
        """Hex, once every piece was hashed."""
        return self._hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Piece ``index`` of a file. ``location``: of a copy of its blob, None if there is none."""

    target: Target[LateHasher]
    index: int

    @property
    def length(self) -> int:
        return self.target.pieces[self.index][0]

    @property
    def blob(self) -> str:
        return self.target.pieces[self.index][1]


_Job = Range[_Piece] | _Piece
"""A range to read, or a piece that no pack is known to have."""


class RemoteFetch:
    """One run of the pipeline."""

    def __init__(
        self, repository: Repository, session: Session, on_durable: Callable[[FetchTask], None]
    ) -> None:
        self._repository = repository
        self._storage = repository.storage
        self._session = session
        piece_size = repository.config.cutting.piece_size
        self._range_bytes = max(RANGE_BYTES, piece_size + HEADER_SIZE)
        self._threads = ranges_in_flight(self._storage.concurrency, self._range_bytes)
        # As many pieces are decoded at once as there are processors; the other threads wait for the network.
        self._pool = BufferPool(worker_count() + 1, piece_size)
        self._stop = Stop(self._pool.close)
        self._order = threading.Lock()
        self._room = threading.BoundedSemaphore(_OPEN_FILES)
        self._writing: Writing[LateHasher] = Writing(session, self._stop, LateHasher, on_durable)
        self._writing.on_close = self._room.release

    def run(self, tasks: Iterable[FetchTask]) -> Fetched:
        """Fetch everything. Damaged blobs end up in ``failed``; other errors end the run."""
        jobs = self._jobs(tasks)
        try:
            run_threads([lambda: self._work(jobs)] * self._threads, self._stop, self._session.cancel)
        finally:
            jobs.close()
            self._writing.close()
        self._writing.raise_failures()
        return self._writing.result

    # -- what to read -------------------------------------------------------------------------------

    def _jobs(self, tasks: Iterable[FetchTask]) -> Generator[_Job, None, None]:
        """Everything to do, in the order of the files. One thread at a time goes on with it."""
        window: list[tuple[Location, _Piece]] = []
        size, files, limit, most = 0, 0, _FIRST_WINDOW, self._range_bytes
        tasks = list(tasks)
        left = sum(task.entry.size for task in tasks)
        for task, pieces in in_parallel(self._pieces_of, tasks, self._storage.concurrency):
            if isinstance(pieces, str):
                self._writing.fail(task, pieces)
                continue
            self._session.progress.file(task.entry.path)
            files += 1
            target = self._begin(task, pieces)
            for index, (length, blob) in enumerate(pieces):
                piece = _Piece(target, index)
                location = self._repository.locate(blob)
                if location is None:
                    yield piece
                    continue
                window.append((location, piece))
                size += location.length
                left -= length
                if size >= limit:
                    yield from coalesce(window, max_bytes=min(most, limit))
                    window, size, files, limit = [], 0, 0, min(2 * limit, _WINDOW)
                    most = self._range_bytes if left > _LAST_BYTES else _LAST_RANGE
            if files >= _WINDOW_FILES:
                yield from coalesce(window, max_bytes=most)
                window, size, files = [], 0, 0
        yield from coalesce(window, max_bytes=most)

    def _pieces_of(self, task: FetchTask) -> tuple[FetchTask, list[tuple[int, str]] | str]:
        """The pieces of a file, or why they cannot be told."""
        try:
            pieces = self._repository.piece_list(task.entry)
        except IntegrityError as error:
            return task, error.message
        if max((length for length, _ in pieces), default=0) > MAX_PIECE_SIZE:
            return task, "A piece is longer than the format allows."
        return task, pieces

    def _begin(self, task: FetchTask, pieces: list[tuple[int, str]]) -> Target[LateHasher]:
        while not self._room.acquire(timeout=_POLL_SECONDS):
            if self._stop.is_set:
                raise Interrupted
        return self._writing.begin(task, pieces)

    # -- reading it ---------------------------------------------------------------------------------

    def _work(self, jobs: Iterator[_Job]) -> None:
        buffer = memoryview(bytearray(0))
        while not self._stop.is_set:
            with self._order:
                job = next(jobs, None)
            if job is None:
                return
            if isinstance(job, _Piece):
                self._settle(job, None)
                continue
            wanted = [(location, piece) for location, piece in job.parts if not self._is_local(piece)]
            for part in coalesce(wanted, max_bytes=max(job.length, self._range_bytes)):
                if self._stop.is_set:
                    return
                if part.length > len(buffer):
                    buffer = memoryview(bytearray(max(part.length, self._range_bytes)))
                self._read(part, buffer[: part.length])

    def _is_local(self, piece: _Piece) -> bool:
        """Take a piece from the disk if it is there."""
        target = piece.target
        if not target.started_before and target.candidate_fd is None:
            return False
        with self._leased(target) as whole:
            view = whole[: piece.length]
            if target.holds(piece.index, view):
                self._done(piece, view, whole)
                return True
            if target.candidate_holds(piece.index, view):
                self._writing.write(target, piece.index, view)
                self._done(piece, view, whole)
                return True
        return False

    def _read(self, part: Range[_Piece], data: memoryview) -> None:
        try:
            self._storage.load_into(pack_name(part.pack), part.offset, data)
        except (IntegrityError, ObjectNotFound):
            for _, piece in part.parts:
                self._settle(piece, None)
            return
        for location, piece in part.parts:
            if self._stop.is_set:
                return
            self._settle(piece, part.frame(data, location))

    def _settle(self, piece: _Piece, frame: memoryview | None) -> None:
        """Decode a piece and write it. A ``frame`` that is not right is read once more, by itself."""
        target = piece.target
        with self._leased(target) as whole:
            view = whole[: piece.length]
            if target.problem is None:
                try:
                    stored = self._decode(piece.blob, frame, view)
                except IntegrityError as error:
                    target.problem = error.message
                else:
                    self._writing.write(target, piece.index, view, stored)
            self._done(piece, view, whole)

    def _decode(self, blob: str, frame: memoryview | None, view: memoryview) -> int:
        if frame is not None:
            try:
                decode_expected(frame, blob, FrameKind.DATA, view)
            except IntegrityError:
                pass
            else:
                return len(frame)
        return self._repository.load_blob_into(blob, view)

    def _done(self, piece: _Piece, view: memoryview, whole: memoryview) -> None:
        target = piece.target
        is_good = target.problem is None
        try:
            hashed = target.hasher.written(piece.index, view, whole, is_good=is_good)
        except OSError as error:
            raise from_os_error(error, f"reading back {target.task.destination}") from error
        self._session.progress.advance(piece.length)
        self._writing.count(target, hashed + 1)

    def _leased(self, target: Target[LateHasher]) -> _Leased:
        return _Leased(self._pool, max(length for length, _ in target.pieces))


class _Leased:
    """A buffer for the time of a ``with`` block."""

    def __init__(self, pool: BufferPool, length: int) -> None:
        self._lease = pool.lease(length, 1)

    def __enter__(self) -> memoryview:
        return self._lease.view

    def __exit__(self, *error: object) -> None:
        self._lease.release()
