"""The frame: 64 bytes that say what an encoded blob is, followed by its payload.

Everything zitcache stores is a frame: blobs inside packs, tables of contents, index and snapshot objects.
A frame can be checked and decoded with nothing but itself. The layout is in docs/FORMAT.md, section "Frames".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from blake3 import blake3

from zitcache.errors import IntegrityError, UnsupportedFormat

MAGIC = b"ZCF1"
HEADER_SIZE = 64
MAX_RAW_SIZE = 256 << 20
"""Bound on what a header may claim, so that a forged one cannot exhaust the memory."""

_FIELDS = struct.Struct("<4sBBBBQQ32s")
_CHECK_SIZE = HEADER_SIZE - _FIELDS.size


class Codec(IntEnum):
    """How a payload turns back into the blob."""

    RAW = 0
    ZSTD = 1
    PLANES = 2
    CONSTANT = 3


class FrameKind(IntEnum):
    """What a blob holds."""

    DATA = 0
    PIECES = 1
    TREE = 2
    INDEX = 3
    SNAPSHOT = 4
    CONTENTS = 5
    RECORD = 6


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """``raw_size`` and ``payload_size`` in bytes; ``id`` is the BLAKE3 of the decoded blob (32 bytes)."""

    codec: Codec
    kind: FrameKind
    raw_size: int
    payload_size: int
    id: bytes

    @property
    def frame_size(self) -> int:
        """Bytes of header and payload together."""
        return HEADER_SIZE + self.payload_size

    def pack(self) -> bytes:
        """The 64 header bytes."""
        fields = _FIELDS.pack(MAGIC, self.codec, 0, self.kind, 0, self.raw_size, self.payload_size, self.id)
        return fields + blake3(fields).digest(length=_CHECK_SIZE)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> FrameHeader:
        """Read a header.

        Raises :class:`IntegrityError` if these are not (or no longer) the bytes of a frame header, and
        :class:`UnsupportedFormat` for a codec, kind or flag of a later version.
        """
        header = bytes(data[:HEADER_SIZE])
        if len(header) < HEADER_SIZE:
            raise IntegrityError("A frame is cut short: its header is not complete.")
        fields, check = header[: _FIELDS.size], header[_FIELDS.size :]
        magic, codec, flags, kind, reserved, raw_size, payload_size, blob_id = _FIELDS.unpack(fields)
        if magic != MAGIC:
            raise IntegrityError("These bytes are not a frame: the magic number is missing.")
        if blake3(fields).digest(length=_CHECK_SIZE) != check:
            raise IntegrityError("A frame header is damaged: its check bytes do not match.")
        if flags or reserved:
            raise UnsupportedFormat(f"A frame uses features this version does not know (flags {flags:#x}).")
        try:
            known_codec, known_kind = Codec(codec), FrameKind(kind)
        except ValueError:
            raise UnsupportedFormat(
                f"A frame uses codec {codec}, kind {kind}; this version knows neither."
            ) from None
        if raw_size > MAX_RAW_SIZE or payload_size > MAX_RAW_SIZE:
            raise IntegrityError(f"A frame claims {raw_size} bytes; the format allows {MAX_RAW_SIZE}.")
        return cls(known_codec, known_kind, raw_size, payload_size, blob_id)
