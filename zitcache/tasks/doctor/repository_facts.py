"""The repository: is there one, where does it lie, what does it hold, how old is everything in it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zitcache.errors import ZitcacheError
from zitcache.machine.mounts import FreeSpace, Survival, free_space, same_disk, survives
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot, list_snapshots, newest_good
from zitcache.schedule.history import recent_runs, state_directory
from zitcache.schedule.sections import StatusConfig
from zitcache.storage.opening import open_storage
from zitcache.tasks.doctor.disk_facts import DiskFacts
from zitcache.tasks.locations import discovered_repositories
from zitcache.tasks.overview.ages import Moment, moments
from zitcache.tasks.settings import load_config, resolve_repository

_RUNS = 40


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """``location``: None when there is none. ``others``: further ones that lie around, when none was named.

    ``is_remote``: nothing was asked, because that needs the network. ``problem``, ``hint``: why it cannot be
    used. ``snapshots``: oldest first; ``unreadable``: how many more cannot be read.
    """

    location: str | None
    others: tuple[str, ...] = ()
    is_remote: bool = False
    problem: str | None = None
    hint: str | None = None
    snapshots: tuple[Snapshot, ...] = ()
    unreadable: int = 0
    moments: tuple[Moment, ...] = ()
    survival: Survival | None = None
    free: FreeSpace | None = None

    @property
    def is_usable(self) -> bool:
        """Whether its snapshots are known."""
        return self.location is not None and not self.is_remote and self.problem is None

    @property
    def newest(self) -> Snapshot | None:
        """The newest snapshot without damage."""
        return newest_good(self.snapshots)

    def moment(self, what: str) -> Moment | None:
        """When "backup", "check", "drill" or "proof" was last done."""
        return next((moment for moment in self.moments if moment.what == what), None)


def look_at_repository(flag: str | None, environ: Mapping[str, str], disks: DiskFacts) -> RepositoryFacts:
    """Find and open the repository. Nothing is written, and no network is used."""
    setting = resolve_repository(flag, environ)
    location, others = setting.value, tuple[str, ...]()
    if location is None:
        found = discovered_repositories(disks.dead)
        if not found:
            silent = f"none was found, and {', '.join(disks.dead)} did not answer" if disks.dead else None
            return RepositoryFacts(None, problem=silent)
        location, others = found[0], tuple(found[1:])
    if "://" in location and not location.startswith("file://"):
        return RepositoryFacts(location, is_remote=True)
    if disks.is_below_dead(os.path.abspath(location)):
        return RepositoryFacts(location, others, problem="its disk does not answer")
    try:
        return _examined(Repository.open(open_storage(location)), others)
    except ZitcacheError as error:
        return RepositoryFacts(location, others, problem=error.message, hint=error.hint)


def _examined(repository: Repository, others: tuple[str, ...]) -> RepositoryFacts:
    location = repository.storage.location
    snapshots, unreadable = list_snapshots(repository)
    runs = recent_runs(repository, state_directory(), _RUNS)
    ages = moments(repository, snapshots, runs, _limits(), time.time())
    return RepositoryFacts(
        location,
        others,
        snapshots=tuple(snapshots),
        unreadable=len(unreadable),
        moments=tuple(ages),
        survival=survives(location),
        free=free_space(location),
    )


def _limits() -> StatusConfig:
    try:
        config = load_config()
    except ZitcacheError:
        return StatusConfig()
    return StatusConfig() if config is None else config[1].status


def shares_disk(facts: RepositoryFacts, cache: Path) -> bool:
    """Whether the repository lies on the disk of the cache."""
    if facts.location is None or facts.is_remote:
        return False
    return same_disk(facts.location, cache)
