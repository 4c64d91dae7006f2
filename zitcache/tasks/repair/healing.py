"""Find lost blobs in the live cache and store them anew."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from zitcache.cache.cutting import Piece, cut_file
from zitcache.cache.tree import Kind
from zitcache.cache.walk import scan_tree
from zitcache.codec.blob import blob_id, encode
from zitcache.codec.frame import FrameKind
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.machine.files import pread_into
from zitcache.repository.needs import BlobKey
from zitcache.repository.records import MAX_PIECE_SIZE, PieceList
from zitcache.repository.repository import Repository
from zitcache.repository.saver import Saver
from zitcache.repository.trees import is_safe_path
from zitcache.tasks.reading import FileRead, ReadPipeline, Wanted
from zitcache.tasks.repair.survey import Place


@dataclass(slots=True)
class Healed:
    """Which lost blobs were found, and their bytes."""

    blobs: set[BlobKey] = field(default_factory=set)
    bytes_found: int = 0


def heal_from(
    cache: Path,
    lost: dict[BlobKey, list[Place]],
    repository: Repository,
    saver: Saver | None,
    session: Session,
) -> Healed:
    """Look for lost blobs in ``cache``; ``saver``: where to store them (None in a dry run).

    First at the places where they belong, in files of the same name or size; then, for what is still
    missing, everywhere, cutting each file as a backup does.
    """
    healed = Healed()
    if not lost:
        return healed
    search = _Search(cache, lost, repository, saver, session, healed)
    search.where_they_belong()
    if search.is_missing():
        search.everywhere()
    return healed


class _Search:
    def __init__(
        self,
        cache: Path,
        lost: dict[BlobKey, list[Place]],
        repository: Repository,
        saver: Saver | None,
        session: Session,
        healed: Healed,
    ) -> None:
        self._cache = cache
        self._lost = lost
        self._repository = repository
        self._saver = saver
        self._session = session
        self._healed = healed
        self._lock = threading.Lock()
        self._files = [item for item in scan_tree(cache).items if item.kind is Kind.FILE and item.size]

    def is_missing(self) -> bool:
        return any(self._is_wanted(key) for key in self._lost)

    def _is_wanted(self, key: BlobKey) -> bool:
        return key in self._lost and key not in self._healed.blobs and key[1] != FrameKind.TREE

    def where_they_belong(self) -> None:
        """Read just those ranges, however the files were cut."""
        by_size: dict[int, list[str]] = {}
        for item in self._files:
            by_size.setdefault(item.size, []).append(item.path)
        for key, places in self._lost.items():
            if key[1] != FrameKind.DATA:
                continue
            for place in places:
                if place.length > MAX_PIECE_SIZE:
                    continue  # nobody cut that
                own = [place.path] if is_safe_path(place.path) else []
                candidates = [*own, *by_size.get(place.file_size, [])]
                if any(self._try(key, place, path) for path in dict.fromkeys(candidates)):
                    break

    def _try(self, key: BlobKey, place: Place, path: str) -> bool:
        self._session.cancel.check()
        view = memoryview(bytearray(place.length))
        try:
            fd = os.open(
                os.path.join(self._cache, path),
                os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
            )
        except (OSError, ValueError):
            return False
        try:
            is_right = pread_into(fd, view, place.offset) == len(view) and blob_id(view).hex() == key[0]
        except OSError:
            return False
        finally:
            os.close(fd)
        if is_right:
            self._save(key, view, None)
        return is_right

    def everywhere(self) -> None:
        """Cut every file as a backup would and compare each piece; a piece list by the whole file."""
        rules = self._repository.config.cutting

        def on_piece(path: str, piece: Piece, data: memoryview) -> str:
            name = blob_id(data).hex()
            if self._is_wanted((name, int(FrameKind.DATA))):
                self._save((name, int(FrameKind.DATA)), data, piece.dtype)
            return name

        def on_file(read: FileRead[str]) -> None:
            if read.digests is None or len(read.pieces) < 2 or read.identity is None:
                return
            pieces = [
                (piece.length, str(name)) for piece, name in zip(read.pieces, read.results, strict=True)
            ]
            record = PieceList(size=read.identity.size, pieces=pieces)
            name = blob_id(msgspec.json.encode(record)).hex()
            key = (name, int(FrameKind.PIECES))
            with self._lock:
                if not self._is_wanted(key):
                    return
                self._healed.blobs.add(key)
            if self._saver is not None:
                self._repository.save_metadata(self._saver, record, FrameKind.PIECES)

        self._session.progress.stage("Searching the cache", sum(item.size for item in self._files))
        pipeline = ReadPipeline[str](
            self._session,
            cut=lambda fd, size, _name: cut_file(fd, size, rules),
            max_piece=rules.piece_size,
            workers=worker_count() + 1,
            on_piece=on_piece,
            on_file=on_file,
        )
        pipeline.run(Wanted(item.path, os.path.join(self._cache, item.path)) for item in self._files)

    def _save(self, key: BlobKey, data: memoryview, dtype: str | None) -> None:
        with self._lock:
            if key in self._healed.blobs:
                return
            self._healed.blobs.add(key)
            self._healed.bytes_found += len(data)
        if self._saver is not None and self._saver.claim(key[0], FrameKind(key[1])):
            self._saver.save(encode(data, dtype, known_id=bytes.fromhex(key[0])))
