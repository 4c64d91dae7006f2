"""The tree that is written: the same directory all the time, or nothing more is written.

A data disk may go away in the middle (``umount -l``, a lost mount). Its path then names an empty directory on
the system disk: writing on would fill the disk that must be left.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from zitcache.errors import Unreachable, from_os_error
from zitcache.machine import libc
from zitcache.machine.files import sync_directory


class Destination:
    """The existing directory ``path``, held open. Close it in the end. Raises ``OSError``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Opened before anything is written: syncfs reports failed writes since then.
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def check(self) -> None:
        """Raise :class:`Unreachable` if another directory has the path now, or none."""
        try:
            same = os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except FileNotFoundError:
            same = False
        except OSError as error:
            raise from_os_error(error, f"looking at {self.path}") from error
        if not same:
            raise Unreachable(
                f"The disk of {self.path} went away while it was being written. The cache is untouched.",
                hint="Mount it again, then run the same command: it goes on.",
            )

    def sync(self) -> None:
        """Everything written so far is on the disk, names included. Raises ``OSError``."""
        try:
            libc.sync_file_system(self.fd)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # a container may forbid it
                raise
            for folder, _, names in os.walk(self.path):
                for name in names:
                    _sync_file(os.path.join(folder, name))
                sync_directory(folder)

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.fd)


def _sync_file(path: str) -> None:
    if os.path.islink(path):
        return
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
