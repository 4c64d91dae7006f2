"""A thing that may go: where, what, why, and what must still be true when it goes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from zitcache.tasks.clean.report import Kind

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime in ns: equal means that nobody has touched the file."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """``path``: absolute, its parent without symlinks. ``names``: the files in the folder ``path`` that are
    meant, None for ``path`` itself (a file, or a folder with all that is in it).

    ``locks``: lock files; while somebody holds one, this is in use. ``relies_on``: files that make this one
    superfluous, as they were when that was found out. ``keep``: why it must stay, if that is known already;
    ``keep_unless_named``, ``keep_unless_all``: why it stays unless ``--kind`` or ``--all`` was given.
    """

    path: str
    kind: Kind
    reason: str
    names: tuple[str, ...] | None = None
    locks: tuple[str, ...] = ()
    relies_on: tuple[tuple[str, Identity], ...] = ()
    keep: str | None = None
    keep_unless_named: str | None = None
    keep_unless_all: str | None = None


def identity(status: os.stat_result) -> Identity:
    """What tells this state of a file from any other."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def real_place(path: str | os.PathLike[str]) -> str:
    """``path`` with the symlinks of its parent resolved, and its own name as it is."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name)


def is_below(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies in it, by the text."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
