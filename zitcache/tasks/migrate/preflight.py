"""Everything that can be known to go wrong, found out before anything is changed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from zitcache.errors import Locked, NoSpace, UsageError, from_os_error
from zitcache.events import Session
from zitcache.machine.capabilities import Capabilities, probe
from zitcache.machine.files import nearest_existing
from zitcache.machine.mounts import data_mounts, survival_of_mount, survives
from zitcache.machine.openers import sees_everyone, writers_below
from zitcache.machine.space import require_room
from zitcache.tasks.migrate.listing import Entry, Kind, Listing
from zitcache.tasks.migrate.names import part_name
from zitcache.tasks.migrate.others import named_repository

_SPARE_BYTES = 8 << 20
"""For directories, the journal, the marker: what files themselves do not say."""


def require_survival(target: Path, *, force: bool, session: Session) -> None:
    """Refuse a disk that a reset wipes, unless forced; warn of one that it may wipe.

    Raises ``UsageError`` naming the disks that survive.
    """
    try:
        found = survives(target)
    except OSError as error:
        raise from_os_error(error, f"looking at {target}") from error
    if found.verdict == "survives":
        if found.is_network:
            session.warn("slow-disk", f"{target}: {found.reason}")
        return
    if found.verdict == "unknown":
        session.warn("may-not-survive", f"{target} may not survive a reset. {found.reason}")
        return
    if force:
        session.warn("does-not-survive", f"{target} does not survive a reset. {found.reason}")
        return
    good = [mount.mount_point for mount in data_mounts() if survival_of_mount(mount).verdict == "survives"]
    if good:
        place = shlex.quote(str(Path(good[0]) / "model_cache"))
        hint = f"Disks that survive: {', '.join(good)}. Run: zitcache migrate {place}"
    else:
        hint = "No disk that survives is mounted. Attach a data disk; or insist with --force."
    raise UsageError(
        f"{target} would not survive a reset of the system disk. {found.reason} Nothing was changed.",
        hint=hint,
    )


def require_capabilities(source: Path, target: Path, listing: Listing) -> Capabilities:
    """What the target's disk can do. Raises ``UsageError`` or ``NoSpace`` if it cannot hold the cache."""
    try:
        found = probe(target)
        longest = os.statvfs(nearest_existing(target)).f_namemax
    except OSError as error:
        raise from_os_error(error, f"trying what the disk of {target} can do") from error
    where = f"the disk of {target}"
    if not found.symlink and (links := listing.of_kind(Kind.SYMLINK)):
        raise _cannot(where, f"cannot hold symlinks, and the cache has {len(links)}: {links[0].path}")
    if not found.hard_link and (links := listing.of_kind(Kind.HARD_LINK)):
        raise _cannot(where, f"cannot hold hard links, and the cache has {len(links)}: {links[0].path}")
    if found.max_file_bytes is not None:
        large = [entry for entry in listing.entries.values() if entry.size > found.max_file_bytes]
        if large:
            raise NoSpace(
                f"{where[0].upper()}{where[1:]} cannot hold files of more than {found.max_file_bytes:,} "
                f"bytes; {large[0].path} has {large[0].size:,}. Nothing was changed.",
                hint="Format it with another file system (ext4, XFS), or choose another disk.",
            )
    for path in listing.entries:
        if len(os.fsencode(os.path.basename(path))) > longest:
            raise _cannot(where, f"cannot hold names as long as {path}")
    if not found.case_sensitive:
        _refuse_twins(where, listing.entries)
    return found


def require_space(target: Path, listing: Listing, entries: Iterable[Entry]) -> None:
    """Raise ``NoSpace`` unless ``entries`` fit, less what an earlier run has written of them."""
    needed, names = _SPARE_BYTES, 64
    for entry in listing.entries.values():
        names += not os.path.lexists(target / entry.path)
    for entry in entries:
        needed += entry.size + 4096
        place = (target / entry.path).with_name(part_name(entry.path))
        try:
            needed -= min(os.lstat(place).st_blocks * 512, entry.size)
        except OSError:
            continue
    try:
        require_room(target, needed, names)
    except NoSpace as error:
        raise NoSpace(f"{error.message} Nothing was changed.", hint=error.hint) from error


def require_quiet(source: Path, session: Session) -> None:
    """Raise ``Locked`` naming who has a file of the cache open for writing."""
    writers = writers_below(source)
    if writers:
        first = writers[0]
        more = f" ({len(writers) - 1} more open files)" if len(writers) > 1 else ""
        raise Locked(
            f"{first.name} (process {first.pid}) is writing to {first.path}{more}. Nothing was changed.",
            hint=f"Wait for it or stop it (see: ps -p {first.pid}), then run this again.",
        )
    if not sees_everyone():
        session.warn(
            "writers-unseen",
            "Programs of other users cannot be looked into: one that writes to the cache would not be seen.",
        )


def warn_of_repository(source: Path, session: Session) -> None:
    """Say so when the repository lies in the cache: it moves along, and both are on one disk."""
    named = named_repository()
    if named is None or "://" in named:
        return
    place = Path(os.path.realpath(named))
    if place == source or source in place.parents:
        session.warn(
            "repository-inside",
            f"The repository {place} lies inside the cache: it moves along, and one disk then holds both.",
            "Keep it on another disk: zitcache init /path/on/another/disk",
        )


def _refuse_twins(where: str, paths: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(path.casefold(), path)
        if other != path:
            raise _cannot(where, f"takes {other} and {path} for one name")


def _cannot(where: str, reason: str) -> UsageError:
    return UsageError(
        f"{where[0].upper()}{where[1:]} {reason}. Nothing was changed.",
        hint="Choose a disk with a Linux file system (ext4, XFS, Btrfs): see df -T",
    )
