"""A few mebibytes kept in reserve on a local disk, so that deleting works on a full one.

Forgetting and pruning write small notes before anything is removed. On a full disk they could not; then the
file ``reserve`` is given up first. It is made by ``init`` and ``backup``, and again when there is room.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from zitcache.errors import NoSpace, ObjectNotFound, ZitcacheError
from zitcache.storage.protocol import Buffer, ObjectInfo, ObjectWriter, Storage

RESERVE_NAME = "reserve"
RESERVE_SIZE = 4 << 20
_SMALLEST = 64 << 10
_SHARE_OF_DISK = 64
"""At most this part of the disk, so that the reserve of a tiny one does not fill it."""

ResultT = TypeVar("ResultT")


def keep_reserve(storage: Storage) -> bool:
    """Make the reserve if it is missing, as large as it may be where half of the room stays; never fails."""
    place = storage.location
    if "://" in place:
        return False
    with contextlib.suppress(ZitcacheError, OSError):
        disk = os.statvfs(place)
        size = min(RESERVE_SIZE, disk.f_blocks * disk.f_frsize // _SHARE_OF_DISK)
        while size >= _SMALLEST and disk.f_bavail * disk.f_frsize < 2 * size:
            size //= 2
        if size < _SMALLEST or has_reserve(storage):
            return False
        # Random bytes: a file system that compresses would keep nothing in reserve for zeros.
        return storage.create(RESERVE_NAME, os.urandom(size))
    return False


def has_reserve(storage: Storage) -> bool:
    """Whether there is a reserve now."""
    try:
        storage.info(RESERVE_NAME)
    except ObjectNotFound:
        return False
    return True


class ReserveStorage:
    """``inner``, for tasks that delete: a small write that finds no room gives the reserve up, and goes on.

    ``was_used``: whether that happened.
    """

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.was_used = False

    @property
    def location(self) -> str:
        """See :class:`Storage`."""
        return self.inner.location

    @property
    def is_remote(self) -> bool:
        """See :class:`Storage`."""
        return self.inner.is_remote

    @property
    def concurrency(self) -> int:
        """See :class:`Storage`."""
        return self.inner.concurrency

    def store(self, name: str, data: Buffer) -> None:
        """See :meth:`Storage.store`."""
        self._with_reserve(lambda: self.inner.store(name, data))

    def create(self, name: str, data: Buffer) -> bool:
        """See :meth:`Storage.create`."""
        return self._with_reserve(lambda: self.inner.create(name, data))

    def writer(self) -> ObjectWriter:
        """See :meth:`Storage.writer`. Packs do not live on the reserve."""
        return self.inner.writer()

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.load`."""
        return self.inner.load(name, offset, length)

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """See :meth:`Storage.load_into`."""
        self.inner.load_into(name, offset, buffer)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`."""
        return self.inner.list(prefix)

    def info(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.info`."""
        return self.inner.info(name)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        self.inner.delete(name)

    def _with_reserve(self, write: Callable[[], ResultT]) -> ResultT:
        try:
            return write()
        except NoSpace:
            if not self._give_up_reserve():
                raise
            return write()

    def _give_up_reserve(self) -> bool:
        try:
            self.inner.info(RESERVE_NAME)
        except ZitcacheError:
            return False
        self.inner.delete(RESERVE_NAME)
        self.was_used = True
        return True
