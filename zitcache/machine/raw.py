"""Whole reads and writes on file descriptors: loops that never return after a part of the work."""

from __future__ import annotations

import errno
import os
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


def _as_bytes(buffer: Buffer) -> memoryview:
    """``buffer`` seen as a flat run of bytes, without a copy."""
    view = memoryview(buffer)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def write_all(fd: int, buffer: Buffer) -> None:
    """Write all of ``buffer`` at the descriptor's position. Raises ``OSError``."""
    view = _as_bytes(buffer)
    while view.nbytes:
        written = os.write(fd, view)
        if written <= 0:
            raise OSError(errno.EIO, "The system wrote nothing and gave no reason")
        view = view[written:]


def pwrite_all(fd: int, buffer: Buffer, offset: int) -> None:
    """Write all of ``buffer`` at byte ``offset``; the descriptor's position stays. Raises ``OSError``."""
    view = _as_bytes(buffer)
    while view.nbytes:
        written = os.pwrite(fd, view, offset)
        if written <= 0:
            raise OSError(errno.EIO, "The system wrote nothing and gave no reason")
        view = view[written:]
        offset += written


def pread_into(fd: int, buffer: memoryview | bytearray, offset: int) -> int:
    """Fill ``buffer`` from byte ``offset``. Returns the bytes read: fewer only at the end of the file."""
    view = _as_bytes(buffer)
    done = 0
    while done < view.nbytes:
        count = os.preadv(fd, [view[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def preallocate(fd: int, size: int) -> None:
    """Reserve ``size`` bytes of disk for the file, so that a full disk shows before anything is written.

    Does nothing where the file system cannot (NFS before 4.2, FUSE). Raises ``OSError`` ENOSPC, EFBIG,
    EDQUOT and the like.
    """
    if size <= 0:
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            raise


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make the names in directory ``path`` durable. Raises ``OSError``.

    EINVAL alone is tolerated: it means that this file system has no such call (some FUSE and CIFS).
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)
