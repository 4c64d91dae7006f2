"""Copies that share their blocks with the original (reflinks), on file systems that can: XFS, Btrfs, …

Source: ``ioctl_ficlone(2)``.
"""

from __future__ import annotations

import errno
import fcntl
import os

_FICLONE = 0x40049409
_FICLONE_OTHER = 0x80049409
"""The same request where the kernel numbers directions differently (PowerPC, MIPS, SPARC, Alpha)."""

_CANNOT = {
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EXDEV,
    errno.EINVAL,
    errno.EPERM,
    errno.ETXTBSY,
}


def clone_file(source_fd: int, target_fd: int) -> bool:
    """Make the whole content of the open ``target_fd`` that of ``source_fd``, sharing the blocks.

    Takes milliseconds at any size, and nothing is copied: it is no backup of a failing disk. False, and the
    target as it was, where the file system cannot (other disk, ext4, a swap file). Raises ``OSError``
    otherwise (ENOSPC, EDQUOT, EIO, EBADF).
    """
    try:
        fcntl.ioctl(target_fd, _request(), source_fd)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _request() -> int:
    other = os.uname().machine.startswith(("ppc", "mips", "sparc", "alpha"))
    return _FICLONE_OTHER if other else _FICLONE
