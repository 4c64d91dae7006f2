"""zstd, tuned for exponent planes and for text, with one set of contexts per thread.

On an exponent plane matches are chance hits that cost time and bytes. These parameters make zstd almost a
pure Huffman coder (a fast strategy, tiny tables, matches of at least seven bytes); any zstd decodes it.
"""

from __future__ import annotations

import threading

import zstandard

from zitcache.errors import IntegrityError

_NEAR_HUFFMAN = zstandard.ZstdCompressionParameters(
    window_log=17,
    chain_log=6,
    hash_log=6,
    search_log=1,
    min_match=7,
    target_length=0,
    strategy=zstandard.STRATEGY_FAST,
)
_GENERAL_LEVEL = 3
_METADATA_LEVEL = 12


class _Contexts(threading.local):
    """zstd contexts are not thread-safe, and dear to make: one set per thread."""

    def __init__(self) -> None:
        self.near_huffman = zstandard.ZstdCompressor(compression_params=_NEAR_HUFFMAN)
        self.general = zstandard.ZstdCompressor(level=_GENERAL_LEVEL)
        self.metadata = zstandard.ZstdCompressor(level=_METADATA_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()

BufferLike = bytes | bytearray | memoryview


def compress_plane(data: BufferLike) -> bytes:
    """One zstd frame by the near-Huffman parameters."""
    return _contexts.near_huffman.compress(data)


def compress_general(data: BufferLike) -> bytes:
    """One zstd frame at an ordinary level, for bytes that have structure."""
    return _contexts.general.compress(data)


def compress_metadata(data: BufferLike) -> bytes:
    """One zstd frame at a thorough level, for JSON that is written once."""
    return _contexts.metadata.compress(data)


def check_size(frame: BufferLike, size: int) -> None:
    """Raise :class:`IntegrityError` if a zstd frame does not declare ``size`` bytes; allocates nothing."""
    try:
        declared = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"A compressed frame is damaged ({error}).") from None
    if declared != size:
        raise IntegrityError("A compressed frame does not have the size that its blob declares.")


def decompress(frame: BufferLike, size: int) -> bytes:
    """The ``size`` bytes of one zstd frame.

    Raises :class:`IntegrityError` if the frame is damaged or would give another number of bytes; what it
    claims is compared before anything is allocated.
    """
    check_size(frame, size)
    try:
        data = _contexts.decompressor.decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"A compressed frame is damaged ({error}).") from None
    if len(data) != size:
        raise IntegrityError("A compressed frame does not have the size that its blob declares.")
    return data
