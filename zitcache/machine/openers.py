"""Which processes are writing below a directory: its files open for writing, or mapped so. From ``/proc``.

A file is known by its path and by its device and inode, because a container or a bind mount sees it under
another path. Source: ``proc_pid_fd(5)``, ``proc_pid_fdinfo(5)``, ``proc_pid_maps(5)``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zitcache.machine.mounts import mount_of

PROC = Path("/proc")
_DELETED = " (deleted)"
_MAX_FILES = 200_000


@dataclass(frozen=True, slots=True)
class Opener:
    """A process that has ``path`` open for writing. ``name``: as in ``ps`` (at most 15 characters)."""

    pid: int
    name: str
    path: str


def writers_below(directory: str | os.PathLike[str]) -> list[Opener]:
    """Every other process with a file below ``directory`` (or that file itself) open for writing, by pid.

    Only what may be looked at: root sees all, others see their own processes (:func:`sees_everyone`).
    Processes that end meanwhile are passed over; nothing is raised.
    """
    place = os.path.realpath(directory)
    files = _identities(place)
    devices = {device for device, _ in files}
    with contextlib.suppress(OSError):
        devices.add(mount_of(place).device)  # that of the mount table, which Btrfs does not give to its files
    found: set[Opener] = set()
    for pid in _processes():
        if pid == os.getpid():
            continue
        paths = {*_open_for_writing(pid, place, files, devices), *_mapped_for_writing(pid, place, files)}
        if paths:
            name = _name(pid)
            found.update(Opener(pid, name, path) for path in paths)
    return sorted(found, key=lambda opener: (opener.pid, os.fsencode(opener.path)))


def sees_everyone() -> bool:
    """Whether :func:`writers_below` can look into the processes of all users."""
    return os.geteuid() == 0


def _identities(place: str) -> set[tuple[int, int]]:
    """Device and inode of ``place`` and every file below it. Bounded: a huge tree is known by paths alone."""
    found: set[tuple[int, int]] = set()
    pending = [place]
    with contextlib.suppress(OSError):
        status = os.lstat(place)
        found.add((status.st_dev, status.st_ino))
    while pending and len(found) < _MAX_FILES:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.add((status.st_dev, status.st_ino))
    return found


def _processes() -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(name) for name in os.listdir(PROC) if name.isdecimal())


def _open_for_writing(pid: int, place: str, files: set[tuple[int, int]], devices: set[int]) -> Iterator[str]:
    try:
        numbers = os.listdir(PROC / str(pid) / "fd")
    except OSError:  # gone, or another user's
        return
    mounted = _devices_by_mount(pid)
    for number in numbers:
        link = PROC / str(pid) / "fd" / number
        with contextlib.suppress(OSError, ValueError):
            path = os.readlink(link)
            if not path.startswith("/"):
                continue  # a socket or a pipe
            info = _fields((PROC / str(pid) / "fdinfo" / number).read_bytes())
            flags = int(info.get("flags", "0"), 8)
            if flags & os.O_ACCMODE == os.O_RDONLY or flags & os.O_PATH:
                continue
            # Asked only of disks that the directory is on: a dead network mount would not answer.
            elsewhere = mounted.get(info.get("mnt_id", ""), -1) not in devices
            if _is_below(path, place) or (not elsewhere and _identity(link) in files):
                yield path.removesuffix(_DELETED)


def _mapped_for_writing(pid: int, place: str, files: set[tuple[int, int]]) -> Iterator[str]:
    """A mapping outlives the descriptor it was made from: ``rw-s`` lines with a file."""
    with contextlib.suppress(OSError):
        for raw in (PROC / str(pid) / "maps").read_bytes().split(b"\n"):
            parts = os.fsdecode(raw).split(None, 5)
            if len(parts) < 6 or parts[1][1:2] != "w" or parts[1][3:4] != "s":
                continue
            major, _, minor = parts[3].partition(":")
            path = parts[5].replace("\\012", "\n")
            with contextlib.suppress(ValueError):
                identity = (os.makedev(int(major, 16), int(minor, 16)), int(parts[4]))
                if _is_below(path, place) or identity in files:
                    yield path.removesuffix(_DELETED)


def _devices_by_mount(pid: int) -> dict[str, int]:
    """Mount id -> device number, in that process's own view."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in (PROC / str(pid) / "mountinfo").read_bytes().split(b"\n"):
            fields = line.split(b" ", 3)
            if len(fields) == 4:
                major, _, minor = fields[2].partition(b":")
                found[fields[0].decode()] = os.makedev(int(major), int(minor))
    return found


def _fields(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode("ascii", "replace").splitlines())
    return {key: value.strip() for key, _, value in pairs}


def _identity(link: Path) -> tuple[int, int]:
    status = link.stat()
    return status.st_dev, status.st_ino


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _name(pid: int) -> str:
    try:
        return os.fsdecode((PROC / str(pid) / "comm").read_bytes()).rstrip("\n")
    except OSError:
        return "?"
