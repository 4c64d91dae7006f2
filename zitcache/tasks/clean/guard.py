"""May this go? Asked once for the plan, and again at the moment of removal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import zitcache
from zitcache.machine.mounts import mounts
from zitcache.tasks.clean.candidate import Candidate, identity, is_below
from zitcache.tasks.clean.footprint import Footprint, measure
from zitcache.tasks.clean.in_use import OpenFiles, lock_holder, open_files
from zitcache.tasks.clean.needed import Needed, needed_files
from zitcache.tasks.clean.report import ONLY_NAMED, Kind
from zitcache.tasks.clean.snapshot_names import SnapshotNames

_PROCESSES_FRESH_SECONDS = 0.5
_LOCK_FOLDERS = frozenset({".lock", ".locks"})
"""Everything in these is a lock; elsewhere what ends in ``.lock``."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user allows. ``named``: the kinds of ``--kind``; empty: those that are removed by default."""

    named: frozenset[Kind]
    everything: bool
    min_age_seconds: float

    def chosen(self, kind: Kind) -> bool:
        """Whether this kind is to be removed at all."""
        return kind in self.named if self.named else kind not in ONLY_NAMED


@dataclass(slots=True)
class Verdict:
    """How large it is, and why it stays (``keep`` None: it may go). ``age_seconds``: since a change."""

    footprint: Footprint
    age_seconds: float
    keep: str | None


class Guard:
    """Knows what is needed and who uses what. :meth:`look` is the question of this module."""

    def __init__(
        self, caches: Iterable[Path], rules: Rules, snapshot: SnapshotNames, stubs: Iterable[str] = ()
    ) -> None:
        self._caches = tuple(caches)
        self._stubs = tuple(stubs)
        self._snapshot = snapshot
        self._user = os.geteuid()
        self.rules = rules
        self._processes = OpenFiles()
        self._processes_seen = float("-inf")
        self._needed = Needed()
        self._mount_points: tuple[str, ...] = ()
        self._running = tuple(
            os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, Path(zitcache.__file__).parent)
        )

    def refresh(self) -> None:
        """Look at models, mounts and processes again."""
        self._needed = needed_files(self._caches, self._stubs)
        self._mount_points = tuple(mount.mount_point for mount in mounts())
        now = time.monotonic()
        if now - self._processes_seen > _PROCESSES_FRESH_SECONDS:
            self._processes = open_files()
            self._processes_seen = now

    def look(self, candidate: Candidate, now: float) -> Verdict | None:
        """The verdict on ``candidate``; None if it is gone. ``now``: seconds since the epoch."""
        footprint = measure(candidate, self._user)
        if footprint is None:
            return None
        age = now - footprint.newest
        return Verdict(footprint, age, self._why_not(candidate, footprint, age))

    def held_lock(self, candidate: Candidate) -> str | None:
        """Why ``candidate`` counts as locked, as a clause."""
        for lock in lock_files(candidate.locks):
            if (holder := lock_holder(lock)) is not None:
                return holder
        return None

    def _why_not(self, candidate: Candidate, footprint: Footprint, age: float) -> str | None:
        return (
            candidate.keep
            or footprint.problem
            or self._is_needed(candidate, footprint)
            or self._is_mounted(candidate)
            or self._is_used(candidate, footprint)
            or self._is_young(age)
            or _is_relied_on(candidate)
            or self._is_not_asked_for(candidate)
        )

    def _is_needed(self, candidate: Candidate, footprint: Footprint) -> str | None:
        for path in _paths(candidate):
            if (model := self._needed.by_path(path)) is not None:
                return f"The model {model} needs it."
            # Also a stub is in the snapshot; that it is no model has been found out by looking into it.
            owner = self._snapshot.owner_of(path) if candidate.kind is not Kind.SHADOWING_STUB else None
            if owner is not None:
                return f"It is a file of {owner}."
        # A stub shares its files with the model that it hides: what goes is a name, the file stays.
        if candidate.kind is not Kind.SHADOWING_STUB:
            model = self._needed.by_inode(footprint.inodes)
            if model is not None:
                return f"The model {model} has the same file, by a hard link."
        return None

    def _is_mounted(self, candidate: Candidate) -> str | None:
        if any(is_below(point, candidate.path) for point in self._mount_points):
            return "A file system is mounted there."
        return None

    def _is_used(self, candidate: Candidate, footprint: Footprint) -> str | None:
        for place in self._running:
            if is_below(place, candidate.path):
                return "zitcache itself runs from there."
        if (holder := self.held_lock(candidate)) is not None:
            return f"It is in use: {holder}."
        for path in _paths(candidate):
            if (process := self._processes.user_of(path, footprint.inodes)) is not None:
                return f"It is in use: {process} has it open."
        return None

    def _is_young(self, age: float) -> str | None:
        least = self.rules.min_age_seconds
        if age >= least:
            return None
        if age < 0:
            return "Its time is in the future; its age cannot be told."
        return f"It changed {_ago(age)} ago; only what is older than {_ago(least)} goes (--min-age)."

    def _is_not_asked_for(self, candidate: Candidate) -> str | None:
        if not self.rules.chosen(candidate.kind):
            return f"Not asked for: --kind {candidate.kind.value}"
        if candidate.keep_unless_named is not None and candidate.kind not in self.rules.named:
            return candidate.keep_unless_named
        if candidate.keep_unless_all is not None and not self.rules.everything:
            return candidate.keep_unless_all
        return None


def lock_files(places: Iterable[str]) -> list[str]:
    """The lock files that ``places`` (files, and folders of them) name now."""
    found: list[str] = []
    for place in dict.fromkeys(places):
        if not os.path.isdir(place):
            found.append(place)
            continue
        all_are_locks = not _LOCK_FOLDERS.isdisjoint(place.split(os.sep))
        for folder, _, names in os.walk(place):
            found += [os.path.join(folder, name) for name in names if all_are_locks or name.endswith(".lock")]
    return found


def _paths(candidate: Candidate) -> list[str]:
    if candidate.names is None:
        return [candidate.path]
    return [os.path.join(candidate.path, name) for name in candidate.names]


def _is_relied_on(candidate: Candidate) -> str | None:
    for path, before in candidate.relies_on:
        try:
            same = identity(os.stat(path)) == before
        except OSError:
            same = False
        if not same:
            return f"{path} has changed meanwhile; it may be needed after all."
    return None


def _ago(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
