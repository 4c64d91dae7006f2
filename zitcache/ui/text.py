"""Text for people: sizes, times, and names that cannot harm a terminal (``machine.texts``)."""

from __future__ import annotations

from zitcache.machine.texts import json_text, printable

__all__ = ["age", "count", "duration", "json_text", "local_time", "printable", "rate", "size"]


def size(byte_count: float) -> str:
    """Bytes in decimal units with one decimal: ``32.8 GB``, ``4.1 MB``, ``512 B``."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # Half a unit of the last shown digit below the scale already rounds up to it: 999,999 B is "1.0 MB".
        if abs(byte_count) >= scale * (1 - 5e-5):
            return f"{byte_count / scale:.1f} {unit}"
    return f"{byte_count:.0f} B"


def duration(seconds: float) -> str:
    """A time span: ``0.4 s``, ``21 s``, ``3 min 5 s``, ``1 h 12 min``."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rate(bytes_per_second: float) -> str:
    """A speed: ``1.5 GB/s``."""
    return f"{size(bytes_per_second)}/s"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """``1 file``, ``16 files``, ``12,345 files``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def local_time(iso: str) -> str:
    """An ISO 8601 UTC time as local ``2026-01-31 03:00``; what cannot be read is given back as it is."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(iso.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return printable(iso)


def age(seconds: float) -> str:
    """A rough time span in one unit: ``5 min``, ``3 h``, ``12 days``."""
    for limit, scale, unit in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / scale:.0f} {unit}"
    return count(round(seconds / 86_400), "day")
