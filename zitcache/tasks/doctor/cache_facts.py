"""The cache: where it is, what is in it, and on which disks its bytes really lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.environment import LocatedCache, candidate_roots, locate_cache
from zitcache.cache.inventory import Inventory, inventory
from zitcache.cache.layouts import find_models
from zitcache.cache.marker import MigrationMarker, read_marker
from zitcache.errors import CacheNotFound, ZitcacheError
from zitcache.machine.mounts import FreeSpace, Survival, free_space, survives
from zitcache.tasks.doctor.disk_facts import DiskFacts
from zitcache.tasks.settings import resolve_cache

CLOSE_TO_FULL_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Ground:
    """``size_bytes`` of the cache's models lie on one disk; ``example``: a path there."""

    survival: Survival
    size_bytes: int
    example: str


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """``located``: None when there is no cache; then ``missing`` says why, and ``hint`` what to do.

    ``size_bytes``: of all models, each file once. ``grounds``: the disks that hold them, the largest share
    first. ``marker``: if the cache was migrated. ``dangling``: the place that a variable names is a link to
    ``dangling[1]``, which is not there.
    """

    located: LocatedCache | None
    missing: str = ""
    hint: str | None = None
    stock: Inventory | None = None
    size_bytes: int = 0
    files: int = 0
    grounds: tuple[Ground, ...] = ()
    free: FreeSpace | None = None
    marker: MigrationMarker | None = None
    dangling: tuple[str, str] | None = None

    @property
    def path(self) -> Path | None:
        """The cache's real path."""
        return self.located.path if self.located else None

    @property
    def is_closed(self) -> bool:
        """Whether this user may not look into it: then it only seems to be empty."""
        if self.path is None:
            return False
        return not os.access(
            self.path, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
        )

    @property
    def bytes_lost(self) -> int:
        """How much a reset of the system disk takes."""
        return sum(ground.size_bytes for ground in self.grounds if ground.survival.verdict == "lost")

    @property
    def bytes_uncertain(self) -> int:
        """How much lies where it depends."""
        return sum(ground.size_bytes for ground in self.grounds if ground.survival.verdict == "unknown")


def look_at_cache(flag: str | None, environ: Mapping[str, str], disks: DiskFacts) -> CacheFacts:
    """Find the cache and take stock. Raises ``OSError``, and ``ZitcacheError`` for settings of no use."""
    home, cwd = Path.home(), _working_directory()
    named = resolve_cache(flag, environ).value
    if named is not None and disks.is_below_dead(os.path.abspath(named)):
        raise TimeoutError(f"the disk of {named} does not answer")
    if named is None and disks.dead:
        named = _first_alive(environ, home, cwd, disks)
    try:
        located = locate_cache(named, environ, home, cwd)
    except CacheNotFound as error:
        return CacheFacts(
            None, error.message, error.hint, dangling=_dangling(named, environ, home, cwd, disks)
        )
    root = located.path
    stock = inventory(root)
    sizes = _sizes(root, stock)
    return CacheFacts(
        located,
        stock=stock,
        size_bytes=sum(size for size, _ in sizes.values()),
        files=len(sizes),
        grounds=_grounds(root, sizes),
        free=free_space(root),
        marker=_marker(root),
    )


def _first_alive(environ: Mapping[str, str], home: Path, cwd: Path, disks: DiskFacts) -> str | None:
    """The first place with a model that is not on a dead mount: the usual search would hang there."""
    for root in candidate_roots(environ, home, cwd):
        if not disks.is_below_dead(str(root.path)) and find_models(root.path):
            return str(root.path)
    raise TimeoutError(f"no cache was found, and {', '.join(disks.dead)} did not answer")


def _sizes(root: Path, stock: Inventory) -> dict[str, tuple[int, int]]:
    """Size and device of each file with content of the models, by its real path."""
    found: dict[str, tuple[int, int]] = {}
    for model in stock.models:
        for file in model.files:
            path = os.path.normpath(root / file.content_path)
            if path not in found:
                try:
                    device = os.stat(path).st_dev
                except OSError:
                    continue
                found[path] = file.size, device
    return found


def _grounds(root: Path, sizes: Mapping[str, tuple[int, int]]) -> tuple[Ground, ...]:
    by_device: dict[int, tuple[int, str]] = {}
    for path, (size, device) in sizes.items():
        total, example = by_device.get(device, (0, path))
        by_device[device] = total + size, example
    if not by_device:
        return (Ground(survives(root), 0, str(root)),)
    found = [Ground(survives(example), total, example) for total, example in by_device.values()]
    return tuple(sorted(found, key=lambda ground: -ground.size_bytes))


def _dangling(
    named: str | None, environ: Mapping[str, str], home: Path, cwd: Path, disks: DiskFacts
) -> tuple[str, str] | None:
    """A place that was meant and is a link into nowhere: a data disk that is not mounted."""
    wanted = [Path(named)] if named else [root.path for root in candidate_roots(environ, home, cwd)]
    for path in wanted:
        if disks.is_below_dead(str(path)):
            continue
        for place in (path, path.parent):
            if place.is_symlink() and not place.exists():
                return str(place), os.readlink(place)
    return None


def _marker(root: Path) -> MigrationMarker | None:
    try:
        return read_marker(root)
    except ZitcacheError:
        return None


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:
        return Path("/")
