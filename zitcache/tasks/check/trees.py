"""What the snapshots need: their trees, the piece lists of their files, and every blob these name."""

from __future__ import annotations

from dataclasses import dataclass, field

from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError
from zitcache.events import Session
from zitcache.repository.records import (
    MAX_PIECE_SIZE,
    PieceList,
    RecordT,
    SnapshotRecord,
    TreeEntry,
    TreeRecord,
    decode_record,
)
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot
from zitcache.repository.trees import check_entries, is_safe_path
from zitcache.tasks.check.findings import Blob, Findings, Problem
from zitcache.tasks.check.frames import copies, read_metadata


@dataclass(slots=True)
class Needs:
    """``without_sha256``: one entry for each content (by BLAKE3) whose SHA-256 no snapshot has."""

    without_sha256: dict[str, TreeEntry] = field(default_factory=dict)


class TreeReader:
    """Reads trees and piece lists; each that cannot be used becomes a finding, once."""

    def __init__(self, repository: Repository, findings: Findings) -> None:
        self.repository = repository
        self.findings = findings

    def entries(self, record: SnapshotRecord) -> tuple[list[TreeEntry], list[str]]:
        """All entries that can be read, and the ids of the trees that cannot."""
        entries: list[TreeEntry] = []
        unreadable: list[str] = []
        for tree_id in record.trees:
            tree = self._load(tree_id, FrameKind.TREE, TreeRecord)
            if tree is None:
                unreadable.append(tree_id)
            else:
                entries.extend(tree.entries)
        return entries, unreadable

    def pieces(self, entry: TreeEntry) -> list[tuple[int, str]] | None:
        """Length and blob id of each piece of a file; None if its piece list cannot be used."""
        if entry.pieces is None:
            return [(entry.size, entry.blob)] if entry.blob is not None else []
        found = self._load(entry.pieces, FrameKind.PIECES, PieceList)
        if found is None:
            return None
        longest = MAX_PIECE_SIZE
        total = sum(length for length, _ in found.pieces)
        if not total == found.size == entry.size or any(length > longest for length, _ in found.pieces):
            message = "The piece list does not add up to its file, or has pieces that are too long."
            self.reject(Blob(entry.pieces, FrameKind.PIECES), message)
            return None
        return found.pieces

    def reject(self, blob: Blob, message: str) -> None:
        """A blob is what its id says and still cannot be what is needed: so it was made."""
        locations = copies(self.repository, blob)
        pack_id = locations[0].pack if locations else ""
        self.findings.add_blob(blob, pack_id, Problem(message, tampered=True), final=True)

    def _load(self, wanted: str, kind: FrameKind, record: type[RecordT]) -> RecordT | None:
        data = read_metadata(self.repository, Blob(wanted, kind), self.findings)
        if data is None:
            return None
        try:
            return decode_record(data, record, kind.name.lower())
        except IntegrityError as error:
            self.reject(Blob(wanted, kind), error.message)
            return None


def check_trees(
    repository: Repository, snapshots: list[Snapshot], findings: Findings, session: Session
) -> Needs:
    """Read the trees and piece lists of every snapshot, and look each blob up in the index."""
    session.progress.stage("Looking at what the snapshots need")
    check = _TreeCheck(TreeReader(repository, findings), session)
    problems: dict[tuple[object, ...], Problem | None] = {}
    for snapshot in snapshots:
        record = snapshot.record
        # A nightly snapshot of an unchanged cache has the trees of the one before.
        key = (*record.trees, record.cache, record.cache_bytes)
        if key not in problems:
            problems[key] = check.snapshot(record)
        problem = problems[key]
        if problem is not None:
            findings.add_object(snapshot.id, problem, [f"{snapshot.short_id}:*"])
    for known in check.with_sha256:
        check.needs.without_sha256.pop(known, None)
    return check.needs


class _TreeCheck:
    def __init__(self, reader: TreeReader, session: Session) -> None:
        self._reader = reader
        self._session = session
        self._seen: set[tuple[str, int]] = set()
        self.with_sha256: set[str] = set()
        self.needs = Needs()

    def snapshot(self, record: SnapshotRecord) -> Problem | None:
        """Check the blobs of all entries; returns what is wrong with the entries themselves."""
        repository = self._reader.repository
        repository.fetch_metadata(((tree, FrameKind.TREE) for tree in record.trees), self._session.cancel)
        entries, unreadable = self._reader.entries(record)
        lists = [entry.pieces for entry in entries if entry.pieces is not None]
        repository.fetch_metadata(((each, FrameKind.PIECES) for each in lists), self._session.cancel)
        problem = _names_problem(entries, record, complete=not unreadable)
        for entry in entries:
            if entry.kind != "file":
                continue
            self._session.cancel.check()
            if entry.size and entry.blob is None and entry.pieces is None:
                problem = problem or Problem(f"{entry.path!r} has a size but no content.", tampered=True)
            self._content(entry)
        return problem

    def _content(self, entry: TreeEntry) -> None:
        if entry.blake3 is not None:
            if entry.sha256 is not None:
                self.with_sha256.add(entry.blake3)
            else:
                self.needs.without_sha256.setdefault(entry.blake3, entry)
        if entry.pieces is not None:
            if (entry.pieces, entry.size) in self._seen:
                return
            self._seen.add((entry.pieces, entry.size))
        for length, blob in self._reader.pieces(entry) or []:
            if (blob, length) not in self._seen:
                self._seen.add((blob, length))
                self._look_up(Blob(blob, FrameKind.DATA), length)

    def _look_up(self, blob: Blob, length: int) -> None:
        locations = copies(self._reader.repository, blob)
        if not locations:
            self._reader.findings.add_missing(blob)
        elif not any(location.raw_size == length for location in locations):
            self._reader.reject(blob, f"A file needs {length} bytes of data here; the index says otherwise.")


def _names_problem(entries: list[TreeEntry], record: SnapshotRecord, *, complete: bool) -> Problem | None:
    """Could restoring these names write outside the target? If some are unknown, each is judged alone."""
    if len(set(record.trees)) != len(record.trees):
        return Problem("The snapshot lists a part of its tree twice.", tampered=True)
    try:
        if complete:
            check_entries(entries, record.real_cache)
        elif not all(is_safe_path(entry.real_path) for entry in entries):
            return Problem("The snapshot names a path outside the cache.", tampered=True)
    except IntegrityError as error:
        return Problem(error.message, tampered=True)
    return None
