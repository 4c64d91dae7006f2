"""Nothing may hang: work that is not done in time fails the test, and says where it stands."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")


def within(seconds: float, work: Callable[[], ResultT]) -> ResultT:
    """The result of ``work``, or its exception; ``AssertionError`` when it takes longer than ``seconds``."""
    result: list[ResultT] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        frames = sys._current_frames().get(thread.ident or 0)
        where = "".join(traceback.format_stack(frames)) if frames else "unknown"
        raise AssertionError(f"still not done after {seconds} seconds:\n{where}")
    if errors:
        raise errors[0]
    return result[0]
