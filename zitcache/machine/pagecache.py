"""The kernel's page cache: what of a file is in it, and leaving it as it was found."""

from __future__ import annotations

import contextlib
import os

from zitcache.machine import libc

_SAMPLES = 16
_MOSTLY = 0.75


def drop_cached(fd: int, offset: int, length: int) -> None:
    """Let go of the cached pages of ``length`` bytes from ``offset`` (0: to the end). Errors are ignored.

    Pages not yet written to the disk stay: call it after ``fsync``.
    """
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing these dirty bytes now, so that a later ``fsync`` finds little to do.

    A hint, not a promise of durability: errors are ignored, ``fsync`` reports them.
    """
    libc.start_writeback(fd, offset, length)


def advise_sequential(fd: int) -> None:
    """Ask for a larger read-ahead. Errors are ignored."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def is_resident(fd: int, size: int) -> bool:
    """Whether the first ``size`` bytes of the file are mostly (3/4) in the page cache already.

    Asked before reading, it tells whether to :func:`drop_cached` afterwards: a warm cache stays warm, and a
    cold file does not push out others. Exact where the kernel has ``cachestat`` (6.5); else 16 bytes are
    sampled with ``RWF_NOWAIT``. False where neither works.
    """
    if size <= 0:
        return False
    pages = libc.cached_pages(fd, size)
    if pages is None:
        return _sampled_as_resident(fd, size)
    return pages >= _MOSTLY * -(-size // os.sysconf("SC_PAGE_SIZE"))


def _sampled_as_resident(fd: int, size: int) -> bool:
    """Sample one byte in each sixteenth of the file without waiting for the disk.

    At random places, because a miss may start a read-ahead: the same places would look resident next time.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    byte = bytearray(1)
    hits = 0
    for index in range(_SAMPLES):
        start, end = size * index // _SAMPLES, size * (index + 1) // _SAMPLES
        offset = start + int.from_bytes(os.urandom(8), "little") % max(end - start, 1)
        try:
            hits += os.preadv(fd, [byte], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            continue
        except OSError:
            return False
    return hits >= _MOSTLY * _SAMPLES
