"""Is there room for so many bytes and names: what the disk says, and what a quota says only when it must pay.

``statvfs`` knows nothing of most quotas (users, groups, Btrfs qgroups, many network servers). So the room is
reserved for a moment and given back: ``fallocate`` takes milliseconds and charges the quota. The reservation
has no name, so that nothing is left behind if the process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zitcache.errors import NoSpace, ZitcacheError, from_os_error
from zitcache.machine import libc
from zitcache.machine.mounts import FreeSpace, free_space, mount_of
from zitcache.machine.raw import write_all
from zitcache.machine.trees import nearest_existing, remove_tree, temporary_name

WRITTEN_PROBE_BYTES = 8 << 20
"""Where nothing can be reserved, so much is really written and synced: it meets a quota that is used up."""

_STEP_BYTES = 1 << 30
_PROBE_SECONDS = 2.0
_PROBE_NAMES = 64
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EFBIG}
_NO_NAMELESS_FILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS}


def require_room(directory: str | os.PathLike[str], size_bytes: int, names: int = 1) -> FreeSpace:
    """Make sure that ``size_bytes`` more bytes and ``names`` more files fit where ``directory`` (will) lie.

    Returns what is free. Raises :class:`NoSpace` with what is short (bytes, inodes or a quota), and what
    :func:`~zitcache.errors.from_os_error` says where nothing can be written. Nothing is left behind.
    """
    try:
        place = nearest_existing(directory)
        free = free_space(place)
        if free.bytes_free < size_bytes:
            raise NoSpace(
                f"{directory} needs {amount(size_bytes)}; its disk has {amount(free.bytes_free)} free.",
                hint=f"Free some space, or choose another disk. See: df -h {place}",
            )
        if free.inodes_free is not None and free.inodes_free < names:
            raise NoSpace(
                f"{directory} needs {names} inodes; its disk has {free.inodes_free} left.",
                hint=f"Remove small files, or choose another disk. See: df -i {place}",
            )
        _pay_names(place, min(names, _PROBE_NAMES))
        _pay_bytes(place, size_bytes)
    except OSError as error:
        raise _refusal(error, directory, size_bytes) from error
    return free


def amount(size_bytes: int) -> str:
    """``32.85 GB``, ``4.10 MB``."""
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.2f} MB"


def _refusal(error: OSError, directory: str | os.PathLike[str], size_bytes: int) -> ZitcacheError:
    if error.errno == errno.EDQUOT:
        return NoSpace(
            f"A quota does not allow {amount(size_bytes)} more in {directory}, whatever the disk has free.",
            hint="See your quota with: quota -s; or choose another disk.",
        )
    return from_os_error(error, f"trying whether {amount(size_bytes)} fit in {directory}")


def _pay_names(place: Path, names: int) -> None:
    """Create so many empty files and remove them: quotas count inodes, too. Raises ``OSError``."""
    folder = place / temporary_name()
    folder.mkdir(mode=0o700)
    try:
        for number in range(names):
            (folder / str(number)).touch(mode=0o600)
    finally:
        with contextlib.suppress(OSError):
            remove_tree(folder)


def _pay_bytes(place: Path, size_bytes: int) -> None:
    """Reserve ``size_bytes`` for a moment. Raises ``OSError`` ENOSPC or EDQUOT.

    In memory (tmpfs) a reservation takes real memory, and ``statvfs`` knows the limit: nothing is tried.
    """
    if size_bytes <= 0 or mount_of(place).is_memory:
        return
    deadline = time.monotonic() + _PROBE_SECONDS
    with _nameless_file(place) as fd:
        done = 0
        while done < size_bytes and time.monotonic() < deadline:
            step = min(_STEP_BYTES, size_bytes - done)
            number = libc.reserve(fd, done, step)
            if number in _CANNOT_RESERVE:
                if done == 0:
                    write_all(fd, bytes(min(size_bytes, WRITTEN_PROBE_BYTES)))
                    os.fsync(fd)  # NFS and others count only when the bytes arrive
                return
            if number not in (0, errno.EINTR):
                raise OSError(number, os.strerror(number), str(place))
            if number == 0:
                done += step


@contextmanager
def _nameless_file(place: Path) -> Iterator[int]:
    try:
        fd = os.open(place, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_NAMELESS_FILE:
            raise
        name = place / temporary_name()
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):
            name.unlink()
    try:
        yield fd
    finally:
        os.close(fd)
