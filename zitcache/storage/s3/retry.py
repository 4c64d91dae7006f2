"""How long to go on with a request that fails, and how long to wait in between."""

from __future__ import annotations

import random
import threading
import time

FIRST_CONTACT_SECONDS = 20.0
"""An endpoint that never answered is more likely misspelt than busy."""
UNKNOWN_HOST_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 20.0
_FIRST_PAUSE_SECONDS = 0.2


class Patience:
    """Shared by all requests to one endpoint. ``give_up_after``: seconds without success of one request."""

    def __init__(self, give_up_after: float) -> None:
        self.give_up_after = give_up_after
        self._was_reached = threading.Event()
        self._was_trusted = threading.Event()

    @property
    def was_reached(self) -> bool:
        """Whether any request was ever answered."""
        return self._was_reached.is_set()

    @property
    def was_trusted(self) -> bool:
        """Whether any request ever succeeded, so that the keys were good then."""
        return self._was_trusted.is_set()

    def answered(self) -> None:
        """The endpoint is there."""
        self._was_reached.set()

    def succeeded(self) -> None:
        """The endpoint did what it was asked for."""
        self._was_reached.set()
        self._was_trusted.set()

    def begin(self) -> Tries:
        """For one request."""
        return Tries(self)


class Tries:
    """The attempts of one request."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failing_since: float | None = None
        self._count = 0
        self.total = 0
        self.has_new_keys = False

    def progressed(self) -> None:
        """Something was achieved since the last failure: begin to count anew."""
        self._failing_since = None
        self._count = 0

    def pause(self, *, at_most: float | None = None, retry_after: float | None = None) -> bool:
        """Wait after a failure, longer each time; False, at once, when it is time to give up.

        ``at_most``: give up after this many seconds already. ``retry_after``: seconds that were asked for.
        """
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        limit = self._patience.give_up_after
        if at_most is not None:
            limit = min(limit, at_most)
        left = self._failing_since + limit - now
        if left <= 0:
            return False
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(self._count, 12), LONGEST_PAUSE_SECONDS)
        # Jitter, or all threads and machines that were turned away come back in the same moment.
        pause *= random.uniform(0.5, 1.0)
        if retry_after is not None:
            pause = max(pause, min(retry_after, LONGEST_PAUSE_SECONDS))
        self._count += 1
        self.total += 1
        time.sleep(min(pause, left))
        return True

    @property
    def seconds(self) -> float:
        """For how long it has failed now."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since
