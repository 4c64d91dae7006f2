"""Text for people: sizes, times, and names that cannot harm a terminal.

File names are bytes. Inside zitcache those that are not UTF-8 travel as surrogate escapes (PEP 383), which
neither a terminal nor valid JSON can hold. On output each such byte becomes ``\\xNN``. So that this can be
undone, a text in which ``\\x`` or ``\\\\`` already occurs, or which holds such a byte, has its backslashes
doubled. To get the exact bytes back: replace ``\\\\`` by ``\\`` and ``\\xNN`` by that byte, in one pass.
"""

from __future__ import annotations

import re

_UNDECODABLE = re.compile("[\ud800-\udfff]")
_NEEDS_DOUBLING = re.compile("[\ud800-\udfff]|\\\\x|\\\\\\\\")
# Control characters (C0, DEL, C1), line and paragraph separators, and the marks that reorder text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def json_text(text: str) -> str:
    """``text`` as valid Unicode: undecodable bytes as ``\\xNN`` (JSON itself escapes control characters)."""
    if not _NEEDS_DOUBLING.search(text):
        return text
    return _UNDECODABLE.sub(_escape_surrogate, text.replace("\\", "\\\\"))


def printable(text: str) -> str:
    """``text`` on one line of a terminal: undecodable bytes and control characters become escapes."""
    return _UNSAFE.sub(_escape_control, json_text(text))


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _escape_control(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


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
