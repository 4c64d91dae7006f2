"""How large things are before and after compression: by dtype, by model, and over all snapshots.

Told from the repository alone, also when the cache is gone: what a blob holds follows from the header of its
file, which is a blob as well, and from the rule that cuts files at their tensors.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from zitcache.cache.cutting import cut
from zitcache.cache.safetensors_header import MAX_HEADER_BYTES, HeaderError, parse_header
from zitcache.errors import IntegrityError, ZitcacheError
from zitcache.repository.records import SnapshotModel, TreeEntry
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot

OTHER = "other"
_SMALL_FILE_BYTES = 1 << 20


class Sizes(msgspec.Struct, kw_only=True):
    """``size_bytes``: as in the cache; ``stored_bytes``: in the repository, each blob once."""

    name: str
    size_bytes: int
    stored_bytes: int


class Totals(msgspec.Struct, kw_only=True):
    """Over all snapshots. ``size_bytes``: their sizes added up; ``unique_bytes``: each blob once, decoded.

    ``stored_bytes``: all packs. So ``size/unique`` is what deduplication saves and ``unique/stored`` what
    compression does.
    """

    size_bytes: int
    unique_bytes: int
    stored_bytes: int


def sizes_by_dtype(repository: Repository, entries: Iterable[TreeEntry]) -> list[Sizes]:
    """Sizes per safetensors dtype ("F32", "BF16", …) and :data:`OTHER`, the largest first.

    A file of which a blob is missing counts as far as it is there.
    """
    raw: dict[str, int] = defaultdict(int)
    stored: dict[str, int] = defaultdict(int)
    seen: set[str] = set()
    for entry in entries:
        if entry.kind != "file":
            continue
        for length, blob, dtype in _pieces(repository, entry):
            raw[dtype] += length
            if blob not in seen:
                seen.add(blob)
                stored[dtype] += _stored(repository, blob)
    found = [Sizes(name=name, size_bytes=raw[name], stored_bytes=stored[name]) for name in raw]
    return sorted(found, key=lambda sizes: -sizes.size_bytes)


def sizes_by_model(
    repository: Repository, entries: Iterable[TreeEntry], models: Iterable[SnapshotModel]
) -> list[Sizes]:
    """Sizes per model folder, the largest first. Two revisions that share one folder are one line."""
    by_root: dict[str, list[str]] = {}
    for model in models:
        names = by_root.setdefault(model.root, [])
        if model.id not in names:
            names.append(model.id)
    raw: dict[str, int] = dict.fromkeys(by_root, 0)
    blobs: dict[str, set[str]] = {root: set() for root in by_root}
    for entry in entries:
        if entry.kind != "file":
            continue
        root = _root_of(entry.real_path, by_root)
        if root is None:
            continue
        raw[root] += entry.size
        try:
            blobs[root].update(blob for _, blob in repository.piece_list(entry))
        except IntegrityError:
            continue
    found = [
        Sizes(
            name=", ".join(names),
            size_bytes=raw[root],
            stored_bytes=sum(_stored(repository, blob) for blob in blobs[root]),
        )
        for root, names in by_root.items()
    ]
    return sorted(found, key=lambda sizes: -sizes.size_bytes)


def totals(repository: Repository, snapshots: Iterable[Snapshot]) -> Totals:
    """What all snapshots together would take, and what the repository takes."""
    index = repository.index
    return Totals(
        size_bytes=sum(snapshot.record.size_bytes for snapshot in snapshots),
        unique_bytes=sum(index.raw_size(blob) or 0 for blob in index),
        stored_bytes=sum(index.packs.values()),
    )


def _root_of(path: str, roots: Mapping[str, object]) -> str | None:
    """The innermost model folder that holds ``path``."""
    parent = path
    while parent:
        parent = parent.rpartition("/")[0]
        if parent in roots:
            return parent
    return None


def _stored(repository: Repository, blob: str) -> int:
    return min((location.length for location in repository.index.locations(blob)), default=0)


def _pieces(repository: Repository, entry: TreeEntry) -> list[tuple[int, str, str]]:
    """Length, blob and dtype of every piece of a file."""
    try:
        pieces = repository.piece_list(entry)
    except ZitcacheError:
        return []
    dtypes: dict[int, str | None] = {}
    if entry.size >= _SMALL_FILE_BYTES:
        with contextlib.suppress(ZitcacheError):
            dtypes = _dtypes(repository, entry, pieces)
    found, offset = [], 0
    for length, blob in pieces:
        found.append((length, blob, dtypes.get(offset) or OTHER))
        offset += length
    return found


def _dtypes(repository: Repository, entry: TreeEntry, pieces: list[tuple[int, str]]) -> dict[int, str | None]:
    """The dtype of the piece at each offset; empty for what is no safetensors file."""
    head = b""
    needed = 9
    for _, blob in pieces:
        head += repository.load_blob(blob)
        if len(head) >= 9 and needed == 9:
            length = int.from_bytes(head[:8], "little")
            if head[8:9] != b"{" or length > min(MAX_HEADER_BYTES, entry.size):
                return {}
            needed = 8 + length
        if len(head) >= needed:
            break
    try:
        header = parse_header(head[8:needed], entry.size)
    except HeaderError:
        return {}
    return {piece.offset: piece.dtype for piece in cut(entry.size, header, repository.config.cutting)}
