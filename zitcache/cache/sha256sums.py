"""Files in the format of GNU ``sha256sum``: written so that ``sha256sum -c`` accepts them, and read back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from zitcache.errors import UsageError

_LINE = re.compile(rb"(?P<escaped>\\?)(?P<digest>[0-9a-fA-F]{64}) [ *](?P<name>.+)", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.?)", re.DOTALL)
_UNESCAPED = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


def to_sha256sums(digests: Iterable[tuple[str, str]]) -> bytes:
    """Lines ``<sha256>  <path>`` of (path, hex digest) pairs, sorted by path bytes.

    Names with a backslash, newline or carriage return are escaped as coreutils does, with a backslash in
    front of the line (https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html).
    """
    lines = []
    for name, digest in sorted((os.fsencode(path), digest) for path, digest in digests):
        escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        mark = b"\\" if escaped != name else b""
        lines.append(mark + digest.encode("ascii") + b"  " + escaped + b"\n")
    return b"".join(lines)


def parse_sha256sums(data: bytes) -> dict[str, str]:
    """Path to lower-case hex digest. Raises :class:`UsageError` for anything but such lines and comments.

    Accepts what ``sha256sum -c`` does: text and binary mode, escaped names, ``#`` comments, CRLF line ends.
    """
    digests: dict[str, str] = {}
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = raw.removesuffix(b"\r")
        if not line or line.startswith(b"#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError(f"Line {number} is not one of sha256sum: {line[:100]!r}.")
        name = _unescape(match["name"], number) if match["escaped"] else match["name"]
        path = os.fsdecode(name).removeprefix("./")
        digest = match["digest"].decode("ascii").lower()
        if digests.setdefault(path, digest) != digest:
            raise UsageError(f"Line {number} gives a second digest for {path!r}.")
    return digests


def _unescape(name: bytes, number: int) -> bytes:
    def replace(match: re.Match[bytes]) -> bytes:
        try:
            return _UNESCAPED[match[1]]
        except KeyError:
            raise UsageError(f"Line {number} has an unknown escape in its name: {name[:100]!r}.") from None

    return _ESCAPE.sub(replace, name)
