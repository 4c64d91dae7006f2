"""How much disk a candidate takes, when it last changed, and what in it must not be touched."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from hashlib import blake2b

from zitcache.tasks.clean.candidate import Candidate

_BLOCK = 512
"""The unit of ``st_blocks``, whatever the file system's block size is (stat(2))."""


@dataclass(slots=True)
class Inode:
    """The disk blocks of a file, how many names it has, and how many of them are in the candidate."""

    size_bytes: int
    links: int
    seen: int


@dataclass(slots=True)
class Footprint:
    """``newest``: the latest change of anything, seconds since the epoch. ``signature``: equal for two looks
    at the same untouched files. ``problem``: why it must stay, a sentence."""

    inodes: dict[tuple[int, int], Inode] = field(default_factory=dict)
    files: int = 0
    newest: float = 0.0
    signature: bytes = b""
    problem: str | None = None

    @property
    def size_bytes(self) -> int:
        """What the removal of this alone gives back: inodes with names elsewhere stay."""
        return sum(inode.size_bytes for inode in self.inodes.values() if inode.seen >= inode.links)


def measure(candidate: Candidate, user: int) -> Footprint | None:
    """Look at everything in ``candidate``; None if it is gone. Symlinks are never followed.

    ``user``: whose files may be removed. The first problem found is the one told.
    """
    try:
        top = os.lstat(candidate.path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Footprint(problem=f"It cannot be looked at: {error.strerror or error}.")
    look = _Look(top.st_dev, user)
    if candidate.names is not None:
        for name in candidate.names:
            look.name(candidate.path, name)
        return look.result() if look.found.files or look.found.problem else None
    if stat.S_ISDIR(top.st_mode):
        look.folder_status(top, is_top=True)
        look.tree(candidate.path)
    else:
        look.leaf("", top)
    return look.result()


class _Look:
    """One walk over one candidate."""

    def __init__(self, device: int, user: int) -> None:
        self.found = Footprint()
        self._device = device
        self._user = user
        self._digest = blake2b(digest_size=32)

    def result(self) -> Footprint:
        self.found.signature = self._digest.digest()
        return self.found

    def tree(self, top: str) -> None:
        """Everything below ``top``, in an order that is the same each time."""
        pending = [""]
        while pending:
            prefix = pending.pop()
            try:
                with os.scandir(os.path.join(top, prefix)) as entries:
                    names = sorted(entry.name for entry in entries)
            except OSError as error:
                self._problem(f"Not everything in it can be read: {error.strerror or error}.")
                continue
            pending += [f"{prefix}{name}/" for name in names if self.name(top, prefix + name)]

    def name(self, top: str, relative: str) -> bool:
        """Take one name into account; True for a folder to go into."""
        try:
            status = os.lstat(os.path.join(top, relative))
        except FileNotFoundError:
            return False
        except OSError as error:
            self._problem(f"Not everything in it can be read: {error.strerror or error}.")
            return False
        if status.st_dev != self._device:
            self._problem("Another file system is mounted in it.")
            return False
        if stat.S_ISDIR(status.st_mode):
            self.folder_status(status, is_top=False)
            self._digest.update(os.fsencode(relative) + b"/\0")
            return True
        self.leaf(relative, status)
        return False

    def folder_status(self, status: os.stat_result, *, is_top: bool) -> None:
        """A folder counts for size and age; its own times are no part of the signature."""
        self._owner(status)
        key = (status.st_dev, status.st_ino)
        self.found.inodes[key] = Inode(status.st_blocks * _BLOCK, 1, 1)
        self.found.newest = max(self.found.newest, status.st_mtime, 0.0 if is_top else status.st_ctime)

    def leaf(self, relative: str, status: os.stat_result) -> None:
        self._owner(status)
        self.found.files += 1
        key = (status.st_dev, status.st_ino)
        inode = self.found.inodes.setdefault(key, Inode(status.st_blocks * _BLOCK, status.st_nlink, 0))
        inode.seen += 1
        self.found.newest = max(self.found.newest, status.st_mtime, status.st_ctime)
        facts = (
            f"\0{status.st_mode},{status.st_ino},{status.st_size},{status.st_mtime_ns},{status.st_ctime_ns}\0"
        )
        self._digest.update(os.fsencode(relative) + facts.encode())

    def _owner(self, status: os.stat_result) -> None:
        if status.st_uid != self._user:
            self._problem(f"It belongs to another user (uid {status.st_uid}): that one may remove it.")

    def _problem(self, sentence: str) -> None:
        self.found.problem = self.found.problem or sentence
