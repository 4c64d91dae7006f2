"""Ask for a limited time: a network mount whose server is gone answers no system call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Question(Generic[T]):
    """A question that is being asked in a thread of its own from now on. Many can be asked at once.

    Nobody waits for that thread, not even the end of the process: ``ask`` must only look, and change nothing.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._ask = ask
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True, name="zitcache-question")
        self._thread.start()

    def answer(self, deadline: float | None = None) -> T:
        """What ``ask`` returned or raised, as often as wanted.

        ``deadline``: in terms of ``time.monotonic``; raises ``TimeoutError`` when there is no answer by then.
        """
        self._thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if self._results:
            return self._results[0]
        if self._errors:
            raise self._errors[0]
        raise TimeoutError(f"no answer within {time.monotonic() - self._begun:.1f} s")

    def _run(self) -> None:
        try:
            self._results.append(self._ask())
        except BaseException as error:
            self._errors.append(error)


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises; raises ``TimeoutError`` when it takes longer than ``seconds``."""
    return Question(ask).answer(time.monotonic() + seconds)
