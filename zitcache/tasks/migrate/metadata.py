"""Owner, mode, times and extended attributes, copied from one name to another."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from zitcache.events import Session
from zitcache.tasks.migrate.listing import Entry

_NO_ATTRIBUTES = {
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EACCES,
    errno.EINVAL,
    errno.ENOSPC,
    errno.E2BIG,
    errno.ERANGE,
    errno.ENODATA,
    errno.ENOENT,
    errno.ELOOP,
}
_NO_MODES = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Metadata:
    """Copies it, and says once what the file system of the target cannot keep."""

    def __init__(self, source: Path, session: Session) -> None:
        self._source = source
        self._session = session
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._as_root = os.geteuid() == 0

    def copy(self, entry: Entry, target: int | str) -> None:
        """Give ``target`` (an open file, or a path, no link) what ``entry`` has. Raises ``OSError``."""
        self._owner(entry, target)
        self._attributes(entry, target)
        try:
            os.chmod(target, entry.mode)
        except OSError as error:
            if error.errno not in _NO_MODES:
                raise
            self._say("modes-not-kept", "The target's file system does not keep permissions as they were.")
        self.times(entry, target)

    def times(self, entry: Entry, target: int | str) -> None:
        """The times alone: of a directory in which something was renamed."""
        os.utime(target, ns=(entry.identity.mtime_ns, entry.identity.mtime_ns))

    def copy_to_link(self, entry: Entry, target: str) -> None:
        """Owner and time of a symlink; what cannot be set is no matter: nobody reads them."""
        with contextlib.suppress(OSError):
            if self._as_root:
                os.chown(target, entry.uid, entry.gid, follow_symlinks=False)
        with contextlib.suppress(OSError, NotImplementedError):
            times = (entry.identity.mtime_ns, entry.identity.mtime_ns)
            os.utime(target, ns=times, follow_symlinks=False)

    def _owner(self, entry: Entry, target: int | str) -> None:
        if not self._as_root:
            return
        found = os.stat(target)
        if (found.st_uid, found.st_gid) == (entry.uid, entry.gid):
            return
        try:
            os.chown(target, entry.uid, entry.gid)
        except OSError as error:
            if error.errno not in _NO_MODES:
                raise
            self._say("owners-not-kept", "The target's file system does not keep owners as they were.")

    def _attributes(self, entry: Entry, target: int | str) -> None:
        path = os.path.join(self._source, entry.path)
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:
            return
        for name in names:
            self._attribute(path, name, target)

    def _attribute(self, path: str, name: str, target: int | str) -> None:
        try:
            os.setxattr(target, name, os.getxattr(path, name, follow_symlinks=False))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES:
                raise
            if name.startswith("user."):
                self._say(
                    "attributes-not-kept",
                    "The target's file system does not keep extended attributes as they were.",
                )

    def _say(self, code: str, message: str) -> None:
        with self._lock:
            new = code not in self._said
            self._said.add(code)
        if new:
            self._session.warn(code, message)
