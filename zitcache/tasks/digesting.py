"""Read files once for their digests: for ``checksum``, ``verify``, and before and after a restore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from zitcache.cache.cutting import Piece
from zitcache.events import Session
from zitcache.machine.cpu import has_sha_extensions, worker_count
from zitcache.tasks.reading import FileRead, ReadPipeline, Wanted

KeyT = TypeVar("KeyT")

PIECE_BYTES = 4 << 20
_MANY_CORES = 4


def digest_files(
    files: Sequence[Wanted[KeyT]],
    session: Session,
    *,
    sha256: bool,
    on_file: Callable[[FileRead[KeyT]], None],
    on_piece: Callable[[KeyT, Piece, memoryview], object] | None = None,
    keep_cached: bool = False,
) -> None:
    """BLAKE3 of every file, and SHA-256 in the same read if asked for; see :class:`ReadPipeline`.

    ``on_file`` and ``on_piece`` run in threads. A file of up to :data:`PIECE_BYTES` is one piece.
    """
    if not files:
        return
    workers = worker_count()
    pipeline = ReadPipeline[KeyT](
        session,
        cut=_fixed_pieces,
        max_piece=PIECE_BYTES,
        workers=workers,
        readers=_reader_count(workers, sha256),
        sha256=sha256,
        keep_cached=keep_cached,
        on_piece=on_piece,
        on_file=on_file,
    )
    pipeline.run(files)


def _reader_count(workers: int, sha256: bool) -> int:
    """One file at a time suits the disk; but one file's SHA-256 keeps only one core busy."""
    if sha256 and not has_sha_extensions():
        return min(_MANY_CORES, workers)
    return 1 if workers <= _MANY_CORES else 4


def _fixed_pieces(fd: int, size: int, name: str) -> tuple[Piece, ...]:
    return tuple(Piece(offset, min(PIECE_BYTES, size - offset)) for offset in range(0, size, PIECE_BYTES))
