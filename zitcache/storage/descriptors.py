"""A bounded set of open files, shared by threads: a pack is read many times by many of them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.machine.files import advise_sequential, is_resident

LARGE_BYTES = 8 << 20
"""Files from this size on are kept open, and their pages leave the page cache unless they were in it."""


@dataclass(slots=True, eq=False)
class OpenFile:
    """An open file. ``size`` in bytes; ``drop``: whether to drop what is read of it from the page cache."""

    fd: int
    size: int
    drop: bool
    _users: int = field(default=0, repr=False)
    _kept: bool = field(default=False, repr=False)


class Descriptors:
    """Opens files for reading and keeps the last ``limit`` large ones open.

    Only large files, because those are packs, which never change; a small one may be deleted by another
    process and made anew under the same name.
    """

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._files: OrderedDict[Path, OpenFile] = OrderedDict()

    @contextmanager
    def reading(self, path: Path) -> Iterator[OpenFile]:
        """The open file, which stays open at least as long as the ``with`` block. Raises ``OSError``."""
        file = self._borrow(path)
        try:
            yield file
        finally:
            self._give_back(file)

    def forget(self, path: Path) -> None:
        """The file was removed or replaced: do not use this descriptor for new readers."""
        with self._lock:
            file = self._files.pop(path, None)
            if file is not None:
                self._drop(file)

    def close(self) -> None:
        """Close what nobody is reading now, and the rest as soon as its readers are done."""
        with self._lock:
            while self._files:
                self._drop(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def _borrow(self, path: Path) -> OpenFile:
        with self._lock:
            file = self._files.get(path)
            if file is not None:
                self._files.move_to_end(path)
                file._users += 1
                return file
        # Outside the lock: opening on a network file system takes its time. Two threads may both do it.
        file = _open(path)
        file._users = 1
        with self._lock:
            if file.size >= LARGE_BYTES and path not in self._files:
                file._kept = True
                self._files[path] = file
                if len(self._files) > self._limit:
                    self._drop(self._files.popitem(last=False)[1])
        return file

    def _give_back(self, file: OpenFile) -> None:
        with self._lock:
            file._users -= 1
            if file._users == 0 and not file._kept:
                os.close(file.fd)

    def _drop(self, file: OpenFile) -> None:
        """Called with the lock held, once for a file that was just taken out."""
        file._kept = False
        if file._users == 0:
            os.close(file.fd)


def _open(path: Path) -> OpenFile:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        is_large = size >= LARGE_BYTES
        # Asked before the first read, which would change the answer.
        drop = is_large and not is_resident(fd, size)
        if is_large:
            advise_sequential(fd)
        return OpenFile(fd, size, drop)
    except BaseException:
        os.close(fd)
        raise
