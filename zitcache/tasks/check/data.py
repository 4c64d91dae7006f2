"""Read packs from front to back and check every frame, and the whole against its name, with all cores."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from zitcache.codec.frame import HEADER_SIZE
from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.repository.pack import pack_name
from zitcache.repository.ranges import RANGE_BYTES, ranges_in_flight
from zitcache.repository.records import BlobRecord, PackRecord
from zitcache.repository.repository import Repository
from zitcache.storage.protocol import Storage
from zitcache.tasks.check.findings import Blob, Findings, Problem
from zitcache.tasks.check.frames import explain, judge_claims, judge_frame
from zitcache.tasks.workers import Stop, run_threads

MEMORY_FOR_BUFFERS = 256 << 20


class PackReader:
    """Parts of one pack after the other, in order. Of a remote one, what comes next is read along.

    ``capacity``: bytes that it reads without allocating.
    """

    def __init__(self, storage: Storage, frame_size: int) -> None:
        self._storage = storage
        self.capacity = max(frame_size, RANGE_BYTES) if storage.is_remote else frame_size
        self._buffer = memoryview(bytearray(self.capacity))
        self._pack_id, self._size = "", 0
        self._start = self._end = 0

    def open(self, pack_id: str, size: int) -> None:
        """Go on with this pack of ``size`` bytes."""
        self._pack_id, self._size = pack_id, size
        self._start = self._end = 0

    def read(self, offset: int, length: int, *, anew: bool = False) -> memoryview:
        """Bytes of the pack, valid until the next call. ``anew``: from the storage in any case.

        Raises what the storage raises.
        """
        name = pack_name(self._pack_id)
        if length > self.capacity:
            large = memoryview(bytearray(length))
            self._storage.load_into(name, offset, large)
            return large
        if anew or not self._start <= offset <= offset + length <= self._end:
            ahead = length
            if self._storage.is_remote:
                ahead = max(length, min(self.capacity, self._size - offset))
            self._start = self._end = 0
            self._storage.load_into(name, offset, self._buffer[:ahead])
            self._start, self._end = offset, offset + ahead
        return self._buffer[offset - self._start :][:length]


@dataclass(slots=True)
class DataRead:
    """``packs``: read whole; ``blobs``: frames read, good and bad; ``sound``: packs with nothing wrong."""

    packs: int = 0
    blobs: int = 0
    bytes_read: int = 0
    sound: list[str] = field(default_factory=list)


def buffer_workers(piece_size: int) -> int:
    """How many workers with two buffers for a piece each; one more than processors, to wait for the disk."""
    return max(1, min(worker_count() + 1, MEMORY_FOR_BUFFERS // (2 * (piece_size + HEADER_SIZE))))


class PackCheck:
    """One run over some packs. ``result`` grows while :meth:`run` works, and stays right if it is stopped."""

    def __init__(self, repository: Repository, findings: Findings, session: Session) -> None:
        self._repository = repository
        self._findings = findings
        self._session = session
        self._piece_size = repository.config.cutting.piece_size
        self._is_remote = repository.storage.is_remote
        self._stop = Stop()
        self._lock = threading.Lock()
        self._large = threading.Lock()
        self.result = DataRead()

    def run(self, packs: Iterable[PackRecord], sizes: dict[str, int]) -> None:
        """Check every pack; each worker takes one at a time and reads it once, in order."""
        source = iter(packs)
        workers = buffer_workers(self._piece_size)
        if self._is_remote:
            # Most of them wait for the network; each holds a range and a piece.
            concurrency = self._repository.storage.concurrency
            workers = max(workers, ranges_in_flight(concurrency, RANGE_BYTES + self._piece_size))
        run_threads([lambda: self._work(source, sizes)] * workers, self._stop, self._session.cancel)

    @property
    def _must_stop(self) -> bool:
        return self._stop.is_set or bool(self._session.cancel)

    def _work(self, source: Iterator[PackRecord], sizes: dict[str, int]) -> None:
        reader = PackReader(self._repository.storage, self._piece_size + HEADER_SIZE)
        out = memoryview(bytearray(self._piece_size))
        while not self._must_stop:
            with self._lock:
                pack = next(source, None)
            if pack is None:
                return
            self._session.progress.file(pack_name(pack.id[:8]))
            self._check_pack(pack, sizes[pack.id], reader, out)

    def _check_pack(self, pack: PackRecord, size: int, reader: PackReader, out: memoryview) -> None:
        reader.open(pack.id, size)
        hasher = blake3()
        position = 0
        for record in pack.blobs:
            if self._must_stop:
                return
            problem = judge_claims(record, size)
            if problem is None:
                problem = self._check_frame(record, reader, out, hasher)
                position = record.offset + record.length
                self._count(record.length, blobs=1)
            if problem is not None:
                self._findings.add_blob(Blob(record.id, record.kind), pack.id, problem)
        if not self._read_rest(pack.id, position, size, reader, hasher):
            return
        with self._lock:
            self.result.packs += 1
        if self._findings.concerns_pack(pack.id):
            return
        if hasher.hexdigest() != pack.id and not self._has_its_name(pack.id, size, reader):
            message = "Its bytes do not match its name, although every blob in it is sound."
            self._findings.add_pack(pack.id, Problem(message, tampered=True))
            return
        with self._lock:
            self.result.sound.append(pack.id)

    def _check_frame(
        self, record: BlobRecord, reader: PackReader, out: memoryview, hasher: blake3
    ) -> Problem | None:
        if record.length <= reader.capacity and record.raw_size <= len(out):
            return self._check_in(record, reader, out, hasher)
        # The tree of a huge cache can be larger than any piece: one such frame is in memory at a time.
        with self._large:
            return self._check_in(record, reader, memoryview(bytearray(record.raw_size)), hasher)

    def _check_in(
        self, record: BlobRecord, reader: PackReader, out: memoryview, hasher: blake3
    ) -> Problem | None:
        try:
            frame = reader.read(record.offset, record.length)
            problem = judge_frame(record, frame, out[: record.raw_size])
            if problem is not None and self._is_remote:
                # A byte may have been turned over on its way here.
                frame = reader.read(record.offset, record.length, anew=True)
                problem = judge_frame(record, frame, out[: record.raw_size])
        except ZitcacheError as error:
            return Problem(explain(self._repository.storage, error))
        hasher.update(frame)
        return problem

    def _read_rest(self, pack_id: str, position: int, size: int, reader: PackReader, hasher: blake3) -> bool:
        """Hash what comes after the last frame: the table of contents, checked with the structure."""
        while position < size:
            if self._must_stop:
                return False
            try:
                part = reader.read(position, min(reader.capacity, size - position))
            except ZitcacheError as error:
                self._findings.add_pack(pack_id, Problem(explain(self._repository.storage, error)))
                return False
            hasher.update(part)
            position += len(part)
            self._count(len(part))
        return True

    def _has_its_name(self, pack_id: str, size: int, reader: PackReader) -> bool:
        """Whether a remote pack that was read wrong somewhere between its blobs is right after all."""
        if not self._is_remote:
            return False
        hasher = blake3()
        try:
            for position in range(0, size, reader.capacity):
                if self._must_stop:
                    return True  # not known, and not counted as read either
                hasher.update(reader.read(position, min(reader.capacity, size - position), anew=True))
        except ZitcacheError as error:
            explain(self._repository.storage, error)
            return False
        return hasher.hexdigest() == pack_id

    def _count(self, byte_count: int, blobs: int = 0) -> None:
        self._session.progress.advance(byte_count)
        with self._lock:
            self.result.bytes_read += byte_count
            self.result.blobs += blobs
