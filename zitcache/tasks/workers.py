"""Threads that work until the work is done, one fails, or the user wants to stop.

numpy, zstandard, blake3, hashlib and reads and writes release the GIL, so threads keep all cores busy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from zitcache.events import Cancel

_POLL_SECONDS = 0.05


class Stop:
    """Set when a pipeline must end early; keeps the first error."""

    def __init__(self, on_stop: Callable[[], None] | None = None) -> None:
        self._on_stop = on_stop
        self._lock = threading.Lock()
        self.error: BaseException | None = None
        self.is_set = False

    def set(self, error: BaseException | None = None) -> None:
        """End the pipeline, because of ``error`` if there is one."""
        with self._lock:
            self.is_set = True
            if self.error is None:
                self.error = error
        if self._on_stop is not None:
            self._on_stop()


def run_threads(bodies: Sequence[Callable[[], None]], stop: Stop, cancel: Cancel) -> None:
    """Run every body in a thread of its own and wait for all.

    The first exception of any body stops the others (they look at ``stop``) and is raised here. A set
    ``cancel`` does the same with ``Interrupted``.
    """

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            stop.set(error)

    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                if cancel and not stop.is_set:
                    stop.set()
    except BaseException as error:
        stop.set(error)
        # Nobody may close what they still use.
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    if stop.error is not None:
        raise stop.error
    cancel.check()
