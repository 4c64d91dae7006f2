"""What there is to bring back on the mounted disks, and which of it is taken.

Order: a migrated cache that is alive before any snapshot (but not before one of another cache at a place that
the user named), what lies at a named place before what was found, then the newest. What another user could
have put there is listed and not taken, unless its place was named.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zitcache.errors import RepositoryNotFound, UsageError, ZitcacheError
from zitcache.events import Session
from zitcache.machine.mounts import data_mounts
from zitcache.machine.ownership import distrust_any
from zitcache.repository.repository import CONFIG, Repository
from zitcache.repository.selection import Snapshot, list_snapshots, newest_good
from zitcache.storage.opening import open_storage
from zitcache.tasks.discovery import (
    FoundCache,
    FoundKit,
    examine_caches,
    is_named,
    kits_for,
    scan,
)
from zitcache.tasks.restore.relink import refuse_source
from zitcache.tasks.restore.report import Candidate


@dataclass(frozen=True, slots=True)
class SnapshotChoice:
    """The newest good snapshot in one repository. ``snapshots``: all of that repository."""

    repository: Repository
    snapshot: Snapshot
    snapshots: list[Snapshot]
    named: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything found. ``refused``: repositories that are not taken, by location, with the reason."""

    places: tuple[Path, ...]
    caches: list[FoundCache]
    choices: list[SnapshotChoice]
    kits: list[FoundKit]
    refused: dict[str, str]

    @property
    def alive(self) -> list[FoundCache]:
        """The migrated caches that can be linked again, the one to take first."""
        usable = [cache for cache in self.caches if cache.alive]
        newest = sorted(usable, key=lambda cache: cache.marker.time, reverse=True)
        return sorted(newest, key=lambda cache: not is_named(cache.path, self.places))

    @property
    def prefers_snapshot(self) -> bool:
        """Whether the place that the user named holds a snapshot of a cache that is alive nowhere.

        A living cache elsewhere that is the very one of the snapshot is better: it only has to be linked.
        """
        named = next((choice for choice in self.choices if choice.named), None)
        if named is None or any(is_named(cache.path, self.places) for cache in self.alive):
            return False
        taken_of = named.snapshot.record.real_cache
        return all(
            taken_of not in (cache.marker.real_source, cache.marker.real_target, str(cache.path))
            for cache in self.alive
        )

    def listed(self, chosen: FoundCache | SnapshotChoice) -> list[Candidate]:
        """All candidates for the report, the chosen one first."""
        rows = [_cache_row(cache, cache is chosen) for cache in self.caches]
        rows += [_snapshot_row(choice, choice is chosen) for choice in self.choices]
        rows += [
            Candidate(kind="snapshot", place=place, cache="", host="", time="", good=False, problem=reason)
            for place, reason in self.refused.items()
        ]
        return sorted(rows, key=lambda row: not row.chosen)


def look_around(place: str | None, configured: str | None, session: Session) -> Survey:
    """Look at ``place`` and at every data disk. ``configured``: the repository of the configuration, which
    then is the only one. Raises what opening that one raises."""
    session.progress.stage("Looking at the disks")
    places = (Path(place),) if place is not None else ()
    if places and not places[0].exists():
        raise RepositoryNotFound(f"There is no {place}.", hint="See where the data disk is mounted: lsblk")
    finds = scan(session, places)
    caches = [_judged(cache) for cache in examine_caches(finds.caches, places, session)]
    refused: dict[str, str] = {}
    choices: list[SnapshotChoice] = []
    if configured is not None:
        choice = _newest_in(configured, session, named=True)
        choices += [choice] if choice else []
    else:
        for path in finds.repositories:
            session.cancel.check()
            named = is_named(path, places)
            reason = None if named else distrust_any(path, path / CONFIG)
            if reason is not None:
                refused[str(path)] = f"not used without being named: {reason}"
                continue
            try:
                found = _newest_in(str(path), session, named=named)
            except ZitcacheError as error:
                refused[str(path)] = error.message
                continue
            if found is None:
                refused[str(path)] = "it holds no good snapshot"
            else:
                choices.append(found)
    return Survey(places, caches, _ordered(choices), kits_for(finds, places), refused)


def nothing_found(survey: Survey) -> ZitcacheError:
    """The error for a survey with nothing to take: what was looked at, what was found, what to do."""
    disks = ", ".join(mount.mount_point for mount in data_mounts()) or "none is mounted"
    problems = [f"{cache.path}: {cache.problem}" for cache in survey.caches if cache.problem]
    problems += [f"{place}: {reason}" for place, reason in survey.refused.items()]
    message = f"Nothing that could be brought back was found (data disks: {disks})."
    hint = "Is the data disk mounted? See: lsblk. Else name the place: zitcache restore --from PLACE"
    if not problems:
        return RepositoryNotFound(message, hint=hint)
    untrusted = next((str(cache.path) for cache in survey.caches if not cache.trusted), None)
    named = untrusted or next(
        (place for place, reason in survey.refused.items() if "without being named" in reason), None
    )
    if named is not None:
        hint = f"If you know whose it is: zitcache restore --from {named}"
    elif survey.caches:
        hint = f"See what is wrong: zitcache verify --quick --cache {survey.caches[0].path}"
    return RepositoryNotFound("\n  ".join([message, *problems]), hint=hint)


def warn_of_several(candidates: Sequence[Candidate], session: Session) -> None:
    """Say which one is taken when there was a choice, and how to get another."""
    good = [row for row in candidates if row.good]
    if len(good) < 2:
        return
    chosen, *others = good
    shown = "; ".join(_described(row) for row in others[:5]) + ("; …" if len(others) > 5 else "")
    first = others[0]
    another = (
        f"zitcache restore --from {first.place}"
        if first.kind == "cache"
        else f"zitcache restore --repo {first.place}"
    )
    session.warn(
        "several-candidates",
        f"Taking {_described(chosen)}. There are also: {shown}.",
        f"To take another one: {another}",
    )


def _described(row: Candidate) -> str:
    if row.kind == "cache":
        return f"the migrated cache {row.place} of {row.time}"
    return f"snapshot {(row.id or '')[:8]} of {row.time[:19]} in {row.place}"


def _judged(cache: FoundCache) -> FoundCache:
    """Not alive when its marker names a place that no cache can have."""
    if not cache.alive:
        return cache
    try:
        refuse_source(cache.marker.real_source, cache.path)
    except (UsageError, OSError) as error:
        return replace(cache, alive=False, problem=str(error))
    return cache


def _newest_in(location: str, session: Session, *, named: bool) -> SnapshotChoice | None:
    repository = Repository.open(open_storage(location))
    snapshots, unreadable = list_snapshots(repository)
    for snapshot_id, problem in unreadable.items():
        session.warn(
            "snapshot-unreadable", f"Snapshot {snapshot_id[:8]} cannot be read: {problem}", "zitcache check"
        )
    here = [snapshot for snapshot in snapshots if snapshot.record.host == socket.gethostname()]
    newest = newest_good(here) or newest_good(snapshots)
    return SnapshotChoice(repository, newest, snapshots, named) if newest else None


def _ordered(choices: list[SnapshotChoice]) -> list[SnapshotChoice]:
    """Named ones first; of the others those without anything left out, then the newest."""
    newest = sorted(choices, key=lambda choice: choice.snapshot.record.time, reverse=True)
    return sorted(newest, key=lambda choice: (not choice.named, not choice.snapshot.record.is_good))


def _cache_row(cache: FoundCache, chosen: bool) -> Candidate:
    return Candidate(
        kind="cache",
        place=str(cache.path),
        cache=cache.marker.source,
        host=cache.marker.host,
        time=cache.marker.time,
        good=cache.alive,
        chosen=chosen,
        problem=cache.problem,
    )


def _snapshot_row(choice: SnapshotChoice, chosen: bool) -> Candidate:
    record = choice.snapshot.record
    return Candidate(
        kind="snapshot",
        place=choice.repository.storage.location,
        cache=record.cache,
        host=record.host,
        time=record.time,
        good=not record.suspect,
        chosen=chosen,
        id=choice.snapshot.id,
        problem="it does not hold everything" if record.left_out else None,
    )
