"""Sizes, ages and command lines as the sentences of ``doctor`` have them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_MOST_NAMED = 3


def size(size_bytes: int) -> str:
    """``32.8 GB``, ``4.1 MB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{size_bytes} B"


def age(seconds: float) -> str:
    """``5 minutes``, ``2 hours``, ``3 days``: the larger unit only."""
    minutes = max(0.0, seconds) / 60
    for length, name in ((60 * 24, "day"), (60, "hour")):
        if minutes >= 2 * length:
            return f"{round(minutes / length)} {name}s"
    if minutes >= 60:
        return "1 hour"
    return f"{round(minutes)} minute{'' if round(minutes) == 1 else 's'}"


def named(names: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def command(*words: str) -> str:
    """A line to type: ``zitcache migrate '/my disk/cache'``."""
    return shlex.join(["zitcache", *words])
