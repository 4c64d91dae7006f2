"""Small looks at a folder, and the translation of ``OSError`` for everything local."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zitcache.errors import from_os_error


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise ``OSError`` as the :class:`~zitcache.errors.ZitcacheError` that says what was being done."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, doing) from error


def size_of(path: Path) -> int | None:
    """The size of the file ``path``; None if there is nothing; -1 if it is something else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def files_in(folder: Path) -> list[tuple[str, os.stat_result]]:
    """Name and status of every file directly in ``folder``; none if it is missing. Raises ``OSError``."""
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return []
    with entries:
        found = ((entry.name, _file_status(entry)) for entry in entries)
        return [(name, status) for name, status in found if status is not None]


def folders_in(folder: Path) -> list[str]:
    """The names of the folders directly in ``folder``; nothing if that is missing. Raises ``OSError``."""
    try:
        return [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []


def _file_status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for what is not a file, or no longer there."""
    try:
        return entry.stat() if entry.is_file() else None
    except FileNotFoundError:
        return None
