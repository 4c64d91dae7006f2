"""Buffers that are made once and shared: what bounds the memory of every pipeline.

A :class:`Lease` is held by everyone who still needs the bytes (an encoder, a file's hash) and goes back to
its pool when the last one lets go. Buffers begin at a page, as ``O_DIRECT`` asks for.
"""

from __future__ import annotations

import mmap
import threading

from zitcache.errors import Interrupted


def page_aligned(size_bytes: int) -> mmap.mmap:
    """Zeroed memory of this process that begins at a page, so that ``O_DIRECT`` takes it."""
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Lease:
    """``view``: the bytes, writable, valid until the last :meth:`release`."""

    __slots__ = ("_holders", "_lock", "_pool", "_whole", "view")

    def __init__(self, pool: BufferPool, whole: mmap.mmap, length: int, holders: int) -> None:
        self._pool = pool
        self._whole = whole
        self._holders = holders
        self._lock = threading.Lock()
        self.view = memoryview(whole)[:length]

    def release(self) -> None:
        """One holder lets go."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._pool.give_back(self._whole)


_LARGE_AT_ONCE = 2


class BufferPool:
    """At most ``count`` buffers of ``size`` bytes, made when first needed, and two of any larger size."""

    def __init__(self, count: int, size: int) -> None:
        self._free: list[mmap.mmap] = []
        self._unmade = count
        self._size = size
        self._large_left = _LARGE_AT_ONCE
        self._changed = threading.Condition()
        self._closed = False

    def lease(self, length: int, holders: int) -> Lease:
        """A buffer for ``holders`` users; waits for a free one. ``Interrupted`` after :meth:`close`."""
        if length > self._size:
            return Lease(self, self._make_large(length), length, holders)
        with self._changed:
            while not self._free and not self._unmade and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Interrupted
            if self._free:
                whole = self._free.pop()
            else:
                self._unmade -= 1
                whole = page_aligned(max(self._size, 1))
        return Lease(self, whole, length, holders)

    def _make_large(self, length: int) -> mmap.mmap:
        """For the rare piece that was cut by other rules than those the pool was made for."""
        with self._changed:
            self._changed.wait_for(lambda: self._large_left or self._closed)
            if self._closed:
                raise Interrupted
            self._large_left -= 1
        return page_aligned(length)

    def give_back(self, whole: mmap.mmap) -> None:
        """Called by the last holder of a lease."""
        with self._changed:
            if len(whole) > max(self._size, 1):
                self._large_left += 1
            else:
                self._free.append(whole)
            self._changed.notify_all()

    def close(self) -> None:
        """Wake everyone who waits: no more leases."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
