"""A file while it is being copied: written in pieces by many threads, read back behind them by one.

It grows under a temporary name in the directory of its final one. What a killed run wrote is used: each piece
is compared with the original, which is read anyway for its digest, and only different ones are written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from blake3 import blake3

from zitcache.cache.cutting import Piece
from zitcache.errors import Interrupted, from_os_error
from zitcache.machine import libc
from zitcache.machine.files import drop_cached, is_resident, pread_into, pwrite_all, start_writeback
from zitcache.tasks.migrate.listing import Entry
from zitcache.tasks.migrate.names import part_name

BLOCK = 4096
"""What offsets, lengths and memory are multiples of for ``O_DIRECT``: enough for every disk in use."""

_O_DIRECT = getattr(os, "O_DIRECT", 0)
_SECTOR = 512  # what st_blocks counts
_REFUSALS = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS}
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM}


class Part:
    """The copy of ``entry`` below ``root``, open. ``resumed_bytes``: were there already, and right.

    ``stopped``: asked while waiting, whether to give up. Raises ``OSError``.
    """

    def __init__(self, root: Path, entry: Entry, stopped: Callable[[], bool]) -> None:
        self.entry = entry
        self.final = root / entry.path
        self.path = self.final.with_name(part_name(entry.path))
        self.resumed_bytes = 0
        self.from_memory = False
        self._stopped = stopped
        self._written: set[int] = set()
        self._digest: str | None = None
        self._state = threading.Condition()
        self._compare = False
        self._direct = -1
        self._fd = _open(self.path)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def is_direct(self) -> bool:
        """Whether its bytes go to the disk past the page cache."""
        return self._direct >= 0

    # -- writing: any thread --------------------------------------------------------------------------

    def write(self, index: int, piece: Piece, data: memoryview, scratch: memoryview) -> None:
        """Write piece ``index``, unless it is there. ``scratch``: as much memory, to compare with."""
        if self._compare and self._holds(piece, data, scratch):
            with self._state:
                self.resumed_bytes += piece.length
        else:
            self._write(piece, data)
        with self._state:
            self._written.add(index)
            self._state.notify_all()

    def complete(self, digest: str) -> None:
        """The original was read to its end, unchanged, and has this BLAKE3."""
        with self._state:
            self._digest = digest
            self._state.notify_all()

    # -- reading back: one thread ---------------------------------------------------------------------

    def read_back(self, pieces: tuple[Piece, ...], buffer: memoryview) -> bool:
        """Read the copy from the disk while it is written; returns whether its BLAKE3 is the original's.

        It is then durable, under its temporary name. Raises ``Interrupted`` when ``stopped`` says so.
        """
        hasher = blake3()
        read = self._reader()
        try:
            # The last piece has the end of the file, which cannot be written directly: after the fsync.
            early = len(pieces) - 1 if self.is_direct and read is not None else 0
            for index in range(early):
                self._wait(partial(self._written.__contains__, index))
                self._read(read, pieces[index], buffer, hasher)
            self._wait(lambda: self._digest is not None)
            self._settle()
            self.from_memory = read is None and is_resident(self._fd, self.entry.size)
            for index in range(early, len(pieces)):
                self._read(read, pieces[index], buffer, hasher)
        finally:
            if read is not None:
                os.close(read)
        return hasher.hexdigest() == self._digest

    @property
    def fd(self) -> int:
        """The open file."""
        return self._fd

    @property
    def digest(self) -> str:
        """The BLAKE3 of the original."""
        assert self._digest is not None
        return self._digest

    def discard(self) -> None:
        """Remove what was written: it must not be used again."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file, and leave it as it is."""
        for fd in (self._fd, self._direct):
            if fd >= 0:
                os.close(fd)
        self._fd = self._direct = -1

    # -- within ---------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        size = self.entry.size
        found = os.fstat(self._fd)
        self._compare = found.st_size > 0 and found.st_blocks > 0
        if found.st_size > size:
            os.ftruncate(self._fd, size)
        if found.st_blocks * _SECTOR < size:
            # Not again where it is reserved: XFS wants the whole length to be free once more.
            reserve(self._fd, size)
        if self._compare:
            drop_cached(self._fd, 0, 0)
        if _O_DIRECT and size >= BLOCK:
            with contextlib.suppress(OSError):
                self._direct = os.open(self.path, os.O_WRONLY | _O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _holds(self, piece: Piece, data: memoryview, scratch: memoryview) -> bool:
        """Whether the piece is on the disk already. What was only reserved has no data there."""
        try:
            first = os.lseek(self._fd, piece.offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False
            first = piece.offset  # this file system does not know
        if first >= piece.offset + piece.length:
            return False
        found = scratch[: piece.length]
        got = pread_into(self._fd, found, piece.offset)
        drop_cached(self._fd, piece.offset, piece.length)
        return got == piece.length and same_bytes(found, data)

    def _write(self, piece: Piece, data: memoryview) -> None:
        whole = piece.length // BLOCK * BLOCK if self.is_direct and piece.offset % BLOCK == 0 else 0
        if whole:
            try:
                pwrite_all(self._direct, data[:whole], piece.offset)
            except OSError as error:
                # Some file systems accept the flag and refuse the write, or the rest of a partial one.
                if error.errno not in _REFUSALS:
                    raise
                whole = 0
        if whole < piece.length:
            pwrite_all(self._fd, data[whole:], piece.offset + whole)
            if not self.is_direct:
                start_writeback(self._fd, piece.offset, piece.length)

    def _reader(self) -> int | None:
        try:
            return os.open(self.path, os.O_RDONLY | _O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None

    def _read(self, direct: int | None, piece: Piece, buffer: memoryview, hasher: blake3) -> None:
        if self._stopped():
            raise Interrupted
        view = buffer[: -(-piece.length // BLOCK) * BLOCK]
        got = -1
        if direct is not None:
            with contextlib.suppress(OSError):
                got = min(_read_direct(direct, view, piece.offset), piece.length)
        if got != piece.length:
            got = pread_into(self._fd, buffer[: piece.length], piece.offset)
            drop_cached(self._fd, piece.offset, piece.length)
        hasher.update(buffer[:got])

    def _settle(self) -> None:
        """Bring everything to the disk, and out of memory. A failed fsync is never tried again."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            self.discard()
            raise from_os_error(error, f"writing {self.final} to the disk") from error
        drop_cached(self._fd, 0, 0)

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self._state:
            while not ready():
                if self._stopped():
                    raise Interrupted
                self._state.wait(0.2)


def reserve(fd: int, size: int) -> None:
    """Make the file ``size`` bytes long with its disk space reserved, where that can be done.

    Raises ``OSError`` (ENOSPC, EDQUOT, EFBIG). Unlike ``posix_fallocate`` it never writes zeros instead.
    """
    if not size:
        return
    number = libc.reserve(fd, 0, size)
    if number == 0:
        # With its final length from the start, direct writes need not take turns to extend it.
        os.ftruncate(fd, size)
    elif number not in _CANNOT_RESERVE:
        raise OSError(number, os.strerror(number))


def same_bytes(a: memoryview, b: memoryview) -> bool:
    """Whether two runs of bytes of one length are equal; fast, and without the interpreter's lock."""
    import numpy as np

    whole = len(a) // 8 * 8
    if whole:
        first, second = np.frombuffer(a[:whole], np.uint64), np.frombuffer(b[:whole], np.uint64)
        if not np.array_equal(first, second):
            return False
    return bytes(a[whole:]) == bytes(b[whole:])


def _open(path: Path) -> int:
    """Open a part, new or of an earlier run. Anything else of that name is replaced."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = -1
    try:
        fd = os.open(path, flags, 0o600)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return fd
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES):
            raise
    if fd >= 0:
        os.close(fd)
    path.unlink(missing_ok=True)
    return os.open(path, flags | os.O_EXCL, 0o600)


def _read_direct(fd: int, view: memoryview, offset: int) -> int:
    done = 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], offset + done)
        done += count
        if count == 0 or count % BLOCK:
            break  # the end of the file
    return done
