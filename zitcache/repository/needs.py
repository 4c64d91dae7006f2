"""What snapshots need: every tree, piece list and piece, by id and kind. Exact, or an error."""

from __future__ import annotations

from zitcache.codec.frame import FrameKind
from zitcache.errors import BlobDamaged
from zitcache.repository.records import SnapshotRecord, TreeRecord, decode_record
from zitcache.repository.repository import Repository

BlobKey = tuple[str, int]
"""(blob id, frame kind)."""


class Needs:
    """Collects what snapshots need; what several of them share is read once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.blobs: set[BlobKey] = set()

    def add(self, record: SnapshotRecord, *, lost: frozenset[BlobKey] = frozenset()) -> None:
        """Add what a snapshot needs. ``lost``: trees and lists known to be gone; they are passed over.

        Raises :class:`BlobDamaged` or :class:`IntegrityError` if a tree or a piece list cannot be read.
        """
        for tree in record.trees:
            self._add_tree(tree, lost)

    def _add_tree(self, tree: str, lost: frozenset[BlobKey]) -> None:
        key = (tree, int(FrameKind.TREE))
        if key in self.blobs:
            return
        try:
            data = self._repository.load_blob(tree, FrameKind.TREE)
        except BlobDamaged:
            if key in lost:
                return
            raise
        for entry in decode_record(data, TreeRecord, "tree of a snapshot").entries:
            if entry.kind != "file":
                continue
            if entry.pieces is not None:
                list_key = (entry.pieces, int(FrameKind.PIECES))
                if list_key in self.blobs:
                    continue
                try:
                    pieces = self._repository.piece_list(entry)
                except BlobDamaged:
                    if list_key in lost:
                        continue
                    raise
                self.blobs.update((blob, int(FrameKind.DATA)) for _, blob in pieces)
                self.blobs.add(list_key)
            elif entry.blob is not None:
                self.blobs.add((entry.blob, int(FrameKind.DATA)))
        # Last, so that a tree that could be read in part only is not taken for read.
        self.blobs.add(key)
