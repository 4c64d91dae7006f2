"""Values that people type in several ways: shares of a whole."""

from __future__ import annotations

import re

from zitcache.errors import UsageError

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_DECIMAL = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_FRACTION = re.compile(r"(\d+)/(\d+)")


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
