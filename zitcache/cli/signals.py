"""Ctrl-C and SIGTERM: ask the task to stop, and leave within two seconds whatever it is doing.

Python runs signal handlers in the main thread between two bytecodes, which may be a long time when that
thread is inside a system call on a slow disk. So the C-level handler writes the signal's number into a pipe
(``signal.set_wakeup_fd``), and a thread of its own reads it. Leaving by force loses nothing: repositories and
restores withstand ``kill -9`` anywhere.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from zitcache.events import Cancel

GRACE_SECONDS = 1.5
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While its ``with`` block runs, SIGINT and SIGTERM set ``cancel``.

    When the block is not left within :data:`GRACE_SECONDS`, or SIGINT comes a second time, ``leave`` is
    called with the signal's number from another thread; it must end the process. Outside the main thread
    nothing is installed. A signal that the parent had set to be ignored (``nohup``) stays ignored.
    """

    def __init__(self, cancel: Cancel, leave: Callable[[int], None]) -> None:
        self._cancel, self._leave = cancel, leave
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self._thread: threading.Thread | None = None
        self._reader = self._writer = self._previous_wakeup = -1
        self.received: int | None = None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        for number in _STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, _do_nothing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        for number, previous in self._previous.items():
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._writer)  # the watching thread reads the end of the pipe and returns
        self._thread.join()
        os.close(self._reader)

    def _watch(self) -> None:
        timeout: float | None = None
        while True:
            ready, _, _ = select.select([self._reader], [], [], timeout)
            if not ready:
                self._leave(self.received or signal.SIGINT)
                return
            numbers = os.read(self._reader, 64)
            if not numbers:
                return
            for number in numbers:
                if number not in _STOPPING:
                    continue
                if self.received is not None and number == signal.SIGINT:
                    self._leave(number)
                    return
                self.received = self.received or number
                self._cancel.set()
                timeout = GRACE_SECONDS


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Keep the main thread going; the pipe has told the watching thread."""
