"""What tasks tell the outside while they run. Tasks never print; they call these.

:class:`Progress` is implemented by ``zitcache.ui`` and does nothing by default, so that a task can be
called as a library without a terminal.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

import msgspec

from zitcache.errors import Exit, Interrupted


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A warning in the JSON envelope: a stable ``code``, a sentence, and what to do."""

    code: str
    message: str
    hint: str | None = None


ReportT = TypeVar("ReportT", bound=msgspec.Struct, covariant=True)


class Outcome(msgspec.Struct, Generic[ReportT], kw_only=True):
    """What a task returns: its report (field ``data`` of the JSON envelope), warnings and exit code."""

    data: ReportT
    warnings: list[Notice] = msgspec.field(default_factory=list)
    exit_code: Exit = Exit.OK


class Progress:
    """Receives progress. Thread-safe in every implementation; this one ignores everything."""

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        """A new stage begins ("Reading", "Verifying"); ``total_bytes`` if known. Resets the counter."""

    def advance(self, byte_count: int) -> None:
        """``byte_count`` more bytes of the stage are done."""

    def file(self, path: str) -> None:
        """Work on the file ``path`` begins."""

    def warn(self, notice: Notice) -> None:
        """Something the user should see now, not only at the end."""


class Cancel:
    """A flag that a signal handler sets and every pipeline polls between pieces (a few ms of work each)."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask every pipeline that polls this flag to stop."""
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for that long at most; whether stopping was asked for. For tasks that have nothing to do."""
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise :class:`~zitcache.errors.Interrupted` when stopping was asked for."""
        if self._event.is_set():
            raise Interrupted


class Session:
    """What every task gets beside its request: where progress goes and whether to stop."""

    def __init__(self, progress: Progress | None = None, cancel: Cancel | None = None) -> None:
        self.progress = progress or Progress()
        self.cancel = cancel if cancel is not None else Cancel()  # an unset flag is falsy
        self.warnings: list[Notice] = []
        self._lock = threading.Lock()

    def warn(self, code: str, message: str, hint: str | None = None) -> None:
        """Record a warning for the result and show it now."""
        notice = Notice(code=code, message=message, hint=hint)
        with self._lock:
            self.warnings.append(notice)
        self.progress.warn(notice)
