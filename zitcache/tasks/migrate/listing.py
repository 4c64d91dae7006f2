"""Everything in a cache, without exception: a migration moves tokens, locks and unfinished downloads, too.

``scan_tree`` lists what belongs in a snapshot; this lists what lies there, with owners and identities.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from zitcache.errors import CredentialsError, UsageError, from_os_error
from zitcache.machine.mounts import mounts
from zitcache.tasks.migrate.names import LOST_AND_FOUND, is_own
from zitcache.tasks.reading import Identity

_SPECIAL = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


class Kind(Enum):
    """What an entry is. ``HARD_LINK``: a further name of a file that is listed before."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARD_LINK = "hard link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name, relative to the root of the cache. ``target``: a symlink's text, a hard link's first name."""

    path: str
    kind: Kind
    identity: Identity
    mode: int
    uid: int
    gid: int
    target: str | None = None

    @property
    def size(self) -> int:
        """Bytes to move: those of a file, else 0."""
        return self.identity.size if self.kind is Kind.FILE else 0


@dataclass(frozen=True, slots=True)
class Listing:
    """``entries``: by path, parents before what is in them. ``special``: path and what it is, not movable.

    ``root``: the top directory itself, with the path "".
    """

    root: Entry
    entries: dict[str, Entry]
    special: dict[str, str]

    def of_kind(self, kind: Kind) -> list[Entry]:
        """All entries of that kind, in order."""
        return [entry for entry in self.entries.values() if entry.kind is kind]

    @property
    def size_bytes(self) -> int:
        """What all files hold."""
        return sum(entry.size for entry in self.entries.values())

    @property
    def file_count(self) -> int:
        """All names that are files: second names of a file count, too."""
        return sum(1 for entry in self.entries.values() if entry.kind in (Kind.FILE, Kind.HARD_LINK))


def list_everything(root: Path) -> Listing:
    """List the directory ``root`` whole. Names that vanish meanwhile are left out.

    Raises ``CredentialsError`` naming what may not be read: a cache is moved whole or not at all;
    ``UsageError`` where another file system is mounted inside; else what the disk refuses.
    """
    _refuse_inner_mounts(root)
    try:
        top = _entry("", Kind.DIRECTORY, os.lstat(root))
        found = sorted(_walk(os.fspath(root)), key=lambda item: os.fsencode(item[0]))
    except OSError as error:
        raise from_os_error(error, f"listing {error.filename or root}") from error
    entries: dict[str, Entry] = {}
    special: dict[str, str] = {}
    first_names: dict[tuple[int, int], str] = {}
    for path, status, target in found:
        mode = stat.S_IFMT(status.st_mode)
        if mode == stat.S_IFDIR:
            entries[path] = _entry(path, Kind.DIRECTORY, status)
        elif mode == stat.S_IFLNK:
            entries[path] = _entry(path, Kind.SYMLINK, status, target)
        elif mode != stat.S_IFREG:
            special[path] = _SPECIAL.get(mode, "a special file")
        else:
            first = path
            if status.st_nlink > 1:
                first = first_names.setdefault((status.st_dev, status.st_ino), path)
            kind = Kind.FILE if first == path else Kind.HARD_LINK
            entries[path] = _entry(path, kind, status, None if first == path else first)
    return Listing(top, entries, special)


def require_readable(root: Path, listing: Listing) -> None:
    """Raise ``CredentialsError`` naming the first file that this user may not read."""
    for entry in listing.of_kind(Kind.FILE):
        path = os.path.join(root, entry.path)
        if not os.access(path, os.R_OK, effective_ids=True) and os.path.lexists(path):
            raise CredentialsError(
                f"{path} may not be read, and a cache is moved whole or not at all. Nothing was changed.",
                hint="Run the same command as its owner, or with sudo.",
            )


def _walk(root: str) -> Iterator[tuple[str, os.stat_result, str | None]]:
    pending = [""]
    is_mount = os.path.ismount(root)
    while pending:
        prefix = pending.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as listed:
                entries = list(listed)
        except FileNotFoundError:
            if not prefix:
                raise
            continue
        for entry in entries:
            if is_own(prefix, entry.name) or (is_mount and not prefix and entry.name == LOST_AND_FOUND):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
                target = os.readlink(entry.path) if stat.S_ISLNK(status.st_mode) else None
            except FileNotFoundError:
                continue
            yield prefix + entry.name, status, target
            if stat.S_ISDIR(status.st_mode):
                pending.append(prefix + entry.name + "/")


def _entry(path: str, kind: Kind, status: os.stat_result, target: str | None = None) -> Entry:
    return Entry(
        path, kind, Identity.of(status), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, target
    )


def _refuse_inner_mounts(root: Path) -> None:
    for mount in mounts():
        if mount.mount_point.startswith(f"{root}/"):
            raise UsageError(
                f"Another file system is mounted inside the cache, at {mount.mount_point}. "
                "Nothing was changed.",
                hint=f"Unmount it first: umount {mount.mount_point}",
            )


# -- differences ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Differences:
    """What happened between two listings: paths. Times of directories do not count."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    vanished: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.vanished)

    def sample(self, count: int = 3) -> str:
        """A few of them for a message."""
        paths = [*self.changed, *self.new, *self.vanished]
        return ", ".join(paths[:count]) + (f" and {len(paths) - count} more" if len(paths) > count else "")


def differences(before: Listing, after: Listing) -> Differences:
    """Compare two listings of one tree."""
    old, new = before.entries, after.entries
    return Differences(
        tuple(path for path in new if path not in old),
        tuple(path for path, entry in new.items() if path in old and not is_same(old[path], entry)),
        tuple(path for path in old if path not in new),
    )


def is_same(a: Entry, b: Entry) -> bool:
    """Whether an entry is what it was, as far as can be told without reading it."""
    if a.kind is not b.kind or a.target != b.target:
        return False
    if a.kind is Kind.DIRECTORY:
        return (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid)
    return a.identity == b.identity


# -- links that leave the cache ---------------------------------------------------------------------


def escaping_links(root: Path, listing: Listing) -> dict[str, str]:
    """Symlinks whose text leads out of the cache: path -> an absolute text that leads to the same place."""
    found: dict[str, str] = {}
    real_root = os.path.realpath(root)
    for entry in listing.of_kind(Kind.SYMLINK):
        assert entry.target is not None
        parent = os.path.dirname(os.path.join(real_root, entry.path))
        as_text = os.path.normpath(os.path.join(parent, entry.target))
        reached = os.path.realpath(os.path.join(parent, entry.target))
        if _is_inside(as_text, real_root) or _is_inside(reached, real_root):
            continue
        if entry.target.startswith("/"):
            found[entry.path] = entry.target
        else:
            found[entry.path] = as_text if os.path.realpath(as_text) == reached else reached
    return found


def _is_inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
