"""Read the header of a safetensors file without trusting it.

Layout (https://github.com/huggingface/safetensors, ``safetensors/src/tensor.rs``): a little-endian u64 with
the length of the JSON header, the header, then the tensors' bytes without gaps. Everything a hostile or
damaged header can say is checked here once, so that the rest of zitcache can use the offsets as they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated

import msgspec

MAX_HEADER_BYTES = 100_000_000
"""Upstream's own limit (``MAX_HEADER_SIZE``)."""

MAX_TENSORS = 200_000
"""More than any published single file has; bounds the memory that a header can take."""

_MOST_OF_EACH = {b"{": MAX_TENSORS + 2, b":": 5 * MAX_TENSORS, b",": 10 * MAX_TENSORS}
MAX_DIMENSIONS = 64

BITS_PER_ELEMENT: Mapping[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Every dtype of upstream's ``Dtype`` and its size in bits."""

_LENGTH_BYTES = 8
_METADATA_KEY = "__metadata__"
_Natural = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class HeaderError(ValueError):
    """This is not a sound safetensors header; the message says in one sentence what is wrong."""


class TruncatedFileError(HeaderError):
    """The header is sound, but the file ends before the last tensor does."""

    def __init__(self, message: str, expected_size: int) -> None:
        super().__init__(message)
        self.expected_size = expected_size


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; its bytes are ``[start, end)`` of the file (absolute offsets)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header. ``tensors``, sorted by ``start``, cover ``[data_start, payload_end)`` without gaps.

    Bytes after ``payload_end`` are legal: digests decide about them, not this parser.
    """

    tensors: tuple[Tensor, ...]
    data_start: int
    payload_end: int
    metadata: Mapping[str, str]


class _Entry(msgspec.Struct, gc=False):
    dtype: Annotated[str, msgspec.Meta(max_length=64)]
    shape: Annotated[list[_Natural], msgspec.Meta(max_length=MAX_DIMENSIONS)]
    data_offsets: tuple[_Natural, _Natural]


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry = msgspec.json.Decoder(_Entry)
_metadata = msgspec.json.Decoder(dict[str, str] | None)


def read_header(fd: int, file_size: int) -> Header:
    """Read and check the header of the open file ``fd`` that is ``file_size`` bytes long.

    Raises :class:`TruncatedFileError` when only the payload is short, :class:`HeaderError` for anything else
    that is wrong with the content, ``OSError`` when reading fails.
    """
    if file_size < _LENGTH_BYTES:
        raise HeaderError(f"The file has {file_size} bytes; a safetensors file has at least {_LENGTH_BYTES}.")
    length = int.from_bytes(_read_exactly(fd, _LENGTH_BYTES, 0), "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(f"The header claims {length} bytes; the format allows {MAX_HEADER_BYTES}.")
    data_start = _LENGTH_BYTES + length
    if data_start > file_size:
        raise HeaderError(f"The header claims {length} bytes, but the file has {file_size} in all.")
    return parse_header(_read_exactly(fd, length, _LENGTH_BYTES), file_size)


def parse_header(raw: bytes, file_size: int) -> Header:
    """Check the JSON text ``raw`` of a header, without the length in front. Raises as :func:`read_header`."""
    members = _decode_members(raw)
    metadata = _decode_metadata(members.pop(_METADATA_KEY, None))
    data_start = _LENGTH_BYTES + len(raw)
    tensors = sorted(
        (_decode_tensor(name, member, data_start) for name, member in members.items()),
        key=lambda tensor: (tensor.start, tensor.end),
    )
    payload_end = data_start
    for tensor in tensors:
        if tensor.start < payload_end:
            raise HeaderError(f"Tensor {tensor.name!r} overlaps the one before it.")
        if tensor.start > payload_end:
            gap = tensor.start - payload_end
            raise HeaderError(f"There is a gap of {gap} bytes in front of tensor {tensor.name!r}.")
        payload_end = tensor.end
    if payload_end > file_size:
        raise TruncatedFileError(
            f"The file has {file_size} bytes, but its header describes {payload_end}.",
            expected_size=payload_end,
        )
    return Header(tuple(tensors), data_start, payload_end, metadata)


def _read_exactly(fd: int, count: int, offset: int) -> bytes:
    chunks = []
    while count > 0:
        chunk = os.pread(fd, count, offset)
        if not chunk:
            raise HeaderError("The file became shorter while its header was read.")
        chunks.append(chunk)
        count -= len(chunk)
        offset += len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decode_members(raw: bytes) -> dict[str, msgspec.Raw]:
    # Counted before decoding: 100 MB of tiny members would otherwise become gigabytes of Python objects.
    if any(raw.count(mark) > most for mark, most in _MOST_OF_EACH.items()):
        raise HeaderError(
            f"The header lists an absurd number of values (at most {MAX_TENSORS} tensors are read)."
        )
    try:
        return _members.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError(f"The header is not a JSON object: {error}.") from error


def _decode_metadata(raw: msgspec.Raw | None) -> dict[str, str]:
    if raw is None:
        return {}
    try:
        return _metadata.decode(raw) or {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError(f"The header's {_METADATA_KEY} is not a map of texts: {error}.") from error


def _decode_tensor(name: str, raw: msgspec.Raw, data_start: int) -> Tensor:
    try:
        entry = _entry.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError(f"Tensor {name!r} is not described properly: {error}.") from error
    begin, end = entry.data_offsets
    if end < begin:
        raise HeaderError(f"Tensor {name!r} ends at {end}, before it begins at {begin}.")
    bits = BITS_PER_ELEMENT.get(entry.dtype)
    # A dtype newer than this program is no error: its bytes can be kept without knowing what they mean.
    if bits is not None and prod(entry.shape) * bits != (end - begin) * 8:
        raise HeaderError(
            f"Tensor {name!r} has {end - begin} bytes, which is not {entry.dtype} of shape {entry.shape}."
        )
    return Tensor(name, entry.dtype, tuple(entry.shape), data_start + begin, data_start + end)
