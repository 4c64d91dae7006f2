"""Which repository and which cache a command means: flag, environment, config, or what lies around."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path

from zitcache.cache.environment import LocatedCache, locate_cache
from zitcache.errors import CacheNotFound, RepositoryNotFound, UsageError, ZitcacheError
from zitcache.events import Session
from zitcache.machine.mounts import data_mounts, same_disk
from zitcache.repository.repository import CONFIG, Repository
from zitcache.storage.opening import open_storage
from zitcache.tasks.settings import resolve_cache, resolve_repository, warn_ignored

_CONFIG_HEAD_BYTES = 4096
_USUAL_NAMES = ("", "zitcache", "zitcache-repo", "zitcache-repository", "backup/zitcache", "backups/zitcache")


def locate(cache: str | None, session: Session) -> LocatedCache:
    """The cache that is meant, with where it was found. Raises ``CacheNotFound`` or ``UsageError``."""
    setting = resolve_cache(cache)
    warn_ignored(setting, session)
    located = locate_cache(setting.value, dict(os.environ), Path.home(), Path.cwd())
    for notice in located.warnings:
        session.warn(notice.code, notice.message, notice.hint)
    return located


def live_cache(cache: str | None, session: Session) -> Path:
    """The real path of the cache to work on. Raises ``CacheNotFound`` if it holds no model at all."""
    located = locate(cache, session)
    if located.is_empty:
        raise CacheNotFound(f"The cache {located.path} is empty: there is no model in it.")
    if located.others:
        others = ", ".join(str(other.path) for other in located.others)
        session.warn(
            "other-caches",
            f"Working on {located.path}. Models lie in other places, too: {others}.",
            f"To work on another one: --cache {shlex.quote(str(located.others[0].path))}",
        )
    return located.path


def discovered_repositories(without: Collection[str] = ()) -> list[str]:
    """Repositories in the usual folders of mounted data disks, except the mount points in ``without``."""
    return [
        str(place)
        for mount in data_mounts()
        if mount.mount_point not in without
        for place in _places(Path(mount.mount_point))
        if _looks_like_repository(place)
    ]


def _looks_like_repository(place: Path) -> bool:
    """Whether the config there is one of ours: restic's repositories have a ``config``, too."""
    try:
        with (place / CONFIG).open("rb") as config:
            return b'"zitcache"' in config.read(_CONFIG_HEAD_BYTES)
    except OSError:  # nothing there, not allowed, or a disk that does not answer
        return False


def _places(mount_point: Path) -> Iterator[Path]:
    for name in _USUAL_NAMES:
        yield mount_point / name if name else mount_point


def chosen_location(flag: str | None, session: Session) -> str:
    """Where the repository is. Raises ``RepositoryNotFound`` with the places looked at, or ``UsageError``
    if several lie around and none was named."""
    setting = resolve_repository(flag)
    warn_ignored(setting, session)
    if setting.value is not None:
        return setting.value
    found = discovered_repositories()
    if len(found) == 1:
        session.warn("repository-found", f"Using the repository found in {found[0]}.")
        return found[0]
    if found:
        raise UsageError(
            f"There are {len(found)} repositories: {', '.join(found)}. Which one?",
            hint=f"Add --repo {shlex.quote(found[0])}",
        )
    disks = [mount.mount_point for mount in data_mounts()]
    looked = f" No data disk ({', '.join(disks)}) holds one." if disks else " No data disk is mounted."
    place = f"{disks[0].rstrip('/')}/zitcache" if disks else "/path/on/the/data/disk/zitcache"
    raise RepositoryNotFound(
        "No repository was named (--repo, ZITCACHE_REPO, config)." + looked,
        hint=f"Create one: zitcache init {shlex.quote(place)}",
    )


def repository_at(place: str, session: Session) -> str:
    """The one repository at, or below, ``place`` (a kit counts as what it was made for).

    Raises ``RepositoryNotFound`` if there is none, ``UsageError`` if there are several.
    """
    from zitcache.tasks.discovery import look_below

    found = look_below(Path(place), session).repositories
    if len(found) == 1:
        return str(found[0])
    if found:
        raise UsageError(
            f"There are {len(found)} repositories in {place}: {', '.join(map(str, found))}. Which one?",
            hint=f"Add --repo {shlex.quote(str(found[0]))}",
        )
    raise RepositoryNotFound(
        f"There is no repository in {place}.", hint="Name it: zitcache restore --repo PLACE"
    )


def open_repository(flag: str | None, session: Session) -> Repository:
    """Open the repository that is meant."""
    return Repository.open(open_storage(chosen_location(flag, session)))


def refuse_overlap(location: str, cache: Path, session: Session) -> None:
    """Refuse a repository inside the cache or the other way round; warn if both are on one disk.

    Raises ``UsageError``: the snapshot would contain itself, or restoring would overwrite the repository.
    """
    if "://" in location:
        return
    repository, real_cache = Path(os.path.realpath(location)), Path(os.path.realpath(cache))
    if repository == real_cache or real_cache in repository.parents:
        raise UsageError(
            f"The repository {repository} lies inside the cache {real_cache}.",
            hint="Choose a place on another disk: zitcache init /path/on/the/data/disk",
        )
    if repository in real_cache.parents:
        raise UsageError(
            f"The cache {real_cache} lies inside the repository {repository}.",
            hint="Choose another place for the repository.",
        )
    try:
        together = same_disk(repository, real_cache)
    except (OSError, ZitcacheError):
        return
    if together:
        session.warn(
            "same-disk",
            f"The repository {repository} is on the same disk as the cache: a reset of that disk takes both.",
            "Keep it on a data disk: zitcache init /path/on/the/data/disk",
        )
