"""Write the sample to the disk: all of it, or nothing."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from zitcache.cache.sample.layouts import Entry


def write_entries(root: Path, entries: Iterable[Entry], before: Callable[[Entry], None]) -> None:
    """Write ``entries`` below ``root`` (made where it is missing), calling ``before`` ahead of each.

    Whatever goes wrong (``OSError``, or an exception from ``before``) is raised after everything written so
    far has been removed again; names that were not written here are never touched. Not fsynced: the sample
    can be made again at any time.
    """
    written: list[Path] = []
    folders: list[Path] = []
    try:
        for entry in entries:
            before(entry)
            path = root / entry.path
            _make_folders(path.parent, folders)
            _write(path, entry, root, written)
    except BaseException:
        for path in reversed(written):
            with contextlib.suppress(OSError):
                path.unlink()
        for folder in reversed(folders):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _make_folders(folder: Path, made: list[Path]) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent, made)
    folder.mkdir()
    made.append(folder)


def _write(path: Path, entry: Entry, root: Path, written: list[Path]) -> None:
    if entry.target is not None:
        path.symlink_to(entry.target)
        written.append(path)
        return
    with path.open("xb") as stream:
        written.append(path)
        stream.write(entry.content or b"")
    mode = _read_only_mode(root) if entry.read_only else entry.mode
    if mode is not None:
        path.chmod(mode)


def _read_only_mode(root: Path) -> int:
    """0o400, and 0o040 and 0o004 for those who may enter ``root``."""
    enter = root.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH)
    return stat.S_IRUSR | enter << 2
