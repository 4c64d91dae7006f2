"""Where a file is cut into pieces, so that equal tensors become equal blobs wherever they lie.

A safetensors file is cut at its tensors: re-sharded files, revisions, fine-tunes and the same model in a
ModelScope and a Hugging Face cache then share blobs. Cutting depends on the file's own bytes and on the
rules alone, which a repository fixes when it is made; another cut would still restore, but share nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from zitcache.cache.safetensors_header import Header, HeaderError, Tensor, read_header
from zitcache.repository.records import CuttingRules


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes of a file from ``offset``; ``dtype`` as in safetensors, None if unknown or mixed."""

    offset: int
    length: int
    dtype: str | None = None


def _fixed(start: int, end: int, dtype: str | None, rules: CuttingRules) -> Iterator[Piece]:
    """Pieces of the full size counted from ``start``, and a rest."""
    for offset in range(start, end, rules.piece_size):
        yield Piece(offset, min(rules.piece_size, end - offset), dtype)


def _cut_payload(header: Header, rules: CuttingRules) -> Iterator[Piece]:
    """Pieces of the payload: big tensors from their own start, small neighbours of one dtype together."""
    position = header.data_start
    group: list[Tensor] = []

    def flush() -> Iterator[Piece]:
        if group:
            yield from _fixed(group[0].start, group[-1].end, group[0].dtype, rules)
            group.clear()

    for tensor in header.tensors:
        size = tensor.end - tensor.start
        if size == 0:
            continue
        joins = (
            bool(group)
            and group[-1].end == tensor.start
            and group[0].dtype == tensor.dtype
            and size < rules.merge_below
            and tensor.end - group[0].start <= rules.piece_size
        )
        if not joins:
            yield from flush()
        if tensor.start > position:
            yield from _fixed(position, tensor.start, None, rules)
        position = tensor.end
        if size < rules.merge_below:
            group.append(tensor)
        else:
            yield from _fixed(tensor.start, tensor.end, tensor.dtype, rules)
    yield from flush()


def cut(size: int, header: Header | None, rules: CuttingRules) -> tuple[Piece, ...]:
    """Pieces that cover ``size`` bytes exactly, in order. ``header`` if the file is a safetensors file."""
    if header is None:
        return tuple(_fixed(0, size, None, rules))
    pieces = list(_fixed(0, header.data_start, None, rules))
    pieces.extend(_cut_payload(header, rules))
    covered = pieces[-1].offset + pieces[-1].length
    pieces.extend(_fixed(covered, size, None, rules))
    return tuple(pieces)


def cut_file(fd: int, size: int, rules: CuttingRules) -> tuple[Piece, ...]:
    """Pieces of the open file ``fd``. A safetensors file with a broken header is cut like any other file.

    Told by the content alone: Hugging Face's blobs have no suffix, and have to share theirs with the files
    that ModelScope keeps under the right name.
    """
    header = None
    if _begins_like_safetensors(fd, size):
        try:
            header = read_header(fd, size)
        except HeaderError:
            header = None
    return cut(size, header, rules)


def _begins_like_safetensors(fd: int, size: int) -> bool:
    """A plausible header length followed by the opening brace of JSON."""
    start = os.pread(fd, 9, 0)
    return len(start) == 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size
