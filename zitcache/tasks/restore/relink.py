"""Put a symlink back where programs look for a cache that lies elsewhere. Nothing in the way is destroyed.

What stands in the way is a fresh image's idea of the cache: an empty folder, a stub, sometimes the whole
preloaded cache again. An empty folder goes, anything else steps aside under another name beside it; a
complete copy of the same models stays where it is. Where the path cannot be replaced at all (a mount point, a
lower layer of an overlay, no permission), the variables alone must do, and that is said.

A marker is untrusted: see :func:`refuse_source` for what it may not name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from enum import Enum
from pathlib import Path

import msgspec

from zitcache.cache.inventory import inventory
from zitcache.errors import UsageError, ZitcacheError, from_os_error
from zitcache.events import Session
from zitcache.machine.files import exchange, sync_directory, temporary_name
from zitcache.machine.mounts import mounts
from zitcache.machine.ownership import user_name
from zitcache.tasks.restore.place import no_place_for_cache

_CANNOT = {errno.EXDEV, errno.EBUSY, errno.EROFS, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP}


class LinkState(str, Enum):
    """What becomes of a path. ``KEPT``: a complete copy is there; ``IMPOSSIBLE``: it cannot be replaced."""

    RIGHT = "right"
    MADE = "made"
    KEPT = "kept"
    IMPOSSIBLE = "impossible"


class LinkReport(msgspec.Struct, kw_only=True):
    """``path``: where programs look; ``place``: where the cache lies. ``state``: a :class:`LinkState`.

    ``moved_aside``: what stood there before has this name now (in a dry run: would get one like it).
    ``reason``: why there is no link.
    """

    path: str
    place: str
    state: str
    moved_aside: str | None = None
    reason: str | None = None


def relink(source: str, place: Path, session: Session, *, dry_run: bool = False) -> LinkReport:
    """Have ``source`` lead to ``place``.

    Raises :class:`UsageError` for a ``source`` that only somebody who forged the marker would name, and what
    the system says about anything unforeseen; what is there is then as it was.
    """
    path = refuse_source(source, place)
    report = LinkReport(path=str(path), place=str(place), state=LinkState.RIGHT.value)
    if os.path.realpath(path) == str(place):
        return report
    report.state = LinkState.MADE.value
    why = _crosses_others(Path(source).parent) or _crosses_others(path.parent) or _cannot_be_replaced(path)
    if why is not None:
        return _impossible(report, why, session)
    if _is_complete_copy(path, place):
        report.state, report.reason = LinkState.KEPT.value, "it holds the same models, complete"
        session.warn(
            "source-kept",
            f"{path} holds a complete copy of the same models: it was left as it is, not linked to {place}.",
            f"To use {place} there, move the copy away and run this again: mv {path} {path}.copy",
        )
        return report
    try:
        if dry_run:
            report.moved_aside = str(_aside_name(path)) if _is_worth_keeping(path) else None
        else:
            report.moved_aside = _replace(path, place)
    except OSError as error:
        if error.errno in _CANNOT:
            return _impossible(report, error.strerror or str(error), session)
        raise from_os_error(error, f"making the link {path}") from error
    if report.moved_aside is not None:
        verb = "would be" if dry_run else "was"
        session.warn(
            "moved-aside",
            f"{path} was not empty: what is in it {verb} kept as {report.moved_aside}.",
            f"When everything works, look at it and remove it: ls -la {report.moved_aside}",
        )
    return report


def refuse_source(source: str, place: Path) -> Path:
    """The path to make the link at: ``source`` with the symlinks in its parents resolved.

    Raises :class:`UsageError` when it is a directory of the system, or overlaps with ``place``.
    """
    given = Path(source)
    parent = Path(os.path.realpath(given.parent))
    path = parent / given.name
    if no_place_for_cache(given) or no_place_for_cache(path):
        raise UsageError(
            f"The migrated cache in {place} says that it came from {source}, which is no place for a cache. "
            "No link was made.",
            hint="See what it says, and set the variables by hand: zitcache env --cache DIR",
        )
    if path != place and (path in place.parents or place in path.parents):
        raise UsageError(
            f"The migrated cache in {place} says that it came from {source}; one lies in the other. "
            "No link was made.",
            hint="Set the variables by hand: zitcache env --cache DIR",
        )
    return path


def _crosses_others(directory: Path) -> str | None:
    """Who else decides where ``directory`` leads, and could turn root's link to a place of his choice."""
    current = Path("/")
    for part in directory.parts[1:]:
        try:
            here = os.lstat(current)
            current = current / part
            status = os.lstat(current)
        except (FileNotFoundError, NotADirectoryError):
            return None  # from here on we make it ourselves
        except OSError as error:
            return f"{current} cannot be looked at ({error.strerror})"
        if status.st_uid not in (0, os.geteuid()):
            return f"{current} belongs to {user_name(status.st_uid)}"
        open_to_all = here.st_mode & stat.S_IWOTH and not here.st_mode & stat.S_ISVTX
        if stat.S_ISLNK(status.st_mode) and open_to_all:
            return f"everybody may replace {current}"
    return None


def _cannot_be_replaced(path: Path) -> str | None:
    points = {mount.mount_point for mount in mounts()}
    if str(path) in points:
        return "another disk is mounted there"
    inner = [point for point in points if point.startswith(f"{path}/")]
    return f"another disk is mounted in it, at {inner[0]}" if inner else None


def _is_complete_copy(path: Path, place: Path) -> bool:
    """Whether the directory at ``path`` has every model of ``place``, whole and of the same size."""
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        here = {(model.id, model.size_bytes) for model in inventory(path).models if model.complete}
        there = {(model.id, model.size_bytes) for model in inventory(place).models if model.complete}
    except (OSError, ZitcacheError):
        return False
    return bool(there) and there <= here


def _replace(path: Path, place: Path) -> str | None:
    """Swap the link in; where what was there before is now, if it was worth keeping. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    link = path.with_name(temporary_name())
    link.symlink_to(place)
    try:
        if not os.path.lexists(path):
            link.rename(path)
            sync_directory(path.parent)
            return None
        aside = _aside_name(path) if _is_worth_keeping(path) else None
        if not exchange(link, path):
            # No atomic swap on this file system: for a moment there is nothing at the path.
            stepped = path.with_name(temporary_name())
            path.rename(stepped)
            try:
                link.rename(path)
            except OSError:
                stepped.rename(path)
                raise
            link = stepped
        aside = _put_away(link, aside or _aside_name(path), keep=aside is not None)
    except BaseException:
        if link.is_symlink():
            with contextlib.suppress(OSError):
                link.unlink()
        raise
    sync_directory(path.parent)
    return str(aside) if aside is not None else None


def _put_away(old: Path, aside: Path, *, keep: bool) -> Path | None:
    """Remove what stepped aside if it is nothing, else give it its name; that name."""
    if not keep:
        with contextlib.suppress(OSError):  # somebody put something into the empty folder in this moment
            if old.is_symlink():
                old.unlink()
            else:
                old.rmdir()
            return None
    old.rename(aside)
    return aside


def _is_worth_keeping(path: Path) -> bool:
    """Anything but nothing, an empty folder, and a link to a place that does not exist (any more)."""
    if path.is_symlink():
        return path.exists()
    if not os.path.lexists(path):
        return False
    return not path.is_dir() or any(path.iterdir())


def _aside_name(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = [f"{path.name}.before-restore-{stamp}{more}" for more in ("", *(f"-{n}" for n in range(2, 99)))]
    return next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))


def _impossible(report: LinkReport, why: str, session: Session) -> LinkReport:
    report.state, report.reason = LinkState.IMPOSSIBLE.value, why
    session.warn(
        "no-link",
        f"{report.path} could not be made a link to {report.place}: {why}. "
        "Programs find the cache through the variables alone.",
        "Start programs from a new shell, or give them the place: --cache " + report.place,
    )
    return report
