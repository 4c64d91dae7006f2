"""Everything in a tree that is not the content of files: directories, links, modes, and what is too much."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from zitcache.errors import from_os_error
from zitcache.machine.files import remove_tree, temporary_name
from zitcache.tasks.migrate.listing import Entry, Kind, Listing
from zitcache.tasks.migrate.metadata import Metadata
from zitcache.tasks.migrate.names import (
    LEFTOVERS_NAME,
    LINK_PREFIX,
    LOST_AND_FOUND,
    PART_PREFIX,
    is_own,
    maker_of_temporary,
)

_WHILE_WORKING = 0o700


def make_directories(listing: Listing, target: Path, source: Path) -> None:
    """Make every directory of ``listing`` below ``target``, in a state in which it can be filled.

    Parents come first, so nothing is ever made through a symlink. What else has such a name is moved to the
    leftovers, but for a symlink to the very directory in ``source``. Raises what the disk refuses.
    """
    for entry in listing.of_kind(Kind.DIRECTORY):
        path = target / entry.path
        try:
            status = _lstat(path)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                if stat.S_ISLNK(status.st_mode) and os.readlink(path) == os.fspath(source / entry.path):
                    path.unlink()
                else:
                    set_aside(target, entry.path)
                status = None
            if status is None:
                path.mkdir(mode=_WHILE_WORKING)
            elif status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
        except OSError as error:
            raise from_os_error(error, f"making {path}") from error


def clear_the_way(listing: Listing, target: Path) -> None:
    """Move directories away whose name a file or link of ``listing`` needs. Raises what the disk refuses."""
    for entry in listing.entries.values():
        if entry.kind is Kind.DIRECTORY:
            continue
        status = _lstat(target / entry.path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            try:
                set_aside(target, entry.path)
            except OSError as error:
                raise from_os_error(error, f"moving {target / entry.path} away") from error


def make_links(listing: Listing, target: Path, texts: Mapping[str, str], metadata: Metadata) -> None:
    """Make symlinks (``texts``: other texts than the original's, by path), then further names of files."""
    for entry in listing.of_kind(Kind.SYMLINK):
        path = target / entry.path
        try:
            _make_symlink(path, texts.get(entry.path) or str(entry.target))
        except OSError as error:
            raise from_os_error(error, f"making the symlink {path}") from error
        metadata.copy_to_link(entry, os.fspath(path))
    for entry in listing.of_kind(Kind.HARD_LINK):
        path = target / entry.path
        try:
            make_hard_link(target / str(entry.target), path)
        except OSError as error:
            raise from_os_error(error, f"making the hard link {path}") from error


def settle_directories(listing: Listing, target: Path, metadata: Metadata) -> None:
    """Owners, modes and times of directories, innermost first, and of ``target`` itself."""
    for entry in reversed(listing.of_kind(Kind.DIRECTORY)):
        _settle(target / entry.path, entry, metadata)
    _settle(target, listing.root, metadata)


def remove_surplus(listing: Listing, target: Path, placed: Collection[str]) -> list[str]:
    """Take away what is in ``target`` but not in ``listing``; returns the paths that were kept as leftovers.

    Parts, and what was ``placed`` there from the cache, are removed: the cache has it no longer. Anything
    else is moved to :data:`~zitcache.tasks.migrate.names.LEFTOVERS_NAME`, never deleted.
    """
    kept: list[str] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(target / prefix) as listed:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listed]
        for name, is_directory in names:
            path = prefix + name
            if name.startswith((PART_PREFIX, LINK_PREFIX)) or (
                path not in listing.entries and maker_of_temporary(name) is not None
            ):
                remove_tree(target / path)
            elif is_own(prefix, name) or (not prefix and name == LOST_AND_FOUND):
                continue
            elif path in listing.entries:
                if is_directory and listing.entries[path].kind is Kind.DIRECTORY:
                    pending.append(path + "/")
            elif path in placed and not is_directory:
                (target / path).unlink()
            elif is_directory and _is_ours(target, path, placed):
                remove_tree(target / path)
            else:
                set_aside(target, path)
                kept.append(path)
    return kept


def set_aside(target: Path, path: str) -> None:
    """Move ``path`` of ``target`` to the leftovers there. Raises ``OSError``."""
    place = target / LEFTOVERS_NAME / path
    if os.path.lexists(place):
        place = place.with_name(temporary_name(place.name[:64] + "-"))
    place.parent.mkdir(parents=True, exist_ok=True)
    os.rename(target / path, place)


def _is_ours(target: Path, path: str, placed: Collection[str]) -> bool:
    """Whether in that directory are but directories, our parts, and what was placed from the cache."""
    for folder, _, names in os.walk(target / path):
        here = os.path.relpath(folder, target)
        for name in names:
            if not name.startswith((PART_PREFIX, LINK_PREFIX)) and os.path.join(here, name) not in placed:
                return False
    return True


def _make_symlink(path: Path, text: str) -> None:
    status = _lstat(path)
    if status is not None and stat.S_ISLNK(status.st_mode) and os.readlink(path) == text:
        return
    if status is None:
        os.symlink(text, path)
        return
    replace_by_symlink(path, text)


def replace_by_symlink(path: Path, text: str) -> None:
    """Put a symlink in the place of the file or link ``path``, in one step. Raises ``OSError``."""
    temporary = path.with_name(temporary_name(LINK_PREFIX))
    os.symlink(text, temporary)
    try:
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def make_hard_link(first: Path, path: Path) -> None:
    """Make ``path`` a name of the file ``first``, unless it is. Raises ``OSError``."""
    status = _lstat(path)
    if status is None:
        os.link(first, path, follow_symlinks=False)
    elif not os.path.samestat(status, os.lstat(first)):
        temporary = path.with_name(temporary_name(LINK_PREFIX))
        os.link(first, temporary, follow_symlinks=False)
        temporary.replace(path)


def _settle(path: Path, entry: Entry, metadata: Metadata) -> None:
    try:
        status = os.lstat(path)
        if (status.st_mode & 0o7777, status.st_mtime_ns) != (entry.mode, entry.identity.mtime_ns) or (
            os.geteuid() == 0
        ):
            metadata.copy(entry, os.fspath(path))
    except OSError as error:
        raise from_os_error(error, f"setting mode and time of {path}") from error


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
