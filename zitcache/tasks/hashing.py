"""Digests of whole files whose pieces arrive from many threads, out of order.

BLAKE3 and SHA-256 of a file must see its bytes in order, but nobody should wait for that: whoever brings
the piece that is next hashes it, and any that wait behind it; everyone else goes on with other work.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from zitcache.tasks.buffers import Lease


@dataclass(frozen=True, slots=True)
class Digests:
    """Hex digests of a whole file; ``sha256`` only if it was asked for."""

    blake3: str
    sha256: str | None


class _Chain:
    """One hash of one file. ``offer`` may be called for each piece by any thread, in any order."""

    def __init__(self, update: Callable[[memoryview], object]) -> None:
        self._update = update
        self._waiting: dict[int, Lease] = {}
        self._next = 0
        self._busy = False
        self._lock = threading.Lock()

    def offer(self, index: int, lease: Lease) -> int:
        """Take over one hold of ``lease``; returns how many pieces were hashed and released by this call."""
        with self._lock:
            self._waiting[index] = lease
            if self._busy:
                return 0
            self._busy = True
        done = 0
        while True:
            with self._lock:
                ready = self._waiting.pop(self._next, None)
                if ready is None:
                    self._busy = False
                    return done
                self._next += 1
            self._update(ready.view)
            ready.release()
            done += 1


class FileHasher:
    """BLAKE3, and SHA-256 if wanted, of one file. Each is a chain of its own, so two threads can share."""

    def __init__(self, *, sha256: bool) -> None:
        self._blake3 = blake3()
        self._sha256 = hashlib.sha256() if sha256 else None
        self._chains = [_Chain(self._blake3.update)]
        if self._sha256 is not None:
            self._chains.append(_Chain(self._sha256.update))

    @property
    def holds(self) -> int:
        """How many holders of a lease one :meth:`offer` consumes."""
        return len(self._chains)

    def offer(self, index: int, lease: Lease) -> int:
        """Bring piece ``index``; returns how many (piece, hash) steps this call finished."""
        return sum(chain.offer(index, lease) for chain in self._chains)

    def digests(self) -> Digests:
        """The digests, once every piece of every chain is done."""
        return Digests(self._blake3.hexdigest(), self._sha256.hexdigest() if self._sha256 else None)
