"""Blobs from one repository into packs of another: as they are encoded, and proven on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from zitcache.codec.blob import EncodedBlob, decode_expected
from zitcache.codec.frame import HEADER_SIZE, FrameHeader, FrameKind
from zitcache.errors import IntegrityError, ObjectNotFound
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.repository.index import Location
from zitcache.repository.needs import BlobKey
from zitcache.repository.pack import pack_name
from zitcache.repository.ranges import RANGE_BYTES, Range, coalesce, ranges_in_flight
from zitcache.repository.repository import Repository
from zitcache.repository.saver import Saver
from zitcache.tasks.buffers import BufferPool
from zitcache.tasks.workers import Stop, run_threads


class BlobCopy:
    """One run. ``failed``: by blob, why no sound copy of it was found. Everything else is in ``saver``."""

    def __init__(self, source: Repository, saver: Saver, session: Session) -> None:
        self._source = source
        self._storage = source.storage
        self._saver = saver
        self._session = session
        piece_size = source.config.cutting.piece_size
        self._range_bytes = max(RANGE_BYTES, piece_size + HEADER_SIZE)
        cores = worker_count() + 1
        # A quarter of what a restore takes: most of the memory is for packs that are sent.
        self._threads = ranges_in_flight(max(cores, self._storage.concurrency), 4 * self._range_bytes)
        self._pool = BufferPool(cores, piece_size)
        self._stop = Stop(self._pool.close)
        self._order = threading.Lock()
        self._lock = threading.Lock()
        self.failed: dict[BlobKey, str] = {}
        self.blobs = 0
        self.bytes = 0

    def run(self, missing: Mapping[BlobKey, Location | None]) -> None:
        """Read, verify and save every blob. Raises what the storages raise, and ``Interrupted``."""
        for blob, location in missing.items():
            if location is None:
                self.failed[blob] = f"No pack holds blob {blob[0][:8]}."
        parts = sorted(
            ((location, blob) for blob, location in missing.items() if location is not None),
            key=lambda part: (part[0].pack, part[0].offset),
        )
        self._session.progress.stage("Copying", sum(location.length for location, _ in parts))
        ranges = iter(coalesce(parts, max_bytes=self._range_bytes))
        run_threads([lambda: self._work(ranges)] * self._threads, self._stop, self._session.cancel)

    def _work(self, ranges: Iterator[Range[BlobKey]]) -> None:
        buffer = memoryview(bytearray(0))
        while not self._stop.is_set:
            with self._order:
                part = next(ranges, None)
            if part is None:
                return
            if part.length > len(buffer):
                buffer = memoryview(bytearray(max(part.length, self._range_bytes)))
            data: memoryview | None = buffer[: part.length]
            try:
                self._storage.load_into(pack_name(part.pack), part.offset, buffer[: part.length])
            except (IntegrityError, ObjectNotFound):
                data = None  # one by one, then: most of it may be sound
            for location, blob in part.parts:
                if self._stop.is_set:
                    return
                self._copy(blob, location, None if data is None else part.frame(data, location))

    def _copy(self, blob: BlobKey, location: Location, frame: memoryview | None) -> None:
        lease = self._pool.lease(location.raw_size, 1)
        try:
            good = frame if frame is not None and _is_sound(frame, blob, lease.view) else None
            if good is None:
                good = self._read_again(blob)
        finally:
            lease.release()
        self._session.progress.advance(location.length)
        if good is None or not self._saver.claim(blob[0], FrameKind(blob[1])):
            return
        self._saver.save(EncodedBlob(FrameHeader.unpack(good), (good[HEADER_SIZE:],)))
        with self._lock:
            self.blobs += 1
            self.bytes += len(good)

    def _read_again(self, blob: BlobKey) -> memoryview | None:
        """A sound frame from any copy of the blob, each looked at alone; None, and a failure, without one."""
        problem = "it is missing"
        for index in (self._source.index, None):
            if index is None:
                if problem != "gone":
                    break
                index = self._source.reload_index()
            for location in index.locations(blob[0]):
                if location.kind != blob[1]:
                    continue
                for _ in range(2 if self._storage.is_remote else 1):
                    frame = memoryview(bytearray(location.length))
                    out = memoryview(bytearray(location.raw_size))
                    try:
                        self._storage.load_into(pack_name(location.pack), location.offset, frame)
                        decode_expected(frame, blob[0], FrameKind(blob[1]), out)
                    except ObjectNotFound:
                        problem = "gone"
                    except IntegrityError as error:
                        problem = f"pack {location.pack[:8]}, offset {location.offset}: {error.message}"
                    else:
                        return frame
        with self._lock:
            self.failed[blob] = f"Blob {blob[0][:8]} cannot be read: {problem}"
        return None


def _is_sound(frame: memoryview, blob: BlobKey, out: memoryview) -> bool:
    try:
        decode_expected(frame, blob[0], FrameKind(blob[1]), out)
    except IntegrityError:
        return False
    return True
