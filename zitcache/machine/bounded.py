"""Ask for a limited time: a network mount whose server is gone answers no system call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises; raises ``TimeoutError`` when it takes longer than ``seconds``.

    It then goes on in a thread of its own that nobody waits for, not even the end of the process: ``ask``
    must only look, and change nothing.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="zitcache-bounded")
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if errors:
        raise errors[0]
    raise TimeoutError(f"no answer within {seconds:g} s")
