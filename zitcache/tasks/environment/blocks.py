"""Our block in a file that belongs to somebody else: put in, replaced, taken out, nothing else touched.

Everything is bytes: these files may hold any. Taking out what was put in gives the file back as it was, a
missing newline at its end included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BEGIN = "# >>> zitcache >>>"
END = "# <<< zitcache <<<"
ABOUT = "# Written by `zitcache env --write`; `zitcache env --remove` takes it away."
MADE = "# zitcache made this file."
JOINED = "# The line before had no newline at its end."

_MARK = re.compile(rb"^# (?:(>>> zitcache >>>)|<<< zitcache <<<)[ \t]*\r?(?:\n|\Z)", re.MULTILINE)


class BrokenBlock(Exception):
    """The marks in a file do not pair up. ``line``: the number of the odd one."""

    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__(f"line {line}")


@dataclass(frozen=True, slots=True)
class Block:
    """One block in a file: its bytes are ``data[start:end]``, the marks and the last newline included."""

    start: int
    end: int
    lines: tuple[str, ...]
    newline: bytes

    @property
    def content(self) -> tuple[str, ...]:
        """Its lines without marks and notes."""
        return tuple(line for line in self.lines if line not in {ABOUT, MADE, JOINED})


def find_blocks(data: bytes) -> list[Block]:
    """All blocks, in order. Raises :class:`BrokenBlock` when a mark has no partner."""
    blocks: list[Block] = []
    begin: re.Match[bytes] | None = None
    for mark in _MARK.finditer(data):
        if (mark[1] is not None) == (begin is not None):
            raise BrokenBlock(data.count(b"\n", 0, mark.start()) + 1)
        if begin is None:
            begin = mark
            continue
        inside = data[begin.end() : mark.start()].decode(errors="surrogateescape")
        lines = tuple(line.rstrip("\r") for line in inside.split("\n")[:-1])
        newline = b"\r\n" if begin[0].endswith(b"\r\n") else b"\n"
        blocks.append(Block(begin.start(), mark.end(), lines, newline))
        begin = None
    if begin is not None:
        raise BrokenBlock(data.count(b"\n", 0, begin.start()) + 1)
    return blocks


def without_blocks(data: bytes) -> bytes:
    """The file as it is without us."""
    for block in reversed(find_blocks(data)):
        start = block.start
        if JOINED in block.lines and block.end == len(data):
            start -= len(block.newline)
        data = data[: max(start, 0)] + data[block.end :]
    return data


def made_by_us(data: bytes) -> bool:
    """Whether the file was made for the block: taking the block out then leaves nothing to keep."""
    return any(MADE in block.lines for block in find_blocks(data)) and not without_blocks(data)


def with_block(data: bytes, content: Sequence[str], offset: int, *, made: bool = False) -> bytes:
    """``data`` with a block in it at byte ``offset``, which must be the start of a line or the end."""
    newline = newline_of(data)
    joined = offset > 0 and data[offset - 1 : offset] != b"\n"
    notes = [ABOUT, *([MADE] if made else []), *([JOINED] if joined else [])]
    lines = [BEGIN, *notes, *content, END, ""]
    text = newline.join(line.encode() for line in lines)
    return data[:offset] + (newline if joined else b"") + text + data[offset:]


def with_content(data: bytes, content: Sequence[str]) -> bytes:
    """``data`` with the blocks that are in it where they are, holding ``content`` now."""
    for block in reversed(find_blocks(data)):
        notes = [line for line in block.lines if line in {MADE, JOINED}]
        lines = [BEGIN, ABOUT, *notes, *content, END, ""]
        text = block.newline.join(line.encode() for line in lines)
        data = data[: block.start] + text + data[block.end :]
    return data


def newline_of(data: bytes) -> bytes:
    """The line end that the file uses."""
    first = data.find(b"\n")
    return b"\r\n" if first > 0 and data[first - 1 : first] == b"\r" else b"\n"
