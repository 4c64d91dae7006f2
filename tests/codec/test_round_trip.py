"""What goes into a blob comes out of it, whatever it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.codec.contents import DTYPES, bf16_weights, contents, dtypes, f32_weights, make, upcast_bf16
from zitcache.codec import planes
from zitcache.codec.blob import blob_id, decode, decode_into, encode, encode_metadata
from zitcache.codec.frame import HEADER_SIZE, Codec, FrameHeader, FrameKind
from zitcache.codec.planes import CHUNK_ELEMENTS, PLANES_OF_WIDTH, Layout, Mode


@settings(max_examples=400, deadline=None)
@given(contents, dtypes)
@example(b"", None)
@example(b"x", "F64")
@example(bytes(8), "F32")
def test_every_content_of_every_dtype_comes_back(data: bytes, dtype: str | None) -> None:
    blob = encode(data, dtype)
    frame = blob.to_bytes()
    assert len(frame) == blob.size <= len(data) + HEADER_SIZE
    header, decoded = decode(frame)
    assert decoded == data
    assert header == blob.header == FrameHeader.unpack(frame)
    assert (header.id, header.raw_size, header.kind) == (blob_id(data), len(data), FrameKind.DATA)
    assert encode(data, dtype).to_bytes() == frame, "encoding is deterministic"


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_at_every_small_length(dtype: str | None) -> None:
    data = make("upcast bf16", 300, 1)
    for length in range(301):
        assert decode(encode(data[:length], dtype).to_bytes())[1] == data[:length]


def test_any_buffer_can_be_encoded() -> None:
    data = make("bf16", 5000, 2)
    frames = {encode(make_buffer(data), "BF16").to_bytes() for make_buffer in (bytes, bytearray, memoryview)}
    unaligned = memoryview(b"x" + data)[1:]
    assert frames == {encode(unaligned, "BF16").to_bytes()}


def test_a_known_id_is_taken_as_it_is() -> None:
    assert encode(b"abc", known_id=bytes(32)).header.id == bytes(32)


@settings(max_examples=150, deadline=None)
@given(
    contents,
    st.sampled_from(sorted(PLANES_OF_WIDTH)),
    st.booleans(),
    st.lists(st.sampled_from([Mode.RAW, Mode.ZSTD]), min_size=4, max_size=4),
)
def test_every_way_to_split_numbers_comes_back(
    data: bytes, width: int, rotated: bool, modes: list[Mode]
) -> None:
    layout = Layout(width, rotated and width > 1, tuple(modes[: len(PLANES_OF_WIDTH[width])]))
    payload = b"".join(planes.encode(data, layout))
    out = bytearray(len(data))
    planes.decode(payload, memoryview(out))
    assert bytes(out) == data


@pytest.mark.parametrize(("width", "value"), [(4, 0), (4, 0x1234), (8, 0), (8, 0xDEADBEEF)])
def test_a_constant_plane_of_any_value_comes_back(width: int, value: int) -> None:
    """zitcache writes only zeros as a constant plane; the format allows any value."""
    count = CHUNK_ELEMENTS + 5
    low_width = width // 2
    numbers = np.random.default_rng(3).integers(0, 1 << 16, count).astype(f"u{width}") << np.uint8(
        8 * low_width
    )
    modes = (Mode.CONSTANT, *[Mode.RAW] * (len(PLANES_OF_WIDTH[width]) - 1))
    payload = bytearray(b"".join(planes.encode(numbers.tobytes(), Layout(width, True, modes))))
    begin = 8 + 16 * len(modes)
    payload[begin : begin + low_width] = value.to_bytes(low_width, "little")
    out = bytearray(count * width)
    planes.decode(payload, memoryview(out))
    assert bytes(out) == (numbers | numbers.dtype.type(value)).tobytes()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 1000, 1 << 20])
def test_metadata_comes_back(size: int) -> None:
    data = make("text", size, 4)
    blob = encode_metadata(data, FrameKind.TREE)
    assert blob.size <= size + HEADER_SIZE
    assert decode(blob.to_bytes()) == (blob.header, data)
    assert blob.header.kind is FrameKind.TREE


RATIOS = {
    "bf16": ("BF16", lambda rng: bf16_weights(2 << 20, rng).tobytes(), 0.67),
    "fp32 upcast from bf16": ("F32", lambda rng: upcast_bf16(1 << 20, rng).tobytes(), 0.35),
    "true fp32": ("F32", lambda rng: f32_weights(1 << 20, rng).tobytes(), 0.84),
    "fp32 upcast, dtype unknown": (None, lambda rng: upcast_bf16(1 << 20, rng).tobytes(), 0.35),
    "bf16, dtype unknown": (None, lambda rng: bf16_weights(2 << 20, rng).tobytes(), 0.67),
    "zeros": ("F32", lambda rng: bytes(4 << 20), 0.001),
    "text": (None, lambda rng: make("text", 4 << 20, 5), 0.15),
    "noise": (None, lambda rng: rng.bytes(4 << 20), 1.0001),
}


@pytest.mark.parametrize("name", RATIOS)
def test_weights_shrink_as_promised(name: str) -> None:
    dtype, generate, most = RATIOS[name]
    data = generate(np.random.default_rng(6))
    blob = encode(data, dtype)
    assert blob.size / len(data) <= most
    assert decode(blob.to_bytes())[1] == data


def test_each_content_gets_the_codec_that_suits_it() -> None:
    rng = np.random.default_rng(7)
    assert encode(upcast_bf16(10_000, rng).tobytes(), "F32").header.codec is Codec.PLANES
    assert encode(b'{"size": 1, "pieces": []}\n' + rng.bytes(300) * 9).header.codec is Codec.ZSTD
    assert encode(rng.bytes(200_000)).header.codec is Codec.RAW
    assert encode(bytes(10_000), "BF16").header.codec is Codec.CONSTANT


def test_threads_do_not_disturb_each_other() -> None:
    kinds = ["bf16", "fp32", "upcast bf16", "text", "noise", "fp64", "upcast fp16", "small integers"]
    types = ["BF16", "F32", "F32", None, None, "F64", "F32", None]
    inputs = [
        (make(kind, 600_000 + 1000 * turn + number, number), dtype)
        for number, (kind, dtype) in enumerate(zip(kinds, types, strict=True))
        for turn in range(3)
    ]
    expected = [encode(data, dtype).to_bytes() for data, dtype in inputs]

    def both_ways(number: int) -> bool:
        data, dtype = inputs[number % len(inputs)]
        blob = encode(data, dtype)
        frame = blob.to_bytes()
        out = bytearray(len(data))
        decode_into(blob.header, memoryview(frame)[HEADER_SIZE:], memoryview(out))
        return frame == expected[number % len(inputs)] and bytes(out) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(both_ways, range(4 * len(inputs))))
