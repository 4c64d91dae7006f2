"""``diff``: what changed from one snapshot to another, by name and by content."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from zitcache.errors import Exit, IntegrityError
from zitcache.events import Outcome, Session
from zitcache.repository.records import TreeEntry, portable
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots, resolve
from zitcache.tasks.locations import open_repository


class Change(msgspec.Struct, kw_only=True):
    """``change``: "added" | "removed" | "modified" | "metadata" (content equal). Sizes in bytes."""

    path: str
    change: str
    size_before: int | None
    size_after: int | None


class DiffReport(msgspec.Struct, kw_only=True):
    """What changed from snapshot ``a`` to ``b``; ``bytes_shared``: content bytes that both have.

    Bytes are counted by piece, each distinct one once: tensors that moved to other files are shared.
    """

    a: str
    b: str
    changes: list[Change]
    bytes_added: int
    bytes_removed: int
    bytes_shared: int


def diff(repository: str | None, a: str, b: str, session: Session) -> Outcome[DiffReport]:
    """Compare two snapshots, each named by a prefix of its id or "latest".

    Exit codes: 0, whether they differ or not; 1 if the pieces of a file cannot be told because the
    repository is damaged (the file then counts as one piece). Raises ``SnapshotNotFound``, ``BlobDamaged``
    or ``IntegrityError`` for a tree that cannot be read, ….
    """
    opened = open_repository(repository, session)
    found, unreadable = list_snapshots(opened)
    for snapshot_id, problem in sorted(unreadable.items()):
        session.warn(
            "snapshot-unreadable", f"Snapshot {snapshot_id[:8]} cannot be read: {problem}", "zitcache check"
        )
    before, after = (resolve(found, selector, opened.storage.location) for selector in (a, b))
    session.progress.stage("Comparing")
    old, new = (_Side(opened, opened.tree(side.record)) for side in (before, after))
    old_pieces, new_pieces = old.piece_sizes(session), new.piece_sizes(session)
    shared = old_pieces.keys() & new_pieces.keys()
    report = DiffReport(
        a=before.id,
        b=after.id,
        changes=list(_changes(old, new)),
        bytes_added=sum(size for blob, size in new_pieces.items() if blob not in shared),
        bytes_removed=sum(size for blob, size in old_pieces.items() if blob not in shared),
        bytes_shared=sum(old_pieces[blob] for blob in shared),
    )
    exit_code = Exit.DAMAGE if old.is_damaged or new.is_damaged else Exit.OK
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


class _Side:
    """One of the two trees."""

    def __init__(self, repository: Repository, entries: list[TreeEntry]) -> None:
        self._repository = repository
        self.entries = {entry.real_path: entry for entry in entries}
        self._parents = {os.path.dirname(path) for path in self.entries}
        self.is_damaged = False

    def content(self, entry: TreeEntry) -> tuple[object, ...]:
        """What makes two entries the same but for mode and times."""
        if entry.kind == "symlink":
            return ("symlink", entry.real_target)
        if entry.kind == "directory":
            return ("directory",)
        file = self.file_of(entry)
        return ("file", file.size, file.blake3 or file.blob or file.pieces)

    def file_of(self, entry: TreeEntry) -> TreeEntry:
        """The entry that has the content of a file or of a hard link."""
        return self.entries[entry.real_target] if entry.kind == "hardlink" else entry

    def size(self, entry: TreeEntry) -> int | None:
        """Bytes of a file; None for what has no content."""
        return self.file_of(entry).size if entry.kind in {"file", "hardlink"} else None

    def is_told_by_others(self, entry: TreeEntry) -> bool:
        """Whether this is a directory with something in it: what is in it comes and goes with it."""
        return entry.kind == "directory" and entry.real_path in self._parents

    def piece_sizes(self, session: Session) -> dict[str, int]:
        """Every distinct piece of all files, with its size in bytes."""
        sizes: dict[str, int] = {}
        seen: set[str] = set()
        for entry in self.entries.values():
            if entry.kind != "file" or entry.pieces in seen:
                continue
            session.cancel.check()
            if entry.pieces is not None:
                seen.add(entry.pieces)
            sizes.update((blob, length) for length, blob in self._pieces(entry, session))
        return sizes

    def _pieces(self, entry: TreeEntry, session: Session) -> Iterable[tuple[int, str]]:
        try:
            return self._repository.piece_list(entry)
        except IntegrityError as error:
            self.is_damaged = True
            session.warn(
                "pieces-unreadable",
                f"{entry.path} is compared as a whole: its list of pieces is damaged. {error.message}",
                "zitcache check",
            )
            return [(entry.size, entry.blake3)] if entry.blake3 is not None else []


def _changes(old: _Side, new: _Side) -> Iterable[Change]:
    for path in sorted(old.entries.keys() | new.entries.keys(), key=os.fsencode):
        before, after = old.entries.get(path), new.entries.get(path)
        what = _change(old, before, new, after)
        if what is not None:
            yield Change(
                path=portable(path)[0],
                change=what,
                size_before=None if before is None else old.size(before),
                size_after=None if after is None else new.size(after),
            )


def _change(old: _Side, before: TreeEntry | None, new: _Side, after: TreeEntry | None) -> str | None:
    if before is None:
        return None if after is None or new.is_told_by_others(after) else "added"
    if after is None:
        return None if old.is_told_by_others(before) else "removed"
    if old.content(before) != new.content(after):
        return "modified"
    return "metadata" if _metadata(before) != _metadata(after) else None


def _metadata(entry: TreeEntry) -> tuple[object, ...]:
    """Kind (a file or a hard link), mode and mtime; that of a directory only tells of what is in it."""
    return (entry.kind, entry.mode, 0 if entry.kind == "directory" else entry.mtime_ns)
