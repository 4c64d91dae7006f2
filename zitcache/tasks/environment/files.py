"""Read and replace files that belong to the user or the system: durably, and as they were otherwise.

A symlink is followed (dotfiles kept by stow or chezmoi): what is replaced is the file it leads to. Owner,
mode and extended attributes stay. Raises ``OSError``; callers say which file and go on with the next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from zitcache.machine.files import PendingFile, pwrite_all, sync_directory

MAX_FILE_BYTES = 8 << 20
"""A settings file is smaller; a larger one is left alone."""

_IN_PLACE = {errno.EBUSY, errno.EXDEV}


def read_file(path: Path) -> bytes | None:
    """What is in the file; None when there is none. Raises ``OSError`` for what is no plain file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "It is not a plain file", os.fspath(path))
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"It is larger than {MAX_FILE_BYTES >> 20} MiB", os.fspath(path))
    return data


def is_read_only(path: Path) -> bool:
    """Whether somebody meant the existing file not to be changed: no write bit, or none for us."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not mode & 0o222 or not os.access(path, os.W_OK, effective_ids=True)


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, which exists or not; a new file gets the owner of its directory.

    One step where the system can: else (a file mounted on its own, hard links, a directory that we may not
    change) the bytes of the file are overwritten.
    """
    real = Path(os.path.realpath(path))
    try:
        status = real.stat()
    except FileNotFoundError:
        _create(real, data)
        return
    if status.st_nlink > 1:
        _overwrite(real, data)
        return
    try:
        _replace(real, data, status)
    except PermissionError:
        if not os.access(real, os.W_OK, effective_ids=True):
            raise
        _overwrite(real, data)
    except OSError as error:
        if error.errno not in _IN_PLACE:
            raise
        _overwrite(real, data)


def remove_file(path: Path) -> None:
    """Remove a file that was made for us, durably. A symlink stays; the file it leads to goes."""
    real = Path(os.path.realpath(path))
    real.unlink()
    sync_directory(real.parent)


def _create(real: Path, data: bytes) -> None:
    _make_directories(real.parent)
    owner = real.parent.stat()
    with PendingFile(real.parent, mode=0o644, size=len(data)) as pending:
        pending.write(data)
        os.fchmod(pending.fd, 0o644)
        _give(pending.fd, owner)
        pending.commit(real, replace=True)


def _replace(real: Path, data: bytes, status: os.stat_result) -> None:
    with PendingFile(real.parent, mode=0o600) as pending:
        pending.write(data)
        _give(pending.fd, status)
        if os.fstat(pending.fd).st_uid != status.st_uid:
            raise PermissionError(errno.EPERM, "Its owner would change", os.fspath(real))
        for name in _attributes(real):
            with contextlib.suppress(OSError):
                os.setxattr(pending.fd, name, os.getxattr(real, name))
        os.fchmod(pending.fd, stat.S_IMODE(status.st_mode))
        pending.commit(real, size=len(data), replace=True)


def _overwrite(real: Path, data: bytes) -> None:
    fd = os.open(real, os.O_WRONLY | os.O_CLOEXEC)
    try:
        pwrite_all(fd, data, 0)
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_directories(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o755)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _give(fd, directory.parent.stat())
        finally:
            os.close(fd)
        sync_directory(directory.parent)


def _give(fd: int, owner: os.stat_result) -> None:
    """Give the new file to ``owner``, as root can: otherwise it is ours anyway."""
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (owner.st_uid, owner.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(fd, owner.st_uid, owner.st_gid)


def _attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:
        return []
