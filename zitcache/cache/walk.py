"""List everything in a cache directory, and say what does not belong in a snapshot and why."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.exclusions import directory_exclusion, file_exclusion
from zitcache.cache.tree import Kind, LeftOut, Tree, TreeItem
from zitcache.errors import from_os_error

_SPECIAL = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


@dataclass(frozen=True, slots=True)
class _Found:
    """A name that belongs to the snapshot, before hard links are told apart."""

    item: TreeItem
    link_key: tuple[int, int] | None


def scan_tree(root: Path) -> Tree:
    """Every file, directory, symlink and hard link below ``root``, which must be a directory.

    Items are sorted by the bytes of their path, so a directory comes before what is in it and the first name
    of a hard-linked file is its ``FILE``. Names that vanish during the scan are not listed. Raises
    :class:`~zitcache.errors.ZitcacheError` when ``root`` itself cannot be listed.
    """
    scanner = _Scanner(root)
    found = sorted(scanner.scan(), key=lambda entry: os.fsencode(entry.item.path))
    left_out = sorted(scanner.left_out, key=lambda entry: os.fsencode(entry.path))
    return Tree(tuple(_tell_hard_links(found)), tuple(left_out))


class _Scanner:
    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)
        self.real_root = os.path.realpath(root)
        self.left_out: list[LeftOut] = []

    def scan(self) -> Iterator[_Found]:
        try:
            entries = _list_directory(self.root)
        except OSError as error:
            raise from_os_error(error, f"listing {self.root}") from error
        pending = [("", entries)]
        while pending:
            prefix, entries = pending.pop()
            names = frozenset(entry.name for entry in entries)
            for entry in entries:
                path = prefix + entry.name
                try:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        if self._excluded(path, directory_exclusion(prefix, entry.name, names)):
                            continue
                        # Listed before it is reported: a directory that cannot be read must not look empty.
                        pending.append((path + "/", _list_directory(entry.path)))
                        yield _Found(_item(path, Kind.DIRECTORY, status), None)
                    elif not self._excluded(path, file_exclusion(prefix, entry.name, names, status)):
                        yield from self._leaf(path, entry.path, status)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._leave_out(path, "unreadable", f"It cannot be read: {error.strerror or error}.")

    def _leaf(self, path: str, full_path: str, status: os.stat_result) -> Iterator[_Found]:
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(full_path)
            if self._escapes(full_path, target):
                self._leave_out(path, "escaping-symlink", f"It points out of the cache, to {target!r}.")
                return
            yield _Found(_item(path, Kind.SYMLINK, status, target), None)
        elif stat.S_ISREG(status.st_mode):
            if not os.access(full_path, os.R_OK, effective_ids=True):
                self._leave_out(path, "unreadable", f"It cannot be read: {os.strerror(errno.EACCES)}.")
                return
            link_key = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
            yield _Found(_item(path, Kind.FILE, status), link_key)
        else:
            what = _SPECIAL.get(stat.S_IFMT(status.st_mode), "a special file")
            self._leave_out(path, "special-file", f"It is {what}, not a file.")

    def _escapes(self, full_path: str, target: str) -> bool:
        """Whether a symlink leads out of the cache, read as text or followed to its end."""
        parent = Path(full_path).parent
        as_text = os.path.normpath(parent / target)
        followed = os.path.realpath(os.path.realpath(parent) / Path(target))
        inside_as_text = _is_inside(as_text, os.path.normpath(self.root)) or _is_inside(
            as_text, self.real_root
        )
        return not (inside_as_text and _is_inside(followed, self.real_root))

    def _excluded(self, path: str, why: tuple[str, str] | None) -> bool:
        if why is not None:
            self._leave_out(path, *why)
        return why is not None

    def _leave_out(self, path: str, code: str, reason: str) -> None:
        self.left_out.append(LeftOut(path, code, reason))


def _list_directory(path: str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return list(entries)


def _is_inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _item(path: str, kind: Kind, status: os.stat_result, target: str | None = None) -> TreeItem:
    return TreeItem(
        path=path,
        kind=kind,
        size=status.st_size if kind is Kind.FILE else 0,
        mode=stat.S_IMODE(status.st_mode),
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        target=target,
    )


def _tell_hard_links(found: list[_Found]) -> Iterator[TreeItem]:
    first_names: dict[tuple[int, int], str] = {}
    for entry in found:
        item = entry.item
        if entry.link_key is None:
            yield item
            continue
        first = first_names.setdefault(entry.link_key, item.path)
        if first == item.path:
            yield item
        else:
            yield TreeItem(
                path=item.path,
                kind=Kind.HARDLINK,
                size=0,
                mode=item.mode,
                mtime_ns=item.mtime_ns,
                ctime_ns=item.ctime_ns,
                inode=item.inode,
                target=first,
            )
