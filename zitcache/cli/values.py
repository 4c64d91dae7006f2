"""Values that people type in several ways: shares of a whole, spans of time."""

from __future__ import annotations

import re

from zitcache.errors import UsageError

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_DECIMAL = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_FRACTION = re.compile(r"(\d+)/(\d+)")
_TIME_SPAN = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(s|m|min|h|d|w)", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_share(option: str, text: str) -> float:
    """A share 0..1 written as ``30%``, ``0.3`` or ``1/30``.

    Raises ``UsageError`` for anything else, and for more than the whole: a bare ``30`` might mean either.
    """
    typed = text.strip()
    share: float | None = None
    if match := _PERCENT.fullmatch(typed):
        share = float(match[1]) / 100
    elif match := _FRACTION.fullmatch(typed):
        share = int(match[1]) / int(match[2]) if int(match[2]) else None
    elif _DECIMAL.fullmatch(typed):
        share = float(typed)
    if share is None:
        raise UsageError(f"{option} cannot be {text!r}: it is no share.", hint=_share_hint(option, "30%"))
    if share > 1:
        likely = f"{typed}%" if _DECIMAL.fullmatch(typed) and share <= 100 else "100%"
        raise UsageError(
            f"{option} cannot be {text!r}: it is more than all.", hint=_share_hint(option, likely)
        )
    return share


def _share_hint(option: str, likely: str) -> str:
    return f"Write it as {option} {likely}, {option} 0.3 or {option} 1/30."


def parse_time_span(option: str, text: str) -> float:
    """A span of time in seconds, written as ``90s``, ``30m``, ``1.5h``, ``2d``, ``1w``, or ``0``.

    Raises ``UsageError`` for anything else: a bare ``30`` might mean seconds or minutes.
    """
    typed = text.strip()
    if match := _TIME_SPAN.fullmatch(typed):
        return float(match[1]) * _SECONDS[match[2].lower()]
    if typed == "0":
        return 0.0
    likely = f"{typed}m" if _DECIMAL.fullmatch(typed) else "1h"
    raise UsageError(
        f"{option} cannot be {text!r}: it is no span of time.",
        hint=f"Write it with its unit: {option} {likely} (s, m, h, d or w).",
    )
