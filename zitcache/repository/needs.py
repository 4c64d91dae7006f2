"""What snapshots need: every tree, piece list and piece, by id and kind. Exact, or an error."""

from __future__ import annotations

from zitcache.codec.frame import FrameKind
from zitcache.repository.records import SnapshotRecord, TreeRecord, decode_record
from zitcache.repository.repository import Repository

BlobKey = tuple[str, int]
"""(blob id, frame kind)."""


class Needs:
    """Collects what snapshots need; what several of them share is read once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.blobs: set[BlobKey] = set()

    def add(self, record: SnapshotRecord) -> None:
        """Add what a snapshot needs.

        Raises :class:`~zitcache.errors.BlobDamaged` or :class:`~zitcache.errors.IntegrityError` if a tree or
        a piece list cannot be read: nobody knows then what it names.
        """
        self._repository.fetch_metadata((tree, FrameKind.TREE) for tree in record.trees)
        for tree in record.trees:
            self._add_tree(tree)

    def _add_tree(self, tree: str) -> None:
        key = (tree, int(FrameKind.TREE))
        if key in self.blobs:
            return
        data = self._repository.load_blob(tree, FrameKind.TREE)
        entries = decode_record(data, TreeRecord, "tree of a snapshot").entries
        self._repository.fetch_metadata(
            (entry.pieces, FrameKind.PIECES)
            for entry in entries
            if entry.pieces is not None and (entry.pieces, int(FrameKind.PIECES)) not in self.blobs
        )
        for entry in entries:
            if entry.kind != "file":
                continue
            if entry.pieces is not None:
                list_key = (entry.pieces, int(FrameKind.PIECES))
                if list_key in self.blobs:
                    continue
                pieces = self._repository.piece_list(entry)
                self.blobs.update((blob, int(FrameKind.DATA)) for _, blob in pieces)
                self.blobs.add(list_key)
            elif entry.blob is not None:
                self.blobs.add((entry.blob, int(FrameKind.DATA)))
        # Last, so that a tree that could be read in part only is not taken for read.
        self.blobs.add(key)
