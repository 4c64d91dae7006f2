"""Directories as wholes: removing one, and what the file system under one can do."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

TEMPORARY_PREFIX = ".zitcache-tmp-"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def temporary_name(prefix: str = TEMPORARY_PREFIX) -> str:
    """A name that no other process or thread will choose: prefix, process id, 64 random bits."""
    return f"{prefix}{os.getpid()}-{os.urandom(8).hex()}"


def nearest_existing(path: str | os.PathLike[str]) -> Path:
    """``path`` with symlinks resolved, or its nearest parent that exists. Raises ``OSError``."""
    resolved = Path(os.path.realpath(path))
    for candidate in (resolved, *resolved.parents):
        try:
            os.lstat(candidate)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return candidate
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def device_of(path: str | os.PathLike[str]) -> int:
    """The device number (``st_dev``) on which ``path`` lies or would lie. Raises ``OSError``."""
    return nearest_existing(path).stat().st_dev


def can_hard_link(directory: str | os.PathLike[str]) -> bool:
    """Whether files in ``directory`` can have two names. Tries it; False too where nothing can be written."""
    first = Path(directory, temporary_name())
    second = Path(directory, temporary_name())
    try:
        os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.link(first, second)
        return os.lstat(first).st_ino == os.lstat(second).st_ino
    except OSError:
        return False
    finally:
        for name in (first, second):
            with contextlib.suppress(OSError):
                name.unlink()


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove ``path`` and everything in it; no error when it is already gone. Raises ``OSError``.

    Symlinks are removed, never followed, also if they appear while this runs. Directories without write
    permission are made writable first. A directory on which something else is mounted is an error (EXDEV):
    what is in it is not ours to remove.
    """
    target = Path(path)
    try:
        if not stat.S_ISDIR(target.lstat().st_mode):
            target.unlink()
            return
        parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _remove_directory(parent, target.name)
    finally:
        os.close(parent)


@dataclass(slots=True)
class _Level:
    """A directory on the way down: its name in the one above, which file it is, directories still in it."""

    name: str
    identity: tuple[int, int]
    folders: list[str]


def _remove_directory(parent: int, name: str) -> None:
    """Remove directory ``name`` of the open directory ``parent``.

    Without recursion, and with one descriptor at a time: a tree may be deeper than either allows. The way up
    is ``..``, checked to be where the way down came from.
    """
    device = os.stat(name, dir_fd=parent, follow_symlinks=False).st_dev
    current = _open_to_empty(parent, name, device)
    try:
        levels = [_unlink_files(current, name)]
        while levels:
            level = levels[-1]
            if level.folders:
                child = level.folders.pop()
                with contextlib.suppress(FileNotFoundError):
                    current = _replace(current, _open_to_empty(current, child, device))
                    levels.append(_unlink_files(current, child))
                continue
            levels.pop()
            if levels:
                current = _replace(current, os.open("..", _OPEN_DIRECTORY, dir_fd=current))
                if _identity(current) != levels[-1].identity:
                    raise OSError(
                        errno.EBUSY, "The directory was moved while it was being removed", level.name
                    )
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(level.name, dir_fd=current if levels else parent)
    finally:
        os.close(current)


def _unlink_files(fd: int, name: str) -> _Level:
    """Unlink everything in the open directory that is not a directory itself."""
    folders: list[str] = []
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for child, is_folder in found:
        if is_folder:
            folders.append(child)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(child, dir_fd=fd)
    return _Level(name, _identity(fd), folders)


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _open_to_empty(parent: int, name: str, device: int) -> int:
    """Open a directory that must lie on ``device``, in a state in which its entries can be removed."""
    handle = os.open(name, _OPEN_DIRECTORY | os.O_PATH, dir_fd=parent)
    try:
        found = os.fstat(handle)
        if found.st_dev != device:
            raise OSError(errno.EXDEV, "Another file system is mounted there", name)
        if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            # Through /proc, because chmod by name would follow a symlink put there meanwhile.
            Path(f"/proc/self/fd/{handle}").chmod(stat.S_IMODE(found.st_mode) | stat.S_IRWXU)
        return os.open(".", _OPEN_DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)
