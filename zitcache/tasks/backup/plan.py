"""What a backup must read: files whose identity no snapshot knows, and those whose turn it is again."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.cache.tree import Kind, Tree, TreeItem
from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError
from zitcache.events import Session
from zitcache.repository.records import DamageRecord, TreeEntry, portable
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot, newest_good


@dataclass(frozen=True, slots=True)
class Plan:
    """``unchanged``: entries taken over unread. ``parent``: the newest snapshot of this cache.

    ``baseline`` and ``recent``: what the last good snapshot and the newest one hold, by path. ``doubtful``:
    what was found damaged since the last good one; it is always read again.
    """

    to_read: list[TreeItem]
    unchanged: dict[str, TreeEntry]
    baseline: dict[str, TreeEntry] = field(default_factory=dict)
    recent: dict[str, TreeEntry] = field(default_factory=dict)
    baseline_snapshot: Snapshot | None = None
    parent: Snapshot | None = None
    doubtful: dict[str, DamageRecord] = field(default_factory=dict)


def make_plan(
    repository: Repository,
    snapshots: list[Snapshot],
    cache: Path,
    tree: Tree,
    reread: float,
    session: Session,
) -> Plan:
    """Compare the tree with the newest snapshots of the same cache."""
    own = _own(snapshots, cache)
    good = newest_good(own)
    newest = own[-1] if own else None
    baseline = _entries(repository, good, session)
    recent = baseline if newest is good else _entries(repository, newest, session)
    _distrust_damaged_packs(repository, [*baseline.values(), *recent.values()], session)
    known_damage = _damage_since(good, own)
    doubtful: dict[str, DamageRecord] = {}
    unchanged: dict[str, TreeEntry] = {}
    files = [item for item in tree.items if item.kind is Kind.FILE]
    for item in files:
        damage = known_damage.get(portable(item.path)[0])
        if damage is not None:
            doubtful[item.path] = damage
            continue
        entry = _same(item, recent.get(item.path)) or _same(item, baseline.get(item.path))
        if entry is not None and _is_stored(repository, entry):
            unchanged[item.path] = entry
    for path in _choose_rereads(unchanged, reread):
        del unchanged[path]
    to_read = [item for item in files if item.path not in unchanged]
    return Plan(to_read, unchanged, baseline, recent, good, newest, doubtful)


def _own(snapshots: list[Snapshot], cache: Path) -> list[Snapshot]:
    """Those of this cache, of this host if there are any: another host may have one at the same path.

    A rented machine may come back under another name; then those of the old name are all there is.
    """
    same_path = [snapshot for snapshot in snapshots if snapshot.record.real_cache == str(cache)]
    here = [snapshot for snapshot in same_path if snapshot.record.host == socket.gethostname()]
    return here or same_path


def _damage_since(good: Snapshot | None, own: list[Snapshot]) -> dict[str, DamageRecord]:
    """The damage known since the last good snapshot, by (portable) path."""
    known: dict[str, DamageRecord] = {}
    for snapshot in own if good is None else own[own.index(good) + 1 :]:
        if not snapshot.record.suspect:
            # Not complete, or it would be the last good one; but what it does hold was found sound.
            known = {path: known[path] for path in known if path in snapshot.record.left_out}
        known.update((damage.path, damage) for damage in snapshot.record.damage)
    return known


def _entries(repository: Repository, snapshot: Snapshot | None, session: Session) -> dict[str, TreeEntry]:
    if snapshot is None:
        return {}
    try:
        return {entry.real_path: entry for entry in repository.tree(snapshot.record)}
    except IntegrityError as error:
        session.warn(
            "snapshot-damaged",
            f"Snapshot {snapshot.short_id} cannot be compared with: {error.message} All files are read anew.",
            "zitcache check --read-data",
        )
        _distrust(repository, _unreadable(repository, snapshot.record.trees, FrameKind.TREE), session)
        return {}


def _distrust_damaged_packs(repository: Repository, entries: list[TreeEntry], session: Session) -> None:
    """Find damaged piece lists before anything is taken for saved because a damaged pack holds it."""
    lists = sorted({entry.pieces for entry in entries if entry.pieces is not None})
    _distrust(repository, _unreadable(repository, lists, FrameKind.PIECES), session)


def _unreadable(repository: Repository, blobs: list[str], kind: FrameKind) -> list[str]:
    return [blob for blob in blobs if not _can_be_read(repository, blob, kind)]


def _can_be_read(repository: Repository, blob: str, kind: FrameKind) -> bool:
    try:
        repository.load_blob(blob, kind)
    except IntegrityError:
        return False
    return True


def _distrust(repository: Repository, damaged: list[str], session: Session) -> None:
    """Take the packs that hold these blobs for lost, so that all they hold is stored again."""
    packs = {location.pack for blob in damaged for location in repository.index.locations(blob)}
    repository.distrust_packs(packs)
    for pack in sorted(packs):
        session.warn(
            "pack-damaged",
            f"Pack {pack[:8]} of the repository is damaged; what it holds of this cache is stored again.",
            "zitcache check --read-data",
        )


def _same(item: TreeItem, entry: TreeEntry | None) -> TreeEntry | None:
    """``entry`` if it describes the file as it is now, mode included."""
    if entry is None or entry.kind != "file":
        return None
    then = (entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode, entry.mode)
    now = (item.size, item.mtime_ns, item.ctime_ns, item.inode, item.mode)
    return entry if then == now else None


def _is_stored(repository: Repository, entry: TreeEntry) -> bool:
    """Whether every piece is in the repository: a pack may have been lost, and nobody may have said so."""
    if entry.pieces is not None and not repository.index.has(entry.pieces, FrameKind.PIECES):
        return False
    try:
        return all(repository.index.has(blob, FrameKind.DATA) for _, blob in repository.piece_list(entry))
    except IntegrityError:
        return False


def _choose_rereads(unchanged: dict[str, TreeEntry], share: float) -> list[str]:
    """At least ``share`` of the unchanged bytes, those first that were read longest ago."""
    if share <= 0:
        return []
    goal = share * sum(entry.size for entry in unchanged.values())
    chosen: list[str] = []
    chosen_bytes = 0
    for path, entry in sorted(unchanged.items(), key=lambda pair: (pair[1].read_at, os.fsencode(pair[0]))):
        if chosen_bytes >= goal and share < 1:
            break
        chosen.append(path)
        chosen_bytes += entry.size
    return chosen


def plain_entry(item: TreeItem) -> TreeEntry | None:
    """The entry of anything that has no content of its own; None for a file."""
    if item.kind is Kind.FILE:
        return None
    path, path_bytes = portable(item.path)
    target, target_bytes = portable(item.target) if item.target is not None else (None, None)
    return TreeEntry(
        path=path,
        kind=item.kind.value,
        mode=item.mode,
        mtime_ns=item.mtime_ns,
        target=target,
        path_bytes=path_bytes,
        target_bytes=target_bytes,
    )
