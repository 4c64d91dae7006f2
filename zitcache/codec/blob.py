"""Encode and decode one blob: choose the codec from its dtype and a sample, never make it larger.

``encode`` is deterministic, and any frame decodes without knowing how it was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from zitcache.codec import entropy
from zitcache.codec.entropy import BufferLike
from zitcache.codec.frame import HEADER_SIZE, Codec, FrameHeader, FrameKind
from zitcache.errors import IntegrityError

if TYPE_CHECKING:
    from zitcache.codec.planes import Layout

# ``planes`` brings numpy, a third of a light command's start-up time: it is imported by the functions that
# meet weights. Metadata is never stored in planes.

FLOAT_WIDTH = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "C64": 4,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1,
}
"""Bytes per floating-point number of each safetensors dtype (a C64 is two F32)."""

_WORTH_IT = 0.97
_SAMPLE_SPOTS = 4
_SAMPLE_BYTES = 4 << 10
_SMALL = 256


@dataclass(frozen=True, slots=True)
class EncodedBlob:
    """A frame ready to be written: its header and the buffers of its payload.

    The buffers may belong to the thread that encoded it and are valid until that thread encodes again.
    """

    header: FrameHeader
    parts: tuple[BufferLike, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole frame."""
        return self.header.frame_size

    def to_bytes(self) -> bytes:
        """The whole frame in one piece."""
        return b"".join([self.header.pack(), *self.parts])


def blob_id(data: BufferLike) -> bytes:
    """The name of a blob: the BLAKE3 of its bytes (32 bytes)."""
    return blake3(data).digest()


def _sample(data: memoryview, width: int) -> bytes:
    """Up to 16 KiB from four places, cut at multiples of ``width`` so that planes stay planes."""
    if len(data) <= _SAMPLE_SPOTS * _SAMPLE_BYTES:
        return bytes(data[: len(data) - len(data) % width])
    step = (len(data) - _SAMPLE_BYTES) // (_SAMPLE_SPOTS - 1)
    spots = [number * step // 8 * 8 for number in range(_SAMPLE_SPOTS)]
    return b"".join(bytes(data[spot : spot + _SAMPLE_BYTES]) for spot in spots)


def _plane_layout(sample: bytes, width: int, rotated: bool, union: int | None) -> tuple[Layout, int]:
    """The best mode for each plane and the size to which the sample would shrink.

    ``union`` is the OR of all numbers of the blob: a plane is constant only if it shows no bit at all.
    """
    from zitcache.codec import planes
    from zitcache.codec.planes import Layout, Mode

    modes = []
    total = 0
    for (offset, size), plane in zip(
        planes.PLANES_OF_WIDTH[width], planes.split_sample(sample, width, rotated), strict=True
    ):
        below_top16 = offset + size <= width - 2
        if union is not None and below_top16 and not (union >> 8 * offset) & ((1 << 8 * size) - 1):
            modes.append(Mode.CONSTANT)
            continue
        packed = len(entropy.compress_plane(plane))
        if packed < _WORTH_IT * len(plane):
            modes.append(Mode.ZSTD)
            total += packed
        else:
            modes.append(Mode.RAW)
            total += len(plane)
    return Layout(width, rotated, tuple(modes)), total


def _encode_float(data: memoryview, width: int) -> list[BufferLike] | None:
    """Planes for numbers whose width is known; None if no plane is worth coding."""
    from zitcache.codec import planes
    from zitcache.codec.planes import Mode

    union = planes.or_of_all(data, width) if width > 2 else None
    layout, _ = _plane_layout(_sample(data, width), width, width > 1, union)
    if all(mode is Mode.RAW for mode in layout.modes):
        return None
    return planes.encode(data, layout)


def _encode_by_trial(data: memoryview) -> tuple[Codec, list[BufferLike]] | None:
    """For bytes of unknown meaning (.bin, .gguf, integers, text): whatever does best on a sample."""
    from zitcache.codec import planes
    from zitcache.codec.planes import Mode

    sample = _sample(data, 8)
    general = len(entropy.compress_general(sample)) if sample else len(data)
    best: Layout | None = None
    best_size = min(general, int(_WORTH_IT * len(sample)))
    for width, rotated in ((1, False), (2, True), (4, True)):
        layout, size = _plane_layout(sample, width, rotated, None)
        if size < 0.98 * best_size and any(mode is not Mode.RAW for mode in layout.modes):
            best, best_size = layout, size
    if best is not None:
        return Codec.PLANES, planes.encode(data, best)
    if general < _WORTH_IT * len(sample) or len(data) <= planes.CHUNK_ELEMENTS:
        return Codec.ZSTD, [entropy.compress_general(data)]
    return None


def _constant(data: memoryview) -> bytes | None:
    """The repeating 8-byte pattern of ``data`` (shorter for shorter data), if it has one throughout."""
    period = min(8, len(data))
    first = bytes(data[:period])
    if not period or len(data) < 2 * period:
        return None
    if bytes(data[-period:]) != (first * 2)[len(data) % period :][:period]:
        return None
    # Equal to itself shifted by the period = periodic; the middle is looked at first to fail early.
    middle = len(data) // 2 // period * period
    if bytes(data[middle : middle + period]) != first or data[period:] != data[:-period]:
        return None
    return first


def encode(data: BufferLike, dtype: str | None = None, *, known_id: bytes | None = None) -> EncodedBlob:
    """Encode a data blob. ``dtype`` is a safetensors dtype or None; ``known_id`` saves hashing again.

    The frame is at most :data:`HEADER_SIZE` bytes larger than the data.
    """
    view = memoryview(data).cast("B")
    identity = known_id if known_id is not None else blob_id(view)
    codec, parts = Codec.RAW, [view]
    pattern = _constant(view)
    if pattern is not None:
        codec, parts = Codec.CONSTANT, [pattern]  # type: ignore[list-item]
    elif len(view) >= _SMALL:
        width = FLOAT_WIDTH.get(dtype or "")
        candidate: tuple[Codec, list[BufferLike]] | None
        if width is None:
            candidate = _encode_by_trial(view)
        else:
            float_parts = _encode_float(view, width)
            candidate = (Codec.PLANES, float_parts) if float_parts is not None else None
        if candidate is not None and sum(map(len, candidate[1])) < len(view):
            codec, parts = candidate  # type: ignore[assignment]
    payload_size = sum(map(len, parts))
    header = FrameHeader(codec, FrameKind.DATA, len(view), payload_size, identity)
    return EncodedBlob(header, tuple(parts))


def encode_metadata(data: bytes, kind: FrameKind) -> EncodedBlob:
    """Encode JSON and the like."""
    packed = entropy.compress_metadata(data)
    codec, payload = (Codec.ZSTD, packed) if len(packed) < len(data) else (Codec.RAW, data)
    return EncodedBlob(FrameHeader(codec, kind, len(data), len(payload), blob_id(data)), (payload,))


def decode_into(header: FrameHeader, payload: BufferLike, out: memoryview) -> None:
    """Decode ``payload`` into ``out`` (exactly ``header.raw_size`` bytes). The id is not checked here.

    Raises :class:`IntegrityError` if the payload cannot be what the header says.
    """
    if len(payload) != header.payload_size or len(out) != header.raw_size:
        raise IntegrityError("A blob does not have the size that its header declares.")
    if header.codec is Codec.PLANES:
        from zitcache.codec import planes

        planes.decode(payload, out)
    elif header.codec is Codec.ZSTD:
        out[:] = entropy.decompress(payload, header.raw_size)
    elif header.codec is Codec.CONSTANT:
        if not 1 <= len(payload) <= 8:
            raise IntegrityError("A constant blob has no pattern.")
        whole, rest = divmod(header.raw_size, len(payload))
        out[:] = bytes(payload) * whole + bytes(payload[:rest])
    else:
        if header.payload_size != header.raw_size:
            raise IntegrityError("A raw blob does not have the size that its header declares.")
        out[:] = payload


def decode_expected(frame: memoryview, wanted: str, kind: FrameKind, out: memoryview) -> None:
    """Decode a whole frame into ``out``, which must be the blob ``wanted`` (hex) of this kind.

    Raises :class:`IntegrityError` if it is another one, or damaged.
    """
    header = FrameHeader.unpack(frame)
    if header.id.hex() != wanted or header.kind is not kind:
        raise IntegrityError("Another blob lies where the index says.")
    decode_into(header, frame[HEADER_SIZE:], out)
    if blob_id(out) != header.id:
        raise IntegrityError("Its content does not match its id.")


def _refuse_impossible(header: FrameHeader, payload: memoryview) -> None:
    """Raise :class:`IntegrityError` if ``payload`` cannot become what is claimed; allocates nothing."""
    if len(payload) != header.payload_size:
        raise IntegrityError("A blob does not have the size that its header declares.")
    if header.codec is Codec.RAW and header.payload_size != header.raw_size:
        raise IntegrityError("A raw blob does not have the size that its header declares.")
    if header.codec is Codec.ZSTD:
        entropy.check_size(payload, header.raw_size)
    elif header.codec is Codec.PLANES:
        from zitcache.codec import planes

        planes.check(payload, header.raw_size)


def decode(frame: BufferLike) -> tuple[FrameHeader, bytes]:
    """Decode a whole frame and check its id.

    Raises :class:`IntegrityError` if it is damaged in any way, including bytes after its end.
    """
    view = memoryview(frame)
    header = FrameHeader.unpack(view)
    payload = view[HEADER_SIZE:]
    _refuse_impossible(header, payload)
    out = bytearray(header.raw_size)
    decode_into(header, payload, memoryview(out))
    data = bytes(out)
    if blob_id(data) != header.id:
        raise IntegrityError("A blob is damaged: its content does not match its id.")
    return header, data
