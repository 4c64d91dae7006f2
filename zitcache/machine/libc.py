"""System calls that Python has no function for, through the C library (loaded at first use)."""

from __future__ import annotations

import errno
import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_FALLOC_FL_KEEP_SIZE = 1
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "loongarch64": 276, "ppc64le": 357, "s390x": 347}
_CACHESTAT = 451  # the same number on all of these; Linux 6.5 and later


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def renameat2(a: str | os.PathLike[str], b: str | os.PathLike[str], flags: int) -> int:
    """``renameat2(2)``: 0 or the errno. Called by number where the C library has no wrapper."""
    import ctypes

    library = _library()
    arguments = (
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(a)),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(b)),
        ctypes.c_uint(flags),
    )
    if hasattr(library, "renameat2"):
        result = library.renameat2(*arguments)
    elif os.uname().machine in _RENAMEAT2:
        result = library.syscall(ctypes.c_long(_RENAMEAT2[os.uname().machine]), *arguments)
    else:
        return errno.ENOSYS
    return 0 if result == 0 else ctypes.get_errno()


def cached_pages(fd: int, size: int) -> int | None:
    """How many pages of the first ``size`` bytes are in the page cache; None where the kernel cannot tell."""
    import ctypes

    if sys.platform != "linux" or os.uname().machine not in _RENAMEAT2:
        return None
    span = (ctypes.c_uint64 * 2)(0, size)
    # struct cachestat: cached, dirty, writeback, evicted, recently evicted
    counts = (ctypes.c_uint64 * 5)()
    number = ctypes.c_long(_CACHESTAT)
    result = _library().syscall(
        number, ctypes.c_int(fd), ctypes.byref(span), ctypes.byref(counts), ctypes.c_uint(0)
    )
    return int(counts[0]) if result == 0 else None


def reserve(fd: int, offset: int, length: int) -> int:
    """``fallocate(2)`` beyond the end of the file, whose length stays: 0 or the errno.

    Unlike ``posix_fallocate``, it does not write zeros where the file system cannot reserve: EOPNOTSUPP.
    """
    import ctypes

    library = _library()
    function = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if function is None:
        return errno.ENOSYS
    result = function(
        ctypes.c_int(fd), ctypes.c_int(_FALLOC_FL_KEEP_SIZE), ctypes.c_int64(offset), ctypes.c_int64(length)
    )
    return 0 if result == 0 else ctypes.get_errno()


def start_writeback(fd: int, offset: int, length: int) -> None:
    """``sync_file_range(2)`` with ``SYNC_FILE_RANGE_WRITE``: begin writing dirty pages, wait for nothing."""
    import ctypes

    library = _library()
    if hasattr(library, "sync_file_range"):
        arguments = (ctypes.c_int(fd), ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(2))
        library.sync_file_range(*arguments)


def sync_file_system(fd: int) -> None:
    """``syncfs(2)``: everything written to the file system of ``fd`` is on the disk. Raises ``OSError``."""
    import ctypes

    library = _library()
    if not hasattr(library, "syncfs"):
        os.sync()
        return
    if library.syncfs(ctypes.c_int(fd)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
