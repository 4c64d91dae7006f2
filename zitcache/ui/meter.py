"""The numbers of a progress display, without any display: bytes done, rates, time left."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

RATE_WINDOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a meter. Rates in bytes per second; ``remaining_seconds`` None when it cannot be told."""

    stage: str
    done_bytes: int
    total_bytes: int | None
    elapsed_seconds: float
    rate_now: float
    rate_mean: float
    remaining_seconds: float | None
    file: str | None

    @property
    def share(self) -> float | None:
        """How much of the stage is done, 0..1, if its total is known and not zero."""
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else None


class Meter:
    """Counts bytes from many threads; :meth:`advance` costs a lock and an addition."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque()
        self._file: str | None = None
        self.stage("", None)

    def stage(self, name: str, total_bytes: int | None) -> None:
        """Start counting from zero under a new name."""
        with self._lock:
            now = self._clock()
            self._stage, self._total, self._done, self._start = name, total_bytes, 0, now
            self._samples.clear()
            self._samples.append((now, 0))
            self._file = None

    def advance(self, byte_count: int) -> None:
        """Count ``byte_count`` more bytes."""
        with self._lock:
            self._done += byte_count

    def file(self, path: str) -> None:
        """Remember the file being worked on."""
        self._file = path

    def read(self) -> Reading:
        """The numbers now. ``rate_now`` looks back :data:`RATE_WINDOW_SECONDS`, at least to the last look."""
        with self._lock:
            now, done, samples = self._clock(), self._done, self._samples
            while len(samples) > 1 and samples[1][0] <= now - RATE_WINDOW_SECONDS:
                samples.popleft()
            then, done_then = samples[0]
            samples.append((now, done))
            rate_now = (done - done_then) / (now - then) if now > then else 0.0
            elapsed = now - self._start
            rate_mean = done / elapsed if elapsed > 0 else 0.0
            remaining = None
            # Half now, half mean: follows a change within seconds and does not jump with every hiccup.
            expected = (rate_now + rate_mean) / 2
            if self._total is not None and expected > 0:
                remaining = max(0, self._total - done) / expected
            return Reading(
                self._stage, done, self._total, elapsed, rate_now, rate_mean, remaining, self._file
            )
