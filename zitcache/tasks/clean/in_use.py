"""Who uses a file at this moment: open descriptors, memory maps, and the locks of the download tools.

Only processes that ``/proc`` shows are seen: not those of another container or machine. Against those help
the locks, which the file system keeps, and the minimum age.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LOCK_MAX_BYTES = 1024
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_MAPS_FIELDS = 6


@dataclass(slots=True)
class OpenFiles:
    """What all processes that can be seen have open or mapped, and who they are."""

    inodes: dict[tuple[int, int], str] = field(default_factory=dict)
    mapped: dict[str, str] = field(default_factory=dict)
    _sorted: list[str] = field(default_factory=list)

    def user_of(self, path: str, inodes: Mapping[tuple[int, int], object]) -> str | None:
        """The process that uses ``path``, something below it, or one of ``inodes`` (device and number)."""
        # The smaller side decides how long this takes: a package cache has a million files.
        if len(inodes) <= len(self.inodes):
            found = next((self.inodes[key] for key in inodes if key in self.inodes), None)
        else:
            found = next((who for key, who in self.inodes.items() if key in inodes), None)
        if found is not None:
            return found
        # Maps name device numbers that Btrfs and overlayfs do not show elsewhere, so the path is compared.
        if path in self.mapped:
            return self.mapped[path]
        below = path.rstrip("/") + "/"
        place = bisect_left(self._sorted, below)
        if place < len(self._sorted) and self._sorted[place].startswith(below):
            return self.mapped[self._sorted[place]]
        return None


def open_files() -> OpenFiles:
    """Look at every process that ``/proc`` shows and lets us look at."""
    found = OpenFiles()
    try:
        processes = [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return found
    for process in processes:
        folder = f"/proc/{process}"
        keys = _descriptors(folder)
        maps = _maps(folder)
        if not (keys or maps):
            continue
        who = _who(folder, process)
        for key in keys:
            found.inodes.setdefault(key, who)
        for path in maps:
            found.mapped.setdefault(path, who)
    found._sorted = sorted(found.mapped)
    return found


def _descriptors(folder: str) -> list[tuple[int, int]]:
    keys = []
    try:
        names = os.listdir(f"{folder}/fd")
    except OSError:  # another user's, or it has ended
        return []
    for name in names:
        try:
            status = os.stat(f"{folder}/fd/{name}")
        except OSError:
            continue
        keys.append((status.st_dev, status.st_ino))
    return keys


def _maps(folder: str) -> set[str]:
    try:
        text = os.fsdecode(Path(folder, "maps").read_bytes())
    except OSError:
        return set()
    paths = set()
    for line in text.splitlines():
        fields = line.split(None, _MAPS_FIELDS - 1)
        if len(fields) == _MAPS_FIELDS and fields[5].startswith("/"):
            paths.add(fields[5].replace("\\012", "\n"))
    return paths


def _who(folder: str, process: str) -> str:
    try:
        name = Path(folder, "comm").read_text(errors="replace").strip()
    except OSError:
        name = "a process"
    return f"{name} ({process})"


def lock_holder(path: str) -> str | None:
    """Why the lock file ``path`` counts as held, as a clause; None if it does not.

    ``filelock`` (which both SDKs use) locks with flock(2), and where a file system has none, by the mere
    existence of a file that names process and host.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"its lock {path} cannot be looked at: {error.strerror or error}"
    try:
        return _try_lock(fd, path)
    finally:
        os.close(fd)


def _try_lock(fd: int, path: str) -> str | None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return f"somebody holds its lock {path}"
        if error.errno not in _NO_LOCKS:
            return f"its lock {path} cannot be looked at: {error.strerror or error}"
        return _soft_holder(_content(fd), path) or f"locks cannot be tested on this file system ({path})"
    return _soft_holder(_content(fd), path)


def _content(fd: int) -> list[str]:
    try:
        return os.pread(fd, _LOCK_MAX_BYTES, 0).decode("utf-8", "replace").split()
    except OSError:
        return []


def _soft_holder(words: list[str], path: str) -> str | None:
    """``filelock.SoftFileLock`` writes the process id and the host name."""
    if not words or not words[0].isdecimal() or len(words[0]) > 10:
        return None
    host = words[1] if len(words) > 1 else socket.gethostname()
    if host != socket.gethostname():
        return f"the machine {host} left its lock {path}"
    return f"process {words[0]} holds its lock {path}" if os.path.exists(f"/proc/{words[0]}") else None
