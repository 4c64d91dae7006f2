"""Damaged and forged frames: told, never decoded wrongly, never expensive."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.contents import DTYPES, make
from zitcache.codec.blob import blob_id, decode, decode_into, encode
from zitcache.codec.frame import HEADER_SIZE, MAGIC, MAX_RAW_SIZE, Codec, FrameHeader, FrameKind
from zitcache.codec.planes import CHUNK_ELEMENTS, PLANES_OF_WIDTH
from zitcache.errors import IntegrityError, UnsupportedFormat

REFUSALS = (IntegrityError, UnsupportedFormat)
GIB = 1 << 30

SAMPLES = {
    "raw": (make("noise", 300, 1), None),
    "constant": (bytes(50), None),
    "zstd": (make("text", 900, 2), None),
    "planes": (make("bf16", 901, 3), "BF16"),
    "planes with a constant one": (make("upcast bf16", 803, 4), "F32"),
    "several chunks": (make("upcast bf16", 8 * CHUNK_ELEMENTS + 3, 5), "F32"),
}


def frame_of(sample: str) -> bytes:
    data, dtype = SAMPLES[sample]
    return encode(data, dtype).to_bytes()


def forged(
    payload: bytes,
    *,
    raw_size: int,
    payload_size: int | None = None,
    codec: int = Codec.RAW,
    flags: int = 0,
    kind: int = FrameKind.DATA,
    reserved: int = 0,
    identity: bytes = bytes(32),
) -> bytes:
    """A frame whose check bytes are right, whatever it claims."""
    size = len(payload) if payload_size is None else payload_size
    fields = struct.pack("<4sBBBBQQ32s", MAGIC, codec, flags, kind, reserved, raw_size, size, identity)
    return fields + blake3(fields).digest(length=8) + payload


def decodes_to(frame: bytes) -> bytes | None:
    """The content; None if it was refused in the proper way. Anything else fails the test."""
    try:
        return decode(frame)[1]
    except REFUSALS:
        return None


@contextmanager
def allocating_at_most(size: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sample", [name for name in SAMPLES if name != "several chunks"])
def test_every_flipped_bit_is_noticed_or_harmless(sample: str) -> None:
    """A zstd frame has a few bits that no decoder looks at; a flip of any other one is refused."""
    data, frame = SAMPLES[sample][0], frame_of(sample)
    harmless = 0
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        found = decodes_to(bytes(damaged))
        assert found in (None, data), f"bit {bit} changes the content"
        assert bit >= 8 * HEADER_SIZE or found is None, f"bit {bit} of the header"
        harmless += found is not None
    assert harmless <= (16 if b"\x28\xb5\x2f\xfd" in frame else 0)


@settings(max_examples=400, deadline=None)
@given(bit=st.integers(0, 8 * len(frame_of("several chunks")) - 1))
def test_a_flipped_bit_in_a_large_blob_is_noticed_or_harmless(bit: int) -> None:
    damaged = bytearray(frame_of("several chunks"))
    damaged[bit // 8] ^= 1 << bit % 8
    assert decodes_to(bytes(damaged)) in (None, SAMPLES["several chunks"][0])


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_truncated_or_longer_frame_is_refused(sample: str) -> None:
    frame = frame_of(sample)
    for length in {*range(min(len(frame), 400)), len(frame) // 2, len(frame) - 1}:
        assert decodes_to(frame[:length]) is None
    assert decodes_to(frame + b"\0") is None


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from([name for name in SAMPLES if name != "several chunks"]),
    st.integers(0, 1000),
    st.integers(0, 40),
    st.binary(max_size=40),
)
def test_replaced_bytes_are_noticed_or_harmless(sample: str, start: int, removed: int, added: bytes) -> None:
    frame = frame_of(sample)
    start %= len(frame)
    assert decodes_to(frame[:start] + added + frame[start + removed :]) in (None, SAMPLES[sample][0])


small = st.integers(0, 20)
u32 = st.one_of(small, st.integers(0, (1 << 32) - 1), st.just(CHUNK_ELEMENTS), st.just(4096))
u64 = st.one_of(small, st.integers(0, (1 << 64) - 1))
plane = st.builds(struct.Struct("<BBBBIQ").pack, small, small, st.integers(0, 4), small, u32, u64)
planes_payload = st.builds(
    lambda width, rotated, count, tail, chunk, table, rest: (
        struct.pack("<BBBBI", width, rotated, count, tail, chunk) + b"".join(table) + rest
    ),
    st.sampled_from([0, 1, 2, 3, 4, 8, 16]),
    st.integers(0, 2),
    st.integers(0, 5),
    st.integers(0, 8),
    u32,
    st.lists(plane, max_size=5),
    st.binary(max_size=100),
)
zstd_payload = st.builds(
    lambda data, garbage: zstandard.compress(data) + garbage, st.binary(max_size=100), st.binary(max_size=4)
)


@settings(max_examples=1000, deadline=None)
@given(
    st.integers(0, 5),
    st.one_of(planes_payload, zstd_payload, st.binary(max_size=200)),
    st.one_of(small, st.integers(0, 5000)),
)
def test_a_forged_payload_with_right_check_bytes_is_refused(
    codec: int, payload: bytes, raw_size: int
) -> None:
    """The id is that of no content, so nothing that is decoded can be right."""
    assert decodes_to(forged(payload, raw_size=raw_size, codec=codec)) is None


def test_forged_plane_tables_are_refused_one_by_one() -> None:
    data = make("bf16", 5000, 6)
    good = encode(data, "BF16")
    payload = good.to_bytes()[HEADER_SIZE:]
    assert good.header.codec is Codec.PLANES
    # width, rotated, planes, tail, chunk; then of each plane: offset, width, mode, reserved, frames, stored
    changes = {
        (0, "<B"): 3,
        (1, "<B"): 2,
        (2, "<B"): 3,
        (3, "<B"): 1,
        (4, "<I"): 0,
        (8, "<B"): 1,
        (9, "<B"): 2,
        (10, "<B"): 3,
        (11, "<B"): 1,
        (12, "<I"): 1,
        (16, "<Q"): 1 << 63,
        (24, "<B"): 0,
        (26, "<B"): 2,
        (28, "<I"): (1 << 32) - 1,
        (32, "<Q"): 7,
        (40 + 2500, "<I"): 1,
    }
    for (offset, form), value in changes.items():
        damaged = bytearray(payload)
        struct.pack_into(form, damaged, offset, value)
        assert bytes(damaged) != payload
        with pytest.raises(IntegrityError):
            decode_into(
                FrameHeader(Codec.PLANES, FrameKind.DATA, len(data), len(payload), good.header.id),
                bytes(damaged),
                memoryview(bytearray(len(data))),
            )


@pytest.mark.parametrize("chunk", [1, 4095, CHUNK_ELEMENTS + 1, (1 << 32) - 1])
def test_chunks_that_would_cost_minutes_or_memory_are_refused(chunk: int) -> None:
    payload = struct.pack("<BBBBI", 1, 0, 1, 0, chunk) + struct.pack("<BBBBIQ", 0, 1, 2, 0, 0, 1) + b"x"
    with allocating_at_most(1 << 20), pytest.raises(IntegrityError, match="chunks"):
        decode(forged(payload, raw_size=MAX_RAW_SIZE, codec=Codec.PLANES))


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("size", [MAX_RAW_SIZE + 1, GIB, (1 << 64) - 1])
def test_a_frame_that_claims_a_gigabyte_is_refused_before_anything_is_allocated(
    codec: Codec, size: int
) -> None:
    with allocating_at_most(1 << 20), pytest.raises(IntegrityError, match="claims"):
        decode(forged(b"12345678", raw_size=size, codec=codec))
    with allocating_at_most(1 << 20), pytest.raises(IntegrityError, match="claims"):
        decode(forged(b"12345678", raw_size=8, payload_size=size, codec=codec))


def lying_zstd(claimed: int, content: bytes) -> bytes:
    """A zstd frame (RFC 8878, 3.1.1) that declares another size than it has."""
    blocks = zstandard.ZstdCompressor(write_content_size=False).compress(content)
    assert blocks[4] >> 5 == 0
    # Frame header descriptor: an 8-byte content size, and the window descriptor that was there stays.
    return (
        blocks[:4] + bytes([blocks[4] | 0b1100_0000]) + blocks[5:6] + struct.pack("<Q", claimed) + blocks[6:]
    )


def test_a_zstd_frame_that_lies_about_its_size_is_refused_before_anything_is_allocated() -> None:
    honest = lying_zstd(1000, bytes(1000))
    assert zstandard.decompress(honest) == bytes(1000), "the frame is made rightly"
    million = MAX_RAW_SIZE
    for claimed, raw_size in (
        (GIB, 1000),
        (million, 1000),
        (1000, million),
        (0, 1000),
        ((1 << 64) - 3, 1000),
    ):
        with allocating_at_most(1 << 20), pytest.raises(IntegrityError):
            decode(forged(lying_zstd(claimed, bytes(1000)), raw_size=raw_size, codec=Codec.ZSTD))


def test_a_zstd_frame_that_holds_more_than_it_declares_is_refused() -> None:
    bomb = lying_zstd(1000, bytes(50 << 20))
    with allocating_at_most(1 << 20), pytest.raises(IntegrityError):
        decode(forged(bomb, raw_size=1000, codec=Codec.ZSTD, identity=blob_id(bytes(1000))))


def test_a_zstd_frame_without_a_size_is_refused() -> None:
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    with pytest.raises(IntegrityError):
        decode(forged(unsized, raw_size=1000, codec=Codec.ZSTD, identity=blob_id(bytes(1000))))


@pytest.mark.parametrize("raw_size", [0, 7, 9, MAX_RAW_SIZE])
def test_a_raw_frame_of_another_size_is_refused_before_anything_is_allocated(raw_size: int) -> None:
    with allocating_at_most(1 << 20), pytest.raises(IntegrityError):
        decode(forged(b"12345678", raw_size=raw_size))


@pytest.mark.parametrize("pattern", [b"", b"123456789"])
def test_a_constant_frame_without_a_proper_pattern_is_refused(pattern: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode(forged(pattern, raw_size=20, codec=Codec.CONSTANT))


@pytest.mark.parametrize("pattern", [b"a", b"abc", b"12345678"])
def test_a_constant_frame_of_any_period_is_read(pattern: bytes) -> None:
    data = (pattern * 20)[:20]
    assert decode(forged(pattern, raw_size=20, codec=Codec.CONSTANT, identity=blob_id(data)))[1] == data


@pytest.mark.parametrize("change", [{"flags": 1}, {"reserved": 1}, {"codec": 4}, {"kind": 7}, {"kind": 255}])
def test_a_frame_of_a_later_version_is_refused_as_such(change: dict[str, int]) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        decode(forged(b"abc", raw_size=3, identity=blob_id(b"abc"), **change))
    assert caught.value.hint


def test_a_right_payload_under_a_wrong_id_is_refused() -> None:
    with pytest.raises(IntegrityError, match="id"):
        decode(forged(b"abc", raw_size=3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_frame_of_one_dtype_never_needs_to_know_it(dtype: str | None) -> None:
    """Frames are self-describing: the dtype is a hint for encoding and is not stored."""
    data = np.arange(3000, dtype=np.uint16).tobytes()
    assert decode(encode(data, dtype).to_bytes())[1] == data


def test_every_width_has_planes_that_cover_a_number() -> None:
    for width, shapes in PLANES_OF_WIDTH.items():
        assert [offset for offset, _ in shapes] == [
            sum(size for _, size in shapes[:i]) for i in range(len(shapes))
        ]
        assert sum(size for _, size in shapes) == width
