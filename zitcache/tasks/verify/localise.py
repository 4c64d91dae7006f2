"""Where a file differs from its content in the snapshot: a second read of just that file, piece by piece.

A piece whose BLAKE3 is not its id is decoded from the repository and compared byte by byte.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zitcache.cache.cutting import Piece
from zitcache.cache.damage import ByteRange
from zitcache.cache.tree import TreeItem
from zitcache.codec.blob import blob_id
from zitcache.errors import IntegrityError
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.repository.records import MAX_PIECE_SIZE, TreeEntry
from zitcache.repository.repository import Repository
from zitcache.tasks.reading import FileRead, ReadPipeline, Wanted
from zitcache.tasks.verify.live import identity_of

MAX_RANGES = 64
_CLOSE_BYTES = 64
"""Differences this close are one: overwritten bytes are equal to the old ones now and then by chance."""

_STEP_BYTES = 1 << 20
_MAX_COMPARED = 256
"""Pieces per file that are compared byte by byte: a file that is all different needs no more detail."""


@dataclass(frozen=True, slots=True)
class Localised:
    """``ranges``: where the bytes differ, within both lengths; ``bytes_differing``: how many do.

    ``problem``: "changed", or why the file cannot be read.
    """

    ranges: tuple[ByteRange, ...]
    bytes_differing: int
    problem: str | None = None


class _Suspect:
    """A file and the pieces it should be made of."""

    def __init__(self, item: TreeItem, pieces: Sequence[tuple[int, str]]) -> None:
        self.item = item
        self.ids: dict[int, tuple[int, str]] = {}
        self.cut: list[Piece] = []
        self._compared = 0
        self._lock = threading.Lock()
        offset = 0
        for length, identity in pieces:
            self.ids[offset] = (length, identity)
            if offset < item.size:
                self.cut.append(Piece(offset, min(length, item.size - offset)))
            offset += length

    def may_compare(self) -> bool:
        """Count one more piece to compare byte by byte; False when there were enough."""
        with self._lock:
            self._compared += 1
            return self._compared <= _MAX_COMPARED


def localise(
    repository: Repository, root: str, suspects: Sequence[tuple[TreeItem, TreeEntry]], session: Session
) -> dict[str, Localised]:
    """By path, where each file differs from its entry. A file whose pieces cannot be told is left out."""
    piece_size = repository.config.cutting.piece_size
    chosen: dict[str, _Suspect] = {}
    for item, entry in suspects:
        try:
            pieces = repository.piece_list(entry)
        except IntegrityError:
            continue
        if all(length <= MAX_PIECE_SIZE for length, _ in pieces):
            chosen[os.path.join(root, item.path)] = _Suspect(item, pieces)
    found: dict[str, Localised] = {}
    lock = threading.Lock()

    def on_piece(suspect: _Suspect, piece: Piece, data: memoryview) -> Difference:
        return _compare(repository, suspect, piece, data)

    def on_file(read: FileRead[_Suspect]) -> None:
        differences = [result for result in read.results if isinstance(result, Difference)]
        ranges = joined([pair for difference in differences for pair in difference.ranges])
        differing = sum(difference.bytes_differing for difference in differences)
        problem = None if read.digests is not None else read.problem
        with lock:
            found[read.key.item.path] = Localised(ranges, differing, problem)

    if chosen:
        session.progress.stage("Looking closer", sum(suspect.item.size for suspect in chosen.values()))
        pipeline = ReadPipeline[_Suspect](
            session,
            cut=_CutAsKnown(chosen),
            max_piece=piece_size,
            workers=worker_count(),
            on_piece=on_piece,
            on_file=on_file,
        )
        pipeline.run(Wanted(one, path, identity_of(one.item)) for path, one in chosen.items())
    return found


class _CutAsKnown:
    """Cuts a file as its snapshot entry does, not by what the file now says."""

    def __init__(self, suspects: Mapping[str, _Suspect]) -> None:
        self._suspects = suspects

    def __call__(self, fd: int, size: int, name: str) -> Sequence[Piece]:
        return self._suspects[name].cut


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two buffers differ, and in how many bytes."""

    ranges: tuple[ByteRange, ...] = ()
    bytes_differing: int = 0


def _compare(repository: Repository, suspect: _Suspect, piece: Piece, data: memoryview) -> Difference:
    length, identity = suspect.ids[piece.offset]
    if piece.length == length and blob_id(data) == bytes.fromhex(identity):
        return Difference()
    whole = Difference(((piece.offset, piece.offset + piece.length),), piece.length)
    if not suspect.may_compare():
        return whole
    expected = memoryview(bytearray(length))
    try:
        repository.load_blob_into(identity, expected)
    except IntegrityError:
        return whole
    return differences(data, expected[: piece.length], piece.offset)


def differences(data: memoryview, expected: memoryview, offset: int) -> Difference:
    """Where two buffers of one length differ, counted from ``offset``; at most MAX_RANGES ranges."""
    from zitcache.codec.arrays import np

    ranges: list[ByteRange] = []
    differing = 0
    arrays = np.frombuffer(data, np.uint8), np.frombuffer(expected, np.uint8)
    for base in range(0, len(data), _STEP_BYTES):
        left, right = (array[base : base + _STEP_BYTES] for array in arrays)
        unequal = np.flatnonzero(left != right)
        if not unequal.size:
            continue
        differing += int(unequal.size)
        breaks = np.flatnonzero(np.diff(unequal) > _CLOSE_BYTES)
        starts = unequal[np.concatenate(([0], breaks + 1))] + (offset + base)
        ends = unequal[np.concatenate((breaks, [unequal.size - 1]))] + (offset + base + 1)
        ranges += zip(starts.tolist(), ends.tolist(), strict=True)
    return Difference(joined(ranges), differing)


def joined(ranges: Sequence[ByteRange]) -> tuple[ByteRange, ...]:
    """The ranges joined across small gaps, the smallest first until there are no more than MAX_RANGES."""
    ordered = sorted(ranges)
    if not ordered:
        return ()
    gaps = [after[0] - before[1] for before, after in itertools.pairwise(ordered)]
    widest = sorted(range(len(gaps)), key=gaps.__getitem__, reverse=True)[: MAX_RANGES - 1]
    splits = sorted(index for index in widest if gaps[index] > _CLOSE_BYTES)
    firsts = [0, *(index + 1 for index in splits)]
    lasts = [*splits, len(ordered) - 1]
    return tuple((ordered[first][0], ordered[last][1]) for first, last in zip(firsts, lasts, strict=True))
