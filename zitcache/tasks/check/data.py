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
from zitcache.repository.records import BlobRecord, PackRecord
from zitcache.repository.repository import Repository
from zitcache.tasks.check.findings import Blob, Findings, Problem
from zitcache.tasks.check.frames import explain, judge_claims, judge_frame
from zitcache.tasks.workers import Stop, run_threads

MEMORY_FOR_BUFFERS = 256 << 20


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
        self._stop = Stop()
        self._lock = threading.Lock()
        self._large = threading.Lock()
        self.result = DataRead()

    def run(self, packs: Iterable[PackRecord], sizes: dict[str, int]) -> None:
        """Check every pack; each worker takes one at a time and reads it once, in order."""
        source = iter(packs)
        workers = buffer_workers(self._piece_size)
        run_threads([lambda: self._work(source, sizes)] * workers, self._stop, self._session.cancel)

    @property
    def _must_stop(self) -> bool:
        return self._stop.is_set or bool(self._session.cancel)

    def _work(self, source: Iterator[PackRecord], sizes: dict[str, int]) -> None:
        frame = memoryview(bytearray(self._piece_size + HEADER_SIZE))
        out = memoryview(bytearray(self._piece_size))
        while not self._must_stop:
            with self._lock:
                pack = next(source, None)
            if pack is None:
                return
            self._session.progress.file(pack_name(pack.id[:8]))
            self._check_pack(pack, sizes[pack.id], frame, out)

    def _check_pack(self, pack: PackRecord, size: int, frame: memoryview, out: memoryview) -> None:
        hasher = blake3()
        position = 0
        for record in pack.blobs:
            if self._must_stop:
                return
            problem = judge_claims(self._repository, record, size)
            if problem is None:
                problem = self._check_frame(pack.id, record, frame, out, hasher)
                position = record.offset + record.length
                self._count(record.length, blobs=1)
            if problem is not None:
                self._findings.add_blob(Blob(record.id, record.kind), pack.id, problem)
        if not self._read_rest(pack.id, position, size, frame, hasher):
            return
        with self._lock:
            self.result.packs += 1
        if self._findings.concerns_pack(pack.id):
            return
        if hasher.hexdigest() != pack.id:
            message = "Its bytes do not match its name, although every blob in it is sound."
            self._findings.add_pack(pack.id, Problem(message, tampered=True))
            return
        with self._lock:
            self.result.sound.append(pack.id)

    def _check_frame(
        self, pack_id: str, record: BlobRecord, frame: memoryview, out: memoryview, hasher: blake3
    ) -> Problem | None:
        if record.length <= len(frame) and record.raw_size <= len(out):
            return self._check_in(pack_id, record, frame, out, hasher)
        # The tree of a huge cache can be larger than any piece: one such frame is in memory at a time.
        with self._large:
            frame = memoryview(bytearray(record.length))
            return self._check_in(pack_id, record, frame, memoryview(bytearray(record.raw_size)), hasher)

    def _check_in(
        self, pack_id: str, record: BlobRecord, frame: memoryview, out: memoryview, hasher: blake3
    ) -> Problem | None:
        frame = frame[: record.length]
        try:
            self._repository.storage.load_into(pack_name(pack_id), record.offset, frame)
        except ZitcacheError as error:
            return Problem(explain(self._repository.storage, error))
        hasher.update(frame)
        return judge_frame(record, frame, out[: record.raw_size])

    def _read_rest(self, pack_id: str, position: int, size: int, buffer: memoryview, hasher: blake3) -> bool:
        """Hash what comes after the last frame: the table of contents, checked with the structure."""
        while position < size:
            if self._must_stop:
                return False
            part = buffer[: min(len(buffer), size - position)]
            try:
                self._repository.storage.load_into(pack_name(pack_id), position, part)
            except ZitcacheError as error:
                self._findings.add_pack(pack_id, Problem(explain(self._repository.storage, error)))
                return False
            hasher.update(part)
            position += len(part)
            self._count(len(part))
        return True

    def _count(self, byte_count: int, blobs: int = 0) -> None:
        self._session.progress.advance(byte_count)
        with self._lock:
            self.result.bytes_read += byte_count
            self.result.blobs += blobs
