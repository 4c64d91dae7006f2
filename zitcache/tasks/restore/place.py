"""Where a snapshot is restored to, and every reason not to."""

from __future__ import annotations

import os
from pathlib import Path

from zitcache.errors import IntegrityError, NoSpace, UsageError, from_os_error
from zitcache.machine.files import nearest_existing
from zitcache.machine.mounts import free_space
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot

_SYSTEM = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
)
_NOT_ITSELF = ("/home", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var")
"""A cache may lie below these, but is never one of them."""

_ELSEWHERE = "Name the place: zitcache restore --to DIR"


def choose_target(to: str | None, snapshot: Snapshot) -> Path:
    """The real directory to restore to: ``to``, else where the snapshot came from.

    Raises :class:`UsageError` if something else is in its place, or where only somebody who forged the
    snapshot would want it; :class:`IntegrityError` if the snapshot does not name an absolute path.
    """
    if to is not None:
        if not to or "\0" in to:
            raise UsageError("The place to restore to (--to) is empty.", hint=_ELSEWHERE)
        path = Path(os.path.realpath(os.path.expanduser(to)))
    else:
        recorded = snapshot.record.real_cache
        if not recorded.startswith("/") or "\0" in recorded:
            raise IntegrityError(
                f"Snapshot {snapshot.short_id} does not say where it came from.", hint=_ELSEWHERE
            )
        path = Path(os.path.realpath(recorded))
        _refuse_system_directory(path, snapshot)
    if path == Path("/"):
        raise UsageError("Refusing to restore over the root of the file system.", hint=_ELSEWHERE)
    _require_directory(path)
    return path


def no_place_for_cache(path: Path) -> bool:
    """Whether only somebody with bad intentions would have a cache at ``path``: the system's own places."""
    inside = any(path == Path(place) or Path(place) in path.parents for place in _SYSTEM)
    return inside or str(path) in _NOT_ITSELF or path == Path("/")


def _refuse_system_directory(path: Path, snapshot: Snapshot) -> None:
    if no_place_for_cache(path) and path != Path("/"):
        raise UsageError(
            f"Snapshot {snapshot.short_id} says that it came from {path}, which is no place for a cache. "
            "Nothing was written.",
            hint=_ELSEWHERE,
        )


def _require_directory(path: Path) -> None:
    try:
        existing = nearest_existing(path)
    except OSError as error:
        raise from_os_error(error, f"looking at {path}") from error
    if existing.is_dir():
        return
    if existing == path:
        raise UsageError(f"{path} is a file; a snapshot is restored to a directory.", hint=_ELSEWHERE)
    raise UsageError(f"{existing} is a file, so {path} cannot be made.", hint=_ELSEWHERE)


def refuse_overlap(repository: Repository, target: Path) -> None:
    """Raise :class:`UsageError` if the target and the repository lie one in the other."""
    location = repository.storage.location
    if "://" in location:
        return
    place = Path(os.path.realpath(location))
    if place == target or target in place.parents or place in target.parents:
        raise UsageError(f"The target {target} and the repository {place} overlap.", hint=_ELSEWHERE)


def require_space(target: Path, size_bytes: int, names: int) -> None:
    """Raise :class:`NoSpace` if so many more bytes and names cannot fit: before anything is written."""
    free = free_space(target)
    if free.bytes_free < size_bytes:
        raise NoSpace(
            f"Restoring to {target} needs {_amount(size_bytes)} more; the disk has "
            f"{_amount(free.bytes_free)} free. Nothing was written.",
            hint="Free some space, or restore elsewhere: zitcache restore --to DIR",
        )
    if free.inodes_free is not None and free.inodes_free < names:
        raise NoSpace(
            f"Restoring to {target} needs {names} inodes; the disk has {free.inodes_free} left. "
            "Nothing was written.",
            hint="Remove small files (see `df -i`), or restore elsewhere: zitcache restore --to DIR",
        )


def _amount(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.2f} MB"
