"""The file tree of a cache as it lies on the disk: what belongs to a snapshot, and what is left out.

Paths are relative to the cache root, POSIX, and ``str``; bytes that are not UTF-8 travel as surrogate
escapes (PEP 383), so that ``os.fsencode(path)`` gives back the exact name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """What a tree item is. ``HARDLINK`` is a second name of a file already listed."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"


@dataclass(frozen=True, slots=True)
class TreeItem:
    """One name in the cache. ``size`` in bytes (0 unless a file), times in ns, ``mode`` 0o7777.

    ``target`` is a symlink's text as it is, or the path of the hard-linked file's first name.
    """

    path: str
    kind: Kind
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    target: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A name that is not part of a snapshot, and why.

    ``code``: "token", "lock", "unfinished-download", "own-files" are on purpose; "escaping-symlink",
    "special-file", "unreadable" are problems that make a backup partial.
    """

    path: str
    code: str
    reason: str

    @property
    def is_problem(self) -> bool:
        """Whether the user should hear about it (exit code 3)."""
        return self.code in {"escaping-symlink", "special-file", "unreadable"}


@dataclass(frozen=True, slots=True)
class Tree:
    """All items of a cache sorted by path bytes (a directory before what is in it), and what was left out."""

    items: tuple[TreeItem, ...]
    left_out: tuple[LeftOut, ...]
