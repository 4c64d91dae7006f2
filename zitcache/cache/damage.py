"""What kind of damage a file has, told from its size, a few of its bytes and the ranges known to be bad."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

LFS_POINTER_MAX_BYTES = 1024
"""The Git LFS specification: a pointer is less than 1024 bytes long."""

_LFS_MAGICS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
_HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<!--")
_HEAD_BYTES = 4096
_STEP_BYTES = 1 << 20
_MAX_READ_BYTES = 64 << 20
_FEW_RANGES = 64

ByteRange = tuple[int, int]
"""``[start, end)`` in bytes."""


class DamageKind(str, Enum):
    """Kinds of damage as users meet them; the values are part of the JSON output."""

    TRUNCATED = "truncated"
    ZERO_FILLED = "zero-filled"
    LFS_POINTER = "lfs-pointer"
    HTML_PAGE = "html-page"
    BIT_FLIPS = "bit-flips"
    EXTENDED = "extended"
    DIFFERS = "differs"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a file: the kind, one sentence, and ``[start, end)`` byte ranges as far as known."""

    kind: DamageKind
    message: str
    ranges: tuple[ByteRange, ...]


def looks_like_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is the text that stands for a file in Git LFS."""
    return head.startswith(_LFS_MAGICS)


def looks_like_html(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a web page: what a failed download leaves behind."""
    start = head[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(_HTML_STARTS)


def classify(path: Path, expected_size: int | None, bad_ranges: Sequence[ByteRange] | None) -> Diagnosis:
    """Tell the kind of damage of a file that is known not to be what it should.

    ``expected_size``: None if unknown. ``bad_ranges``: where its bytes differ, within the file as it should
    be; None or empty if unknown. Reads at most 64 MiB. Never raises ``OSError``: a file that cannot be read
    is diagnosed as such.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return Diagnosis(DamageKind.UNREADABLE, f"It cannot be opened: {error.strerror or error}.", ())
    try:
        return _classify_open(fd, expected_size, _merge(bad_ranges or ()))
    except OSError as error:
        return Diagnosis(
            DamageKind.UNREADABLE, f"It cannot be read: {error.strerror or error}.", _merge(bad_ranges or ())
        )
    finally:
        os.close(fd)


def _classify_open(fd: int, expected_size: int | None, bad: tuple[ByteRange, ...]) -> Diagnosis:
    size = os.fstat(fd).st_size
    head = os.pread(fd, _HEAD_BYTES, 0)
    if looks_like_lfs_pointer(head) and size <= LFS_POINTER_MAX_BYTES:
        return Diagnosis(
            DamageKind.LFS_POINTER,
            "It holds the text of a Git LFS pointer, not the weights.",
            _whole(expected_size),
        )
    if looks_like_html(head):
        return Diagnosis(
            DamageKind.HTML_PAGE, "It holds a web page, probably an error message, not the weights.",
            _whole(expected_size),
        )  # fmt: skip
    if expected_size is not None and size < expected_size:
        lost = expected_size - size
        return Diagnosis(
            DamageKind.TRUNCATED,
            f"It ends after {size} of {expected_size} bytes; {lost} are missing.",
            _merge((*bad, (size, expected_size))),
        )
    inside = _merge((start, min(end, size)) for start, end in bad if start < size)
    if inside and _is_zero(fd, inside):
        zeros = sum(end - start for start, end in inside)
        return Diagnosis(DamageKind.ZERO_FILLED, f"{zeros} bytes are zeros where data should be.", inside)
    if expected_size is not None and size > expected_size:
        if not inside:
            extra = size - expected_size
            return Diagnosis(
                DamageKind.EXTENDED, f"It has {extra} bytes more than it should.", ((expected_size, size),)
            )
        return Diagnosis(
            DamageKind.DIFFERS, f"It has {size} bytes instead of {expected_size}, and others.", inside
        )
    if not inside:
        return _without_ranges(fd, size)
    bad_bytes = sum(end - start for start, end in inside)
    if len(inside) <= _FEW_RANGES and bad_bytes < size:
        return Diagnosis(
            DamageKind.BIT_FLIPS,
            f"Bytes changed in {len(inside)} place(s); the rest of the file is good.",
            inside,
        )
    return Diagnosis(DamageKind.DIFFERS, "Its content is another one.", inside)


def _without_ranges(fd: int, size: int) -> Diagnosis:
    """The size is right and nobody knows where the bytes differ: a tail of zeros is still easy to see."""
    tail = _zero_tail(fd, size)
    # A few zeros at the end are ordinary weights; a page of them is how a lost write looks after a crash.
    if tail >= min(size, _HEAD_BYTES) > 0:
        return Diagnosis(DamageKind.ZERO_FILLED, f"Its last {tail} bytes are zeros.", ((size - tail, size),))
    return Diagnosis(DamageKind.DIFFERS, "It has the right size but another content.", ())


def _zero_tail(fd: int, size: int) -> int:
    """How many zero bytes the file ends with, looking at no more than the bounded amount."""
    end = size
    limit = max(0, size - _MAX_READ_BYTES)
    while end > limit:
        start = max(limit, end - _STEP_BYTES)
        data = os.pread(fd, end - start, start)
        kept = len(data.rstrip(b"\0"))
        if kept or len(data) < end - start:
            return size - start - kept
        end = start
    return size - end


def _is_zero(fd: int, ranges: Sequence[ByteRange]) -> bool:
    """Whether all bytes of ``ranges`` are zero; of a large total, pieces spread over them are looked at."""
    total = sum(end - start for start, end in ranges)
    steps = sum(-(-(end - start) // _STEP_BYTES) for start, end in ranges)
    stride = 1 if total <= _MAX_READ_BYTES else -(-steps * _STEP_BYTES // _MAX_READ_BYTES)
    for number, (start, end) in enumerate(_steps(ranges)):
        if number % stride and number != steps - 1:
            continue
        data = os.pread(fd, end - start, start)
        if data.count(0) != len(data):
            return False
    return total > 0


def _steps(ranges: Sequence[ByteRange]) -> Iterator[ByteRange]:
    for start, end in ranges:
        for position in range(start, end, _STEP_BYTES):
            yield position, min(end, position + _STEP_BYTES)


def _whole(expected_size: int | None) -> tuple[ByteRange, ...]:
    return ((0, expected_size),) if expected_size else ()


def _merge(ranges: Iterator[ByteRange] | Sequence[ByteRange]) -> tuple[ByteRange, ...]:
    """Sorted, without empty ranges, neighbours joined."""
    merged: list[ByteRange] = []
    for start, end in sorted(ranges):
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
