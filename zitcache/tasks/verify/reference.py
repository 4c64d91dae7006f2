"""The snapshot to compare with, and with it where the cache begins."""

from __future__ import annotations

import posixpath
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zitcache.errors import IntegrityError, NotFound, RepositoryNotFound, ZitcacheError
from zitcache.events import Session
from zitcache.repository.digests import known_sha256
from zitcache.repository.records import TreeEntry
from zitcache.repository.repository import Repository
from zitcache.repository.selection import LATEST, Snapshot, list_snapshots, newest_good, resolve
from zitcache.tasks.locations import open_repository
from zitcache.tasks.settings import resolve_repository
from zitcache.tasks.verify.report import VerifyRequest
from zitcache.tasks.verify.scope import Scope, fit, is_or_contains, scope_in

_MAX_LINK_HOPS = 40


@dataclass(frozen=True, slots=True)
class Reference:
    """A snapshot, its entries by path, and SHA-256 by BLAKE3 that were recorded after it was taken."""

    repository: Repository
    snapshot: Snapshot
    entries: dict[str, TreeEntry]
    recorded: dict[str, str]

    @property
    def name(self) -> str:
        """How a person calls it."""
        return f"snapshot {self.snapshot.short_id} of {self.snapshot.record.time[:10]}"

    def content_entry(self, path: str) -> TreeEntry | None:
        """The file entry with the content of a file or hard link; None for anything else."""
        entry = self.entries.get(path)
        if entry is not None and entry.kind == "hardlink":
            entry = self.entries.get(entry.real_target)
        return entry if entry is not None and entry.kind == "file" else None

    def sha256_of(self, entry: TreeEntry) -> str | None:
        """The SHA-256 of a file entry, if anybody ever recorded it."""
        return entry.sha256 or (self.recorded.get(entry.blake3) if entry.blake3 else None)

    def is_doubtful(self, entry: TreeEntry) -> bool:
        """Whether the snapshot itself says that this content was damaged when it was taken."""
        return any(record.path == entry.path for record in self.snapshot.record.damage)

    def why_not(self, path: str) -> str | None:
        """Why ``path`` cannot be brought back from here; None if it can, as far as the index tells."""
        entry = self.entries.get(path)
        if entry is None:
            return "the snapshot does not have it"
        if entry.kind == "symlink":
            return None
        held = self.content_entry(path)
        if held is None or self.is_doubtful(held):
            return "the snapshot was taken when it was damaged already"
        try:
            whole = all(blob in self.repository.index for _, blob in self.repository.piece_list(held))
        except IntegrityError:
            whole = False
        return None if whole else "the repository has lost a part of it"

    def wanted_in(self, scope: Scope) -> list[TreeEntry]:
        """The entries of the scope, and those outside that its links show."""
        chosen = {path for path in self.entries if scope.covers(path)}
        for path in list(chosen):
            for _ in range(_MAX_LINK_HOPS):
                linked = _linked(self.entries[path])
                if linked is None or linked not in self.entries or linked in chosen:
                    break
                chosen.add(linked)
                path = linked
        return [entry for path, entry in self.entries.items() if path in chosen]


def _linked(entry: TreeEntry) -> str | None:
    if entry.kind == "hardlink":
        return entry.real_target
    if entry.kind == "symlink":
        return posixpath.normpath(posixpath.join(posixpath.dirname(entry.real_path), entry.real_target))
    return None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was found: ``problem`` says why there is no reference, if that should be told."""

    reference: Reference | None = None
    scope: Scope | None = None
    problem: ZitcacheError | None = None


def find_reference(request: VerifyRequest, place: Path, session: Session) -> Lookup:
    """The newest good snapshot of the cache in which ``place`` lies, or the one that was asked for.

    Snapshots of another place count if their paths fit around ``place``. Raises only for what the user
    insisted on: a repository or snapshot that was named, or any with ``--repair``.
    """
    insists = request.repository is not None or request.repair or request.snapshot != LATEST
    try:
        repository = open_repository(request.repository, session)
        snapshots, unreadable = list_snapshots(repository)
        for snapshot_id, problem in unreadable.items():
            session.warn(
                "snapshot-unreadable",
                f"Snapshot {snapshot_id[:8]} cannot be read: {problem}",
                "zitcache check",
            )
        if request.snapshot == LATEST:
            found = _latest(repository, snapshots, place, session)
        else:
            named = resolve(snapshots, request.snapshot, repository.storage.location)
            found = _named(repository, named, place, session)
    except ZitcacheError as error:
        if insists:
            raise
        if not isinstance(error, RepositoryNotFound) or resolve_repository(None).value is not None:
            session.warn("no-snapshot", f"There is no snapshot to compare with: {error.message}", error.hint)
        return Lookup(problem=error)
    if found is not None:
        return found
    return Lookup(problem=NotFound(f"No snapshot in {repository.storage.location} holds {place}."))


def _named(repository: Repository, snapshot: Snapshot, place: Path, session: Session) -> Lookup:
    if snapshot.record.suspect:
        session.warn(
            "suspect-snapshot",
            f"Snapshot {snapshot.short_id} was taken of a damaged cache: what was damaged then is not "
            "compared with.",
            "Compare with the last good one: zitcache verify",
        )
    found = _fitted(repository, snapshot, place)
    if found is None:
        raise NotFound(
            f"Snapshot {snapshot.short_id} (of {snapshot.record.cache}) holds nothing that lies in {place}.",
            hint="List the snapshots with: zitcache snapshots",
        )
    return found


def _latest(
    repository: Repository, snapshots: list[Snapshot], place: Path, session: Session
) -> Lookup | None:
    own = [s for s in snapshots if is_or_contains(Path(s.record.real_cache), place)]
    # One repository may hold the caches of several machines, all at the same path.
    here = [s for s in own if s.record.host == socket.gethostname()]
    for group in (here, own):
        for cache in sorted({s.record.real_cache for s in group}, key=len, reverse=True):
            of_cache = [s for s in group if s.record.real_cache == cache]
            found = _first_usable(repository, _good_ones(of_cache), place, session)
            if found is not None:
                return found
    if own:
        session.warn(
            "all-suspect",
            f"Every snapshot of {place} was taken of a damaged cache or cannot be read, so none is "
            "compared with.",
            "Name one to compare with it all the same: zitcache verify --snapshot ID",
        )
        return None
    by_place: dict[tuple[str, str], list[Snapshot]] = {}
    for s in snapshots:
        by_place.setdefault((s.record.host, s.record.real_cache), []).append(s)
    others = [newest for group in by_place.values() if (newest := newest_good(group)) is not None]
    others.sort(key=lambda s: s.record.time, reverse=True)
    found = _first_usable(repository, others, place, session)
    if found is not None and found.reference is not None:
        chosen = found.reference.snapshot
        session.warn(
            "snapshot-of-another-place",
            f"Compared with snapshot {chosen.short_id}, which was taken of {chosen.record.cache}.",
            "Choose another with: zitcache verify --snapshot ID",
        )
    return found


def _good_ones(snapshots: list[Snapshot]) -> list[Snapshot]:
    """Those without damage, the one first that ``restore`` would take."""
    complete = [s for s in reversed(snapshots) if s.is_good]
    return complete + [s for s in reversed(snapshots) if not s.is_good and not s.record.suspect]


def _first_usable(
    repository: Repository, snapshots: Iterable[Snapshot], place: Path, session: Session
) -> Lookup | None:
    for snapshot in snapshots:
        try:
            found = _fitted(repository, snapshot, place)
        except IntegrityError as error:
            session.warn(
                "snapshot-damaged",
                f"Snapshot {snapshot.short_id} cannot be compared with: {error.message}",
                "zitcache check --read-data",
            )
            continue
        if found is not None:
            return found
    return None


def _fitted(repository: Repository, snapshot: Snapshot, place: Path) -> Lookup | None:
    """Raises ``IntegrityError`` if the snapshot's tree is damaged."""
    entries = {entry.real_path: entry for entry in repository.tree(snapshot.record)}
    root = Path(snapshot.record.real_cache)
    scope = scope_in(root, place) if is_or_contains(root, place) else fit(place, entries)
    if scope is None:
        return None
    return Lookup(Reference(repository, snapshot, entries, known_sha256(repository)), scope)
