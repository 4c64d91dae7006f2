"""One lock, for pruning: so that two machines do not do the same work at once.

Nothing that is stored depends on it. What protects snapshots from a sweep is the order of notes described in
docs/FORMAT.md, "Deleting", which holds with two sweepers, and with one that wakes up after its lock expired.

A lock is an object of its own in ``locks/``. Whoever wants it writes one and then lists the folder: if there
is another that has not expired, one's own is removed again. Two that begin in the same moment may both give
up, but never both go on. This needs no conditional write, only a listing that shows what was written.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from types import TracebackType
from typing import Literal

import msgspec

from zitcache.errors import IntegrityError, Locked, ObjectNotFound, ZitcacheError
from zitcache.repository.marks import Nonce, nonce, now
from zitcache.repository.repository import Repository

LOCK_FOLDER = "locks"
EXPIRES_SECONDS = 1800
"""A lock that was not renewed for this long, by the storage's clock, is that of a process that died."""
RENEW_SECONDS = 300
_TRIES = 4
_PATIENCE_SECONDS = 2.0
_held_here: set[str] = set()
"""Nonces of the locks that this process holds: one of its own that is not among them was left behind."""


class LockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock, and since when (seconds since the epoch, by its own clock)."""

    version: Literal[1] = 1
    time: int
    host: str
    pid: int
    boot: str
    nonce: Nonce


class PruneLock:
    """The lock, as a context manager. ``renew`` often while working.

    Raises :class:`Locked` on entry, with who holds it. ``moment``: the storage's time when it was taken.
    """

    def __init__(self, repository: Repository, *, expires_seconds: float = EXPIRES_SECONDS) -> None:
        self._repository = repository
        self._expires = expires_seconds
        self._name: str | None = None
        self._nonces: list[str] = []
        self._renewed = 0.0
        self.moment = 0.0

    def __enter__(self) -> PruneLock:
        holder = self._try()
        for attempt in range(_TRIES):
            if holder is None:
                return self
            time.sleep(random.uniform(0.1, 1) * min(_PATIENCE_SECONDS, 2**attempt / 4))
            holder = self._try()
        if holder is None:
            return self
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.time))
        raise Locked(
            f"Another prune is working on {self._repository.storage.location}: process {holder.pid} on "
            f"{holder.host}, since {since}.",
            hint=f"Run it again later. A dead process loses the lock after {EXPIRES_SECONDS // 60} minutes.",
        )

    def _try(self) -> LockRecord | None:
        """Take the lock; None, or who has it."""
        try:
            self._write()
            holder = self._other_holder()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        if holder is not None:
            self._remove()
        return holder

    def renew(self) -> None:
        """Write the lock anew if the last time is long ago. Raises what the storage raises."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        before = self._name
        self._write()
        if before is not None:
            self._repository.storage.delete(before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _held_here.difference_update(self._nonces)
        with contextlib.suppress(ZitcacheError):  # it expires
            self._remove()

    def _write(self) -> None:
        record = LockRecord(
            time=now(), host=socket.gethostname(), pid=os.getpid(), boot=_boot_id(), nonce=nonce()
        )
        _held_here.add(record.nonce)
        self._nonces.append(record.nonce)
        self._name = f"{LOCK_FOLDER}/{self._repository.store_record(LOCK_FOLDER, record)}"
        self._renewed = time.monotonic()
        self.moment = self._repository.storage.info(self._name).modified

    def _remove(self) -> None:
        name, self._name = self._name, None
        if name is not None:
            self._repository.storage.delete(name)

    def _other_holder(self) -> LockRecord | None:
        """Who else holds a lock that has not expired; expired ones are removed."""
        for name, modified in self._repository.objects(LOCK_FOLDER):
            if name == self._name:
                continue
            record = self._read(name)
            if record is not None and not self._is_dead(record, modified):
                return record
            self._repository.storage.delete(name)
        return None

    def _read(self, name: str) -> LockRecord | None:
        try:
            return self._repository.load_record(name, LockRecord)
        except (ObjectNotFound, IntegrityError):
            return None

    def _is_dead(self, record: LockRecord, modified: float) -> bool:
        """Whether its process is surely gone, or has not renewed it for too long.

        Both times are the storage's. A lock from its future was written under a wrong clock.
        """
        is_here = record.host == socket.gethostname() and record.boot == _boot_id() != ""
        is_mine = is_here and record.pid == os.getpid()
        is_gone = record.nonce not in _held_here if is_mine else is_here and not _is_running(record.pid)
        return is_gone or abs(self.moment - modified) > self._expires


def _boot_id() -> str:
    """Tells one boot of one machine from every other; "" where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's
    return True
