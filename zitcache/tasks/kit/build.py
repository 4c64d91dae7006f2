"""Make the part of a kit for this Python: copied beside its place, made durable, swapped in with one rename.

Killed or out of space at any moment, the part that was there is whole and in its place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from zitcache import __version__
from zitcache.errors import Locked, NoSpace, UsageError
from zitcache.events import Session
from zitcache.machine.files import (
    TEMPORARY_PREFIX,
    exchange,
    remove_tree,
    sync_directory,
    temporary_name,
    write_all,
)
from zitcache.machine.libc import sync_file_system
from zitcache.machine.mounts import free_space
from zitcache.tasks.kit.layout import (
    LIBRARY,
    LOCK,
    MANIFEST,
    RUNNER,
    KitManifest,
    python_tag,
)
from zitcache.tasks.kit.sources import Sources

_COPY_BYTES = 1 << 20
_ROOM_FACTOR = 1.1
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextlib.contextmanager
def locked(kit: Path) -> Iterator[None]:
    """Make the folder, keep other builders out, and remove what killed ones left. Raises :class:`Locked`."""
    _make_folder(kit)
    fd = os.open(kit / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise Locked(f"Another zitcache is writing the kit {kit}.") from None
            if error.errno not in _NO_LOCKS:
                raise
        for name in os.listdir(kit):
            if name.startswith(TEMPORARY_PREFIX):
                remove_tree(kit / name)
        yield
    finally:
        os.close(fd)


def build_part(kit: Path, sources: Sources, scripts: Mapping[str, bytes], session: Session) -> KitManifest:
    """Put the part for this Python into ``kit``, replacing an older one.

    ``scripts``: the shared files, whose digests the manifest keeps, and ``run.py``, which goes into the part.
    Raises ``OSError``, :class:`NoSpace` before anything is written, and :class:`UsageError` where packages
    that zitcache needs are not installed.
    """
    if sources.missing:
        raise UsageError(
            f"These packages are not installed: {', '.join(sources.missing)}.",
            hint=f"Install them: pip install {' '.join(sources.missing)}",
        )
    _require_room(kit, sources)
    tag = python_tag()
    staged = kit / temporary_name()
    staged.mkdir(mode=0o755)
    try:
        files = _copy_all(staged, sources, session)
        files[RUNNER] = _write(staged / RUNNER, scripts[RUNNER])
        manifest = KitManifest(
            program=__version__,
            python=platform.python_version(),
            tag=tag,
            machine=os.uname().machine,
            libc=_libc(),
            time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            source=sources.fingerprint,
            source_path=str(sources.package),
            distributions=sources.distributions,
            files=files,
            scripts={
                name: (len(data), sha256(data).hexdigest())
                for name, data in scripts.items()
                if name != RUNNER
            },
        )
        _write(staged / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        _make_durable(staged)
        session.cancel.check()
        _swap(staged, kit / tag)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(staged)
        raise
    return manifest


def _require_room(kit: Path, sources: Sources) -> None:
    needed = sum(file.path.stat().st_size for file in sources.files)
    free = free_space(kit)
    if free.bytes_free < needed * _ROOM_FACTOR:
        raise NoSpace(
            f"The kit needs {needed / 1e6:.0f} MB; the disk of {kit} has {free.bytes_free / 1e6:.0f} MB left."
        )
    if free.inodes_free is not None and free.inodes_free < len(sources.files) * _ROOM_FACTOR:
        raise NoSpace(
            f"The kit needs {len(sources.files)} inodes; the disk of {kit} has {free.inodes_free} left."
        )


def _copy_all(staged: Path, sources: Sources, session: Session) -> dict[str, tuple[int, str]]:
    files: dict[str, tuple[int, str]] = {}
    made: set[Path] = set()
    for file in sources.files:
        session.cancel.check()
        name = f"{LIBRARY}/{file.name}"
        target = staged / name
        if target.parent not in made:
            _make_folder(target.parent)
            made.add(target.parent)
        files[name] = _copy(file.path, target)
    return files


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file; its size and SHA-256, taken from the bytes on their way."""
    digest, size = sha256(), 0
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with source.open("rb", buffering=0) as file:
            while data := file.read(_COPY_BYTES):
                write_all(fd, data)
                digest.update(data)
                size += len(data)
    finally:
        os.close(fd)
    return size, digest.hexdigest()


def _make_folder(folder: Path) -> None:
    """Whatever the umask is, nobody else may put a program into a kit."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o755, exist_ok=True)


def _write(target: Path, data: bytes) -> tuple[int, str]:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
    return _described(data)


def _described(data: bytes) -> tuple[int, str]:
    return len(data), sha256(data).hexdigest()


def _make_durable(staged: Path) -> None:
    """One ``syncfs`` for thousands of small files: an fsync for each takes minutes on a network disk."""
    fd = os.open(staged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(fd)
    finally:
        os.close(fd)


def _swap(staged: Path, part: Path) -> None:
    if not os.path.lexists(part):
        staged.rename(part)
    elif not exchange(staged, part):
        # No atomic swap on this file system: for a moment between two renames there is no part.
        old = part.with_name(temporary_name())
        part.rename(old)
        try:
            staged.rename(part)
        except OSError:
            old.rename(part)
            raise
        staged = old
    sync_directory(part.parent)
    with contextlib.suppress(OSError):
        remove_tree(staged)


def _libc() -> str:
    name, version = platform.libc_ver(sys.executable)
    return f"{name} {version}".strip() or "unknown"
