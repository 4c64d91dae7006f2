"""Text that holds file names: valid Unicode for JSON, harmless on a terminal, and the exact bytes back again.

File names are bytes. Inside zitcache those that are not UTF-8 travel as surrogate escapes (PEP 383), which
neither a terminal nor valid JSON can hold. On output each such byte becomes ``\\xNN``. So that this can be
undone, a text in which ``\\x`` or ``\\\\`` already occurs, or which holds such a byte, has its backslashes
doubled. To get the exact bytes back: replace ``\\\\`` by ``\\`` and ``\\xNN`` by that byte, in one pass.
"""

from __future__ import annotations

import re

_UNDECODABLE = re.compile("[\ud800-\udfff]")
_NEEDS_DOUBLING = re.compile("[\ud800-\udfff]|\\\\x|\\\\\\\\")
_ESCAPED = re.compile(r"\\\\|\\x([0-9a-f]{2})")
# Control characters (C0, DEL, C1), line and paragraph separators, and the marks that reorder text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def json_text(text: str) -> str:
    """``text`` as valid Unicode: undecodable bytes as ``\\xNN`` (JSON itself escapes control characters)."""
    if not _NEEDS_DOUBLING.search(text):
        return text
    return _UNDECODABLE.sub(_escape_surrogate, text.replace("\\", "\\\\"))


def exact_text(text: str) -> str:
    """The inverse of :func:`json_text`."""
    return _ESCAPED.sub(_unescape, text)


def printable(text: str) -> str:
    """``text`` on one line of a terminal: undecodable bytes and control characters become escapes."""
    return _UNSAFE.sub(_escape_control, json_text(text))


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _unescape(match: re.Match[str]) -> str:
    if match[1] is None:
        return "\\"
    byte = int(match[1], 16)
    return chr(0xDC00 + byte) if byte >= 0x80 else match[0]


def _escape_control(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
