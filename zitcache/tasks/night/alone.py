"""One night at a time on this machine, and the trace of one that was killed.

The lock is the kernel's, so that of a dead process is free. While a night runs, the file holds when it began;
whoever finds a time in a file that nobody holds knows of a night that never came to its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from zitcache.errors import Locked, from_os_error
from zitcache.events import Session

NAME = "night.lock"
_POLL_SECONDS = 0.5


@contextlib.contextmanager
def alone(state: Path, session: Session, wait_seconds: float = 0.0) -> Iterator[float | None]:
    """Hold the lock; gives when the last night began, if that one was killed.

    ``wait_seconds``: how long another night may still take. Raises :class:`Locked` after that.
    """
    path = state / NAME
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os_error(error, f"opening {path}") from error
    try:
        _acquire(handle, session, wait_seconds)
        before = _moment(os.pread(handle, 32, 0))
        _write(handle, f"{time.time():.3f}\n".encode())
        try:
            yield before
        finally:
            _write(handle, b"")
    finally:
        os.close(handle)


def _acquire(handle: int, session: Session, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Locked(
                    "Another night is running here.",
                    hint="Let it end, or wait for it: zitcache night --wait 6h",
                ) from None
        else:
            return
        session.progress.stage("Waiting for another night")
        session.cancel.check()
        time.sleep(_POLL_SECONDS)


def _write(handle: int, text: bytes) -> None:
    """A full disk must not keep a night from running: then a kill leaves no trace, which is all."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text, 0)


def _moment(text: bytes) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None
