"""Which snapshot of several caches, and which entries of a snapshot."""

from __future__ import annotations

import os
import posixpath
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from zitcache.errors import IntegrityError, NotFound, SnapshotNotFound
from zitcache.events import Session
from zitcache.repository.records import TreeEntry
from zitcache.repository.selection import LATEST, Snapshot, newest_good

if TYPE_CHECKING:
    from zitcache.tasks.restore.report import RestoreRequest

_MAX_TIME_NS = 1 << 63


def prefer_cache(snapshots: list[Snapshot], request: RestoreRequest, session: Session) -> list[Snapshot]:
    """With "latest" and several caches in one repository: those of the cache that is meant.

    That is the one named; else one of this host; else the one with the newest good snapshot. Says what the
    others are. Raises ``SnapshotNotFound`` if the named cache has none.
    """
    if request.snapshot not in (None, LATEST):
        return snapshots
    if request.cache is not None:
        meant = os.path.expanduser(request.cache)
        names = {os.path.abspath(meant), os.path.realpath(meant)}
        own = [snapshot for snapshot in snapshots if snapshot.record.real_cache in names]
        if not own and snapshots:
            known = ", ".join(sorted({snapshot.record.cache for snapshot in snapshots}))
            raise SnapshotNotFound(f"No snapshot of {request.cache}; there are some of: {known}.")
        return own
    places = {(snapshot.record.host, snapshot.record.cache) for snapshot in snapshots}
    if len(places) <= 1:
        return snapshots
    here = [snapshot for snapshot in snapshots if snapshot.record.host == socket.gethostname()]
    chosen = newest_good(here) or newest_good(snapshots)
    if chosen is None:
        return snapshots
    record = chosen.record
    own = [
        snapshot
        for snapshot in snapshots
        if (snapshot.record.host, snapshot.record.cache) == (record.host, record.cache)
    ]
    others = sorted(f"{cache} ({host})" for host, cache in places - {(record.host, record.cache)})
    session.warn(
        "several-caches",
        f"Restoring {record.cache} of {record.host}. The repository also holds: {', '.join(others)}.",
        "List all with `zitcache snapshots`, choose with: zitcache restore ID",
    )
    return own


def warn_of_newer(chosen: Snapshot, candidates: list[Snapshot], session: Session) -> None:
    """Say that "latest" is not the newest snapshot, and why."""
    newest = candidates[-1]
    if newest.id == chosen.id:
        return
    record = newest.record
    if newest.is_suspect:
        reasons = newest.suspect_reasons
        why = f"is suspect: {reasons[0]}" if reasons else "is suspect."
    else:
        names = ", ".join(record.left_out[:3]) + (" …" if len(record.left_out) > 3 else "")
        why = f"does not hold everything: {names}"
    session.warn(
        "newer-snapshot-passed-over",
        f"Snapshot {newest.short_id} is newer than {chosen.short_id}, which is restored, but it {why}",
        f"If you want it all the same: zitcache restore {newest.short_id}",
    )


def require_sound_times(entries: Sequence[TreeEntry]) -> None:
    """Raise :class:`IntegrityError` for a time that no file can have."""
    for entry in entries:
        if not -_MAX_TIME_NS < entry.mtime_ns < _MAX_TIME_NS:
            raise IntegrityError(f"{entry.path} has an impossible time. Nothing was written.")


def select(entries: Sequence[TreeEntry], patterns: tuple[str, ...]) -> list[TreeEntry]:
    """The entries that ``patterns`` select, with what they need: the files behind links, parent directories.

    All of them for no patterns. Raises ``NotFound`` if nothing matches.
    """
    if not patterns:
        return list(entries)
    by_path = {entry.real_path: entry for entry in entries}
    chosen: set[str] = set()
    pending = [
        entry.real_path
        for entry in entries
        if entry.kind != "directory" and _matches(entry.real_path, patterns)
    ]
    if not pending:
        raise NotFound(
            f"No file of the snapshot matches {', '.join(map(repr, patterns))}.",
            hint="Patterns are relative to the cache, e.g. --only '*/vae/*'.",
        )
    while pending:
        path = pending.pop()
        if path in chosen:
            continue
        chosen.add(path)
        needed = _needed_by(by_path[path], by_path)
        if needed is not None:
            pending.append(needed)
    parents = {parent for path in chosen for parent in _parents(path)}
    return [entry for entry in entries if entry.real_path in chosen or entry.real_path in parents]


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    name = posixpath.basename(path)
    return any(
        fnmatchcase(path, pattern) or ("/" not in pattern and fnmatchcase(name, pattern))
        for pattern in patterns
    )


def _needed_by(entry: TreeEntry, by_path: dict[str, TreeEntry]) -> str | None:
    """The entry whose content a link shows, if the snapshot has it."""
    if entry.kind == "hardlink":
        return entry.real_target
    if entry.kind != "symlink":
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(entry.real_path), entry.real_target))
    return target if target in by_path and by_path[target].kind != "directory" else None


def _parents(path: str) -> list[str]:
    found = []
    parent = posixpath.dirname(path)
    while parent:
        found.append(parent)
        parent = posixpath.dirname(parent)
    return found
