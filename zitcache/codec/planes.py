"""Byte planes: split numbers so that the predictable bits stand together.

A weight's mantissa is noise and its exponent is not (about 2.6 bits of entropy in trained networks), but
the sign bit sits in front of the exponent and the exponent straddles two bytes. Rotating the top 16 bits of
each number left by one puts the whole exponent of bf16/fp32 into the top byte and the sign under the
mantissa. Then each plane is stored raw, entropy-coded or as one constant, whichever a sample suggests:

=====  ==============================  =========================================================
width  planes (byte offset, width)     example
=====  ==============================  =========================================================
1      (0,1)                           fp8: one plane, Huffman
2      (0,1) (1,1)                     bf16: sign+mantissa raw, exponent Huffman: 66 %
4      (0,2) (2,1) (3,1)               fp32: 83 %; upcast from bf16: low plane constant 0: 33 %
8      (0,4) (4,2) (6,1) (7,1)         fp64, int64
=====  ==============================  =========================================================

The work goes in chunks that fit the L2 cache: memory traffic, not arithmetic, is what costs here.
The idea of splitting by exponent: ZipNN (arXiv:2411.05239). The byte layout: docs/FORMAT.md, "Planes".
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from zitcache.codec import entropy
from zitcache.codec.arrays import np
from zitcache.errors import IntegrityError

if TYPE_CHECKING:
    import numpy.typing as npt

CHUNK_ELEMENTS = 1 << 17
"""Numbers per chunk; each entropy-coded plane has one zstd frame per chunk."""

_MIN_CHUNK_ELEMENTS = 1 << 12
"""No payload may have smaller chunks: a forged one of a few bytes could otherwise cost minutes of work."""

PLANES_OF_WIDTH: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((0, 1),),
    2: ((0, 1), (1, 1)),
    4: ((0, 2), (2, 1), (3, 1)),
    8: ((0, 4), (4, 2), (6, 1), (7, 1)),
}

_UNSIGNED: dict[int, type[np.unsignedinteger[Any]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_HEAD = struct.Struct("<BBBBI")  # width, rotated, planes, tail bytes, elements per chunk
_PLANE = struct.Struct("<BBBBIQ")  # byte offset, width, mode, reserved, frames, stored bytes
_FRAME_SIZE = struct.Struct("<I")

Array: TypeAlias = "npt.NDArray[Any]"
BufferLike = bytes | bytearray | memoryview


class Mode(IntEnum):
    """How one plane is stored."""

    RAW = 0
    ZSTD = 1
    CONSTANT = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """How to split: number ``width`` in bytes, whether the top 16 bits are rotated, a mode for each plane."""

    width: int
    rotated: bool
    modes: tuple[Mode, ...]


class _Scratch(threading.local):
    """Per-thread work arrays, made once: allocating them per chunk would cost page faults."""

    def __init__(self) -> None:
        self.a16 = np.empty(CHUNK_ELEMENTS, np.uint16)
        self.b16 = np.empty(CHUNK_ELEMENTS, np.uint16)
        self.wide = np.empty(CHUNK_ELEMENTS, np.uint64)
        self.plane = np.empty(CHUNK_ELEMENTS * 4, np.uint8)
        self._raw = np.empty(0, np.uint8)

    def raw_planes(self, sizes: list[int]) -> list[Array]:
        """One byte array for each size, out of one block that is kept: fresh pages are dear."""
        starts = [0]
        for size in sizes:
            starts.append(starts[-1] + -(-size // 64) * 64)
        if len(self._raw) < starts[-1]:
            self._raw = np.empty(starts[-1], np.uint8)
        return [self._raw[start : start + size] for start, size in zip(starts, sizes, strict=False)]


_scratch = _Scratch()


def _narrow(target: Array, source: Array) -> None:
    """Keep the low bits of each number: a vectorised narrowing copy, twice as fast as a strided one."""
    np.copyto(target, source, casting="unsafe")


def _split_chunk(numbers: Array, rotated: bool, planes: list[Array | None]) -> None:
    """Split unsigned ``numbers`` into the ``planes`` of their width; None where a plane is not wanted."""
    count = len(numbers)
    width = numbers.dtype.itemsize
    if width == 1:
        if planes[0] is not None:
            np.copyto(planes[0], numbers)
        return
    top = numbers
    if width > 2:
        wide = _scratch.wide.view(numbers.dtype)[:count]
        if planes[0] is not None:
            _narrow(planes[0], numbers)
        if width == 8 and planes[1] is not None:
            np.right_shift(numbers, np.uint64(32), out=wide)
            _narrow(planes[1], wide)
        np.right_shift(numbers, numbers.dtype.type(8 * width - 16), out=wide)
        top = _scratch.b16[:count]
        _narrow(top, wide)
    low, high = planes[-2], planes[-1]
    work = _scratch.a16[:count]
    one = np.uint16(1)
    if rotated:
        # high byte of rotl(x, 1) is x >> 7, the low byte (x << 1 | x >> 15): no rotated copy is needed.
        if high is not None:
            np.right_shift(top, np.uint16(7), out=work)
            _narrow(high, work)
        if low is not None:
            np.left_shift(top, one, out=work)
            carry = _scratch.wide.view(np.uint16)[:count]
            np.right_shift(top, np.uint16(15), out=carry)
            np.bitwise_or(work, carry, out=work)
            _narrow(low, work)
        return
    if low is not None:
        _narrow(low, top)
    if high is not None:
        np.right_shift(top, np.uint16(8), out=work)
        _narrow(high, work)


def _join_chunk(numbers: Array, rotated: bool, planes: list[Array]) -> None:
    """The inverse of :func:`_split_chunk`: fill ``numbers`` from its ``planes`` (arrays or 0-d constants)."""
    count = len(numbers)
    width = numbers.dtype.itemsize
    if width == 1:
        np.copyto(numbers, planes[0])
        return
    top = numbers if width == 2 else _scratch.b16[:count]
    work = _scratch.a16[:count]
    np.copyto(top, planes[-1])
    np.left_shift(top, np.uint16(8), out=top)
    np.bitwise_or(top, planes[-2], out=top)
    if rotated:
        np.left_shift(top, np.uint16(15), out=work)
        np.right_shift(top, np.uint16(1), out=top)
        np.bitwise_or(top, work, out=top)
    if width == 2:
        return
    kind = numbers.dtype.type
    np.copyto(numbers, top)
    np.left_shift(numbers, kind(8 * width - 16), out=numbers)
    if width == 8:
        wide = _scratch.wide[:count]
        np.copyto(wide, planes[1])
        np.left_shift(wide, np.uint64(32), out=wide)
        np.bitwise_or(numbers, wide, out=numbers)
    low = planes[0]
    if low.ndim or low:
        np.bitwise_or(numbers, low, out=numbers)


def split_sample(data: BufferLike, width: int, rotated: bool) -> list[bytes]:
    """Every plane of a small sample (at most one chunk), for trying how each compresses."""
    numbers = np.frombuffer(data, _UNSIGNED[width], count=min(len(data) // width, CHUNK_ELEMENTS))
    planes: list[Array | None] = [
        np.empty(len(numbers), _UNSIGNED[size]) for _, size in PLANES_OF_WIDTH[width]
    ]
    _split_chunk(numbers, rotated, planes)
    return [plane.tobytes() for plane in planes if plane is not None]


def or_of_all(data: BufferLike, width: int) -> int:
    """The bitwise OR of all ``width``-byte numbers: shows which bits are zero everywhere (33 GB/s)."""
    numbers = np.frombuffer(data, _UNSIGNED[width], count=len(data) // width)
    return int(np.bitwise_or.reduce(numbers)) if len(numbers) else 0


def encode(data: BufferLike, layout: Layout) -> list[BufferLike]:
    """The payload of a PLANES frame, as buffers to be written one after the other.

    They are valid until this thread encodes again. ``CONSTANT`` planes must be zero throughout; the caller
    has checked it (:func:`or_of_all`).
    """
    width = layout.width
    count = len(data) // width
    numbers = np.frombuffer(data, _UNSIGNED[width], count=count)
    tail = bytes(memoryview(data)[count * width :])
    shapes = PLANES_OF_WIDTH[width]
    raw_sizes = [
        count * size if mode is Mode.RAW else 0 for (_, size), mode in zip(shapes, layout.modes, strict=True)
    ]
    raw_planes = [
        plane.view(_UNSIGNED[size]) if mode is Mode.RAW else None
        for (_, size), mode, plane in zip(shapes, layout.modes, _scratch.raw_planes(raw_sizes), strict=True)
    ]
    frames: list[list[bytes]] = [[] for _ in shapes]
    for start in range(0, count, CHUNK_ELEMENTS):
        chunk = numbers[start : start + CHUNK_ELEMENTS]
        targets: list[Array | None] = []
        coded: list[tuple[int, Array]] = []
        used = 0
        for index, (_, size) in enumerate(shapes):
            raw = raw_planes[index]
            if raw is not None:
                targets.append(raw[start : start + len(chunk)])
            elif layout.modes[index] is Mode.ZSTD:
                # Never more than CHUNK_ELEMENTS * 4 bytes of planes wait here unless the width is 8.
                room = size * len(chunk)
                scratch = _scratch.plane if used + room <= len(_scratch.plane) else np.empty(room, np.uint8)
                begin = used if scratch is _scratch.plane else 0
                target = scratch[begin : begin + room].view(_UNSIGNED[size])
                used += room if scratch is _scratch.plane else 0
                targets.append(target)
                coded.append((index, target))
            else:
                targets.append(None)
        _split_chunk(chunk, layout.rotated, targets)
        for index, target in coded:
            frames[index].append(entropy.compress_plane(target.data))
    parts: list[BufferLike] = []
    head = _HEAD.pack(width, layout.rotated, len(shapes), len(tail), CHUNK_ELEMENTS)
    for (offset, size), mode, raw, coded_frames in zip(shapes, layout.modes, raw_planes, frames, strict=True):
        stored = 0
        if mode is Mode.RAW and raw is not None:
            parts.append(raw.view(np.uint8).data)
            stored = count * size
        elif mode is Mode.ZSTD:
            table = b"".join(_FRAME_SIZE.pack(len(frame)) for frame in coded_frames)
            parts.append(table)
            parts.extend(coded_frames)
            stored = len(table) + sum(map(len, coded_frames))
        else:
            parts.append(bytes(size))
            stored = size
        head += _PLANE.pack(offset, size, mode, 0, len(coded_frames), stored)
    return [head, *parts, tail]


@dataclass(frozen=True, slots=True)
class _StoredPlane:
    """One plane as it lies in a payload: its numbers, or the start and size of each of its zstd frames."""

    size: int
    mode: Mode
    data: memoryview
    frames: tuple[tuple[int, int], ...]

    def chunk(self, start: int, count: int, chunk_index: int) -> Array:
        """Numbers ``start .. start+count`` of the plane; 0-d if it is constant."""
        dtype = _UNSIGNED[self.size]
        if self.mode is Mode.RAW:
            return np.frombuffer(self.data, dtype, count=count, offset=start * self.size)
        if self.mode is Mode.CONSTANT:
            return np.frombuffer(self.data, dtype, count=1).reshape(())
        begin, length = self.frames[chunk_index]
        plain = entropy.decompress(self.data[begin : begin + length], count * self.size)
        return np.frombuffer(plain, dtype)


def _parse(payload: memoryview, raw_size: int) -> tuple[int, bool, int, list[_StoredPlane], memoryview]:
    """Width, rotation, chunk size, planes and tail of a payload, all bounded by its size."""
    try:
        width, rotated, plane_count, tail_size, chunk = _HEAD.unpack_from(payload)
        shapes = PLANES_OF_WIDTH.get(width)
        if shapes is None or plane_count != len(shapes) or rotated > (width > 1) or tail_size >= width:
            raise IntegrityError("A plane header makes no sense.")
        if not _MIN_CHUNK_ELEMENTS <= chunk <= CHUNK_ELEMENTS:
            raise IntegrityError("A plane's chunks are smaller or larger than the format allows.")
        count, rest = divmod(raw_size, width)
        if rest != tail_size:
            raise IntegrityError("A plane header does not fit the size of its blob.")
        chunks = -(-count // chunk)
        position = _HEAD.size + plane_count * _PLANE.size
        planes = []
        for index, shape in enumerate(shapes):
            offset, size, mode, reserved, frame_count, stored = _PLANE.unpack_from(
                payload, _HEAD.size + index * _PLANE.size
            )
            data = payload[position : position + stored]
            position += stored
            expected = {Mode.RAW: count * size, Mode.CONSTANT: size}.get(mode, stored)
            if (offset, size) != shape or reserved or len(data) != stored or stored != expected:
                raise IntegrityError("A plane does not fit the size of its blob.")
            frames = []
            if frame_count != (chunks if Mode(mode) is Mode.ZSTD else 0):
                raise IntegrityError("A plane does not have one frame for each chunk.")
            if mode == Mode.ZSTD:
                at = frame_count * _FRAME_SIZE.size
                for number in range(frame_count):
                    (length,) = _FRAME_SIZE.unpack_from(data, number * _FRAME_SIZE.size)
                    frames.append((at, length))
                    at += length
                if at != stored:
                    raise IntegrityError("The frames of a plane do not fill it.")
            planes.append(_StoredPlane(size, Mode(mode), data, tuple(frames)))
    except (struct.error, ValueError):
        raise IntegrityError("A plane header is damaged.") from None
    tail = payload[position:]
    if len(tail) != tail_size:
        raise IntegrityError("A blob's planes do not fill its payload.")
    return width, bool(rotated), chunk, planes, tail


def check(payload: BufferLike, raw_size: int) -> None:
    """Raise :class:`IntegrityError` if a PLANES payload cannot hold ``raw_size`` bytes; allocates nothing."""
    _parse(memoryview(payload), raw_size)


def decode(payload: BufferLike, out: memoryview) -> None:
    """Fill ``out`` (exactly the blob's size, writable bytes) from a PLANES payload.

    Raises :class:`IntegrityError` for anything that does not fit; never reads or writes out of bounds.
    """
    width, rotated, chunk, planes, tail = _parse(memoryview(payload), len(out))
    count = len(out) // width
    numbers = np.frombuffer(out, _UNSIGNED[width], count=count)
    for index, start in enumerate(range(0, count, chunk)):
        target = numbers[start : start + chunk]
        _join_chunk(target, rotated, [plane.chunk(start, len(target), index) for plane in planes])
    out[count * width :] = tail
