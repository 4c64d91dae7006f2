"""What the file system under a directory can do, found out by doing it in a folder of our own there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zitcache.machine.clone import clone_file
from zitcache.machine.mounts import mount_of
from zitcache.machine.renames import exchange
from zitcache.machine.trees import nearest_existing, remove_tree, temporary_name

_FAT = frozenset({"vfat", "msdos"})
_FAT_MAX_FILE_BYTES = (1 << 32) - 1
_MODE = 0o640


@dataclass(frozen=True, slots=True)
class Capabilities:
    """``exchange``: two directories swap names in one step. ``directory_fsync``: names can be made durable.

    ``noexec``: programs and libraries there cannot run. ``modes``: permissions are kept as they are set.
    ``locks``: ``flock`` works. ``case_sensitive``: ``A`` and ``a`` are two files. ``max_file_bytes``: the
    largest file that can be, None where that is no matter (FAT: 4 GiB; or the limit of this process).
    """

    symlink: bool
    hard_link: bool
    reflink: bool
    exchange: bool
    directory_fsync: bool
    noexec: bool
    modes: bool
    locks: bool
    case_sensitive: bool
    max_file_bytes: int | None


def probe(directory: str | os.PathLike[str]) -> Capabilities:
    """Try everything in ``directory``, or in its nearest parent that exists; nothing is left behind.

    What overlayfs can do with its own new directories it cannot do with those of a lower layer: ``exchange``
    there says nothing about directories that came with the image. Raises ``OSError`` where nothing can be
    written at all (EROFS, EACCES, ENOSPC).
    """
    existing = nearest_existing(directory)
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(existing))
    folder = existing / temporary_name()
    folder.mkdir(mode=0o700)
    try:
        (folder / "file").write_bytes(b"zitcache")
        return Capabilities(
            symlink=_works(lambda: _symlink(folder)),
            hard_link=_works(lambda: _hard_link(folder)),
            reflink=_works(lambda: _reflink(folder)),
            exchange=_works(lambda: _exchange(folder)),
            directory_fsync=_works(lambda: _sync(folder)),
            noexec=bool(os.statvfs(folder).f_flag & os.ST_NOEXEC),
            modes=_works(lambda: _keeps_modes(folder)),
            locks=_works(lambda: _locks(folder)),
            case_sensitive=not os.path.lexists(folder / "FILE"),
            max_file_bytes=_max_file_bytes(existing),
        )
    finally:
        with contextlib.suppress(OSError):
            remove_tree(folder)


def _works(trial: Callable[[], bool]) -> bool:
    try:
        return trial()
    except OSError:
        return False


def _symlink(folder: Path) -> bool:
    (folder / "link").symlink_to("file")
    return (folder / "link").readlink() == Path("file")


def _hard_link(folder: Path) -> bool:
    os.link(folder / "file", folder / "second name")
    return os.path.samestat(os.lstat(folder / "file"), os.lstat(folder / "second name"))


def _reflink(folder: Path) -> bool:
    with (folder / "file").open("rb") as source, (folder / "clone").open("wb") as target:
        return clone_file(source.fileno(), target.fileno())


def _exchange(folder: Path) -> bool:
    (folder / "a" / "in a").mkdir(parents=True)
    (folder / "b").mkdir()
    return exchange(folder / "a", folder / "b") and (folder / "b" / "in a").is_dir()


def _sync(folder: Path) -> bool:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


def _keeps_modes(folder: Path) -> bool:
    (folder / "file").chmod(_MODE)
    return stat.S_IMODE(os.lstat(folder / "file").st_mode) == _MODE


def _locks(folder: Path) -> bool:
    with (folder / "file").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def _max_file_bytes(directory: Path) -> int | None:
    limits: list[int] = []
    if mount_of(directory).fstype in _FAT:
        limits.append(_FAT_MAX_FILE_BYTES)
    own_limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if own_limit != resource.RLIM_INFINITY:
        limits.append(own_limit)
    return min(limits, default=None)
