"""Delete the old copy, once the new one is whole, verified and marked; never what only the old one has."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from datetime import datetime, timezone
from pathlib import Path

from zitcache.errors import from_os_error
from zitcache.events import Session
from zitcache.machine.files import exchange, remove_tree, sync_directory, temporary_name
from zitcache.tasks.migrate.listing import Entry, Kind, Listing, list_everything
from zitcache.tasks.migrate.names import LINK_PREFIX, LOST_AND_FOUND
from zitcache.tasks.migrate.structure import replace_by_symlink
from zitcache.tasks.migrate.survey import compare_content

_LARGE_BYTES = 1 << 20
_CLOCK_STEP_NS = 2_000_000_000
"""Times of files lag behind the clock, by the tick of the kernel or of the file system."""


def only_in_old(old: Path, target: Path, moment: str, session: Session) -> list[str]:
    """Paths of ``old`` that were written after ``moment`` (ISO 8601) and are not in ``target`` as they are.

    So are large files that ``target`` has no more, whatever their age: perhaps nobody meant to remove them.
    Where a clock was set back, a file seems old that is not; it was compared when the switch was made.
    """
    listing = list_everything(old)
    since = _nanoseconds(moment) - _CLOCK_STEP_NS
    suspects = [
        entry
        for entry in listing.entries.values()
        if entry.identity.ctime_ns >= since
        or (entry.size >= _LARGE_BYTES and not os.path.lexists(target / entry.path))
    ]
    return differing(old, target, listing, suspects, session)


def differing(
    old: Path, target: Path, listing: Listing, suspects: list[Entry], session: Session
) -> list[str]:
    """Those of ``suspects`` whose content, link text or mere existence ``target`` does not have."""
    found: list[str] = []
    to_read: list[Entry] = []
    for entry in suspects:
        status = _lstat(target / entry.path)
        if entry.kind is Kind.DIRECTORY:
            same = status is not None and stat.S_ISDIR(status.st_mode)
        elif entry.kind is Kind.SYMLINK:
            same = status is not None and stat.S_ISLNK(status.st_mode)
        else:
            same = (
                status is not None and stat.S_ISREG(status.st_mode) and status.st_size == entry.identity.size
            )
            if same:
                to_read.append(entry)
        if not same:
            found.append(entry.path)
    equal = compare_content(old, target, to_read, session)
    found += [entry.path for entry in to_read if entry.path not in equal]
    return found + list(listing.special)


def delete_tree(tree: Path, session: Session) -> None:
    """Remove a whole tree beside the cache. Raises what the disk refuses; the next run goes on."""
    session.progress.stage("Deleting the old copy")
    try:
        remove_tree(tree)
        sync_directory(tree.parent)
    except OSError as error:
        raise from_os_error(error, f"deleting {tree}") from error


def empty_in_place(source: Path, target: Path, session: Session) -> bool:
    """Delete the tree at ``source``, which cannot be renamed, entry by entry; whether it is a link now.

    Each entry first becomes a symlink to its counterpart, in one step, so that every path works all the
    time. In the end the directories left are replaced by one symlink, except at a mount point. Killed
    anywhere, the same call goes on. Raises what the disk refuses.
    """
    session.progress.stage("Deleting the old copy")
    try:
        if not os.path.islink(source):
            _link_entries(source, target)
            if os.path.ismount(source):
                return False
            _require_links_only(source)
            remove_tree(source)
            os.symlink(target, source)
            sync_directory(source.parent)
        return True
    except OSError as error:
        raise from_os_error(error, f"deleting {source}") from error


def _link_entries(folder: Path, target: Path) -> None:
    with os.scandir(folder) as listed:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in listed]
    for name, is_directory, is_link in entries:
        here, there = folder / name, target / name
        if name == LOST_AND_FOUND or (is_link and os.readlink(here) == os.fspath(there)):
            continue
        if name.startswith(LINK_PREFIX) or not os.path.lexists(there):
            # An old directory whose removal was interrupted, a link not yet in place; or what was removed
            # from the cache since it moved (whether it is newer than that was looked at before).
            remove_tree(here)
        elif is_directory:
            _link_directory(here, there)
        else:
            replace_by_symlink(here, os.fspath(there))
    sync_directory(folder)


def _link_directory(here: Path, there: Path) -> None:
    aside = here.with_name(temporary_name(LINK_PREFIX))
    os.symlink(there, aside)
    try:
        swapped = exchange(aside, here)
    except OSError:  # EXDEV: a directory of a lower layer
        swapped = False
    if swapped:
        sync_directory(here.parent)
        remove_tree(aside)
        return
    with contextlib.suppress(OSError):
        aside.unlink()
    _link_entries(here, there)


def _require_links_only(source: Path) -> None:
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                raise OSError(errno.ENOTEMPTY, "Something is in it that the new place does not have", path)


def _nanoseconds(moment: str) -> int:
    when = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return int(when.timestamp() * 1_000_000) * 1000


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
