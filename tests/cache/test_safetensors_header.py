"""The header reader believes nothing: real files are read, every kind of lie is named."""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cache.builders import safetensors, with_header
from zitcache.cache.safetensors_header import (
    BITS_PER_ELEMENT,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    Header,
    HeaderError,
    TruncatedFileError,
    parse_header,
    read_header,
)


def read(path: Path) -> Header:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_header(fd, path.stat().st_size)
    finally:
        os.close(fd)


def read_bytes(tmp_path: Path, content: bytes) -> Header:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    return read(path)


def entry(dtype: object = "U8", shape: object = (1,), offsets: object = (0, 1)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refuse(tmp_path: Path, header: object, expected: str, payload: bytes = b"\0" * 8) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    with pytest.raises(HeaderError, match=expected):
        read_bytes(tmp_path, with_header(raw) + payload)


def test_tensors_come_in_file_order_with_absolute_offsets(tmp_path: Path) -> None:
    content = safetensors({"b": ("F32", [2], b"12345678"), "a": ("U8", [3], b"abc")}, {"format": "pt"})
    header = read_bytes(tmp_path, content)
    assert [tensor.name for tensor in header.tensors] == ["b", "a"]
    assert [content[t.start : t.end] for t in header.tensors] == [b"12345678", b"abc"]
    assert header.payload_end == len(content)
    assert header.metadata == {"format": "pt"}


def test_a_file_without_tensors_is_sound(tmp_path: Path) -> None:
    header = read_bytes(tmp_path, with_header(b"{}"))
    assert (header.tensors, header.payload_end) == ((), 10)


def test_trailing_bytes_are_legal(tmp_path: Path) -> None:
    content = safetensors({"a": ("U8", [3], b"abc")})
    assert read_bytes(tmp_path, content + b"more").payload_end == len(content)


def test_empty_and_scalar_tensors_are_legal(tmp_path: Path) -> None:
    header = read_bytes(tmp_path, safetensors({"e": ("F32", [0, 7], b""), "s": ("F32", [], b"1234")}))
    assert {tensor.name: tensor.shape for tensor in header.tensors} == {"e": (0, 7), "s": ()}


@pytest.mark.parametrize("dtype", sorted(BITS_PER_ELEMENT))
def test_every_dtype_of_upstream_is_known(tmp_path: Path, dtype: str) -> None:
    size = BITS_PER_ELEMENT[dtype] * 8 // 8
    assert read_bytes(tmp_path, safetensors({"a": (dtype, [8], b"\0" * size)})).tensors[0].dtype == dtype
    with pytest.raises(HeaderError, match="is not"):
        read_bytes(tmp_path, safetensors({"a": (dtype, [8], b"\0" * (size + 1))}))


def test_a_dtype_of_the_future_is_kept_unchecked(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, safetensors({"a": ("F3_E1M1", [8], b"abc")})).tensors[0].dtype == "F3_E1M1"


def test_half_a_byte_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, {"a": entry("F4", [3], [0, 1])}, "is not F4")


@pytest.mark.parametrize("content", [b"", b"\0", b"1234567"])
def test_a_file_shorter_than_eight_bytes_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(HeaderError, match="at least 8"):
        read_bytes(tmp_path, content)


def test_a_header_of_10_gb_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 10 * 10**9))
        file.truncate(11 * 10**9)
    with pytest.raises(HeaderError, match=f"allows {MAX_HEADER_BYTES}"):
        read(path)


@pytest.mark.parametrize("length", [3, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(HeaderError, match="claims"):
        read_bytes(tmp_path, struct.pack("<Q", length) + b"{}")


def test_a_truncated_payload_says_how_long_the_file_should_be(tmp_path: Path) -> None:
    content = safetensors({"a": ("U8", [100], b"x" * 100)})
    with pytest.raises(TruncatedFileError, match="describes") as caught:
        read_bytes(tmp_path, content[:-1])
    assert caught.value.expected_size == len(content)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"1", b"null", b'"a"', b'{"a":1}x', b"\xff\xfe", b'{"\xff":{}}', b'{"\\ud800":{}}'],
)
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, raw: bytes) -> None:
    refuse(tmp_path, raw, "header|described")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "header|described")
    refuse(tmp_path, b'{"a":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", "header|described")


@pytest.mark.parametrize(
    "bad",
    [
        entry(offsets=[-1, 0]),
        entry(offsets=[0, -1]),
        entry(offsets=[0, True]),
        entry(offsets=[False, 1]),
        entry(offsets=[0, 1.0]),
        entry(offsets=[0, "1"]),
        entry(offsets=[0]),
        entry(offsets=[0, 1, 2]),
        entry(offsets=[0, 2**64]),
        entry(offsets=None),
        entry(shape=[True]),
        entry(shape=[-1]),
        entry(shape=[1.5]),
        entry(shape=[2**63]),
        entry(shape=1),
        entry(shape=[1] * 65),
        entry(dtype=3),
        entry(dtype=None),
        entry(dtype="x" * 65),
        {"dtype": "U8"},
        [],
        None,
    ],
)
def test_a_tensor_of_wrong_types_is_refused_by_name(tmp_path: Path, bad: object) -> None:
    refuse(tmp_path, {"the.bad.one": bad}, "the.bad.one")


def test_an_end_before_the_beginning_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, {"a": entry(offsets=[4, 2])}, "before it begins")


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, {"a": entry("U8", [4], [0, 4]), "b": entry("U8", [4], [2, 6])}, "'b' overlaps")


def test_a_gap_between_tensors_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, {"a": entry("U8", [2], [0, 2]), "b": entry("U8", [2], [4, 6])}, "gap of 2 bytes")


def test_a_size_that_does_not_fit_dtype_and_shape_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, {"a": entry("F32", [2], [0, 4])}, "is not F32")


def test_a_shape_whose_product_overflows_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, {"a": entry("U8", [2**40, 2**40], [0, 0])}, "is not U8")


def test_an_absurd_number_of_tensors_is_refused() -> None:
    raw = b"{" + b'"a":{},' * (MAX_TENSORS + 2) + b'"b":{}}'
    with pytest.raises(HeaderError, match="absurd"):
        parse_header(raw, len(raw) + 8)


def test_an_absurd_metadata_is_refused() -> None:
    raw = b'{"__metadata__":{' + b'"a":"",' * (5 * MAX_TENSORS) + b'"b":""}}'
    with pytest.raises(HeaderError, match="absurd"):
        parse_header(raw, len(raw) + 8)


@pytest.mark.parametrize("metadata", [1, [], {"a": 1}, {"a": None}, "x"])
def test_metadata_other_than_texts_is_refused(tmp_path: Path, metadata: object) -> None:
    refuse(tmp_path, {"__metadata__": metadata}, "__metadata__")


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(with_header(b"{}")[:9])
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(HeaderError, match="shorter"):
        read_header(fd, 10)
    os.close(fd)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
_offset = st.integers(-2, 40) | st.integers(2**31 - 1, 2**65) | st.booleans()
_entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "F32", "BF16", "F4", "XYZ"]) | _json,
        "shape": st.lists(_offset, max_size=3) | _json,
        "data_offsets": st.lists(_offset, min_size=2, max_size=2) | _json,
    }
)


@settings(max_examples=400, deadline=None)
@given(header=st.dictionaries(st.text(max_size=4), _entries, max_size=4), file_size=st.integers(0, 200))
def test_whatever_a_header_says_the_result_is_sound_or_refused(
    header: dict[str, object], file_size: int
) -> None:
    raw = json.dumps(header).encode()
    try:
        parsed = parse_header(raw, file_size)
    except HeaderError:
        return
    position = parsed.data_start
    for tensor in parsed.tensors:
        assert tensor.start == position <= tensor.end <= file_size
        position = tensor.end
    assert parsed.payload_end == position


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(content: bytes) -> None:
    with os.fdopen(os.memfd_create("header"), "r+b") as file:
        file.write(content)
        file.flush()
        with suppress(HeaderError):
            read_header(file.fileno(), len(content))


_tensors = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.tuples(
        st.sampled_from(["float32", "float16", "float64", "int8", "uint8", "int64", "bool", "uint16"]),
        st.lists(st.integers(0, 4), max_size=3),
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(tensors=_tensors)
def test_what_the_safetensors_package_writes_is_read_back(tensors: dict[str, tuple[str, list[int]]]) -> None:
    writer = pytest.importorskip("safetensors.numpy", reason="needs the safetensors package")
    numpy = pytest.importorskip("numpy")
    tensors.pop("__metadata__", None)
    arrays = {name: numpy.zeros(shape, dtype) for name, (dtype, shape) in tensors.items()}
    content = writer.save(arrays, {"made": "here"})
    with os.fdopen(os.memfd_create("header"), "r+b") as file:
        file.write(content)
        file.flush()
        header = read_header(file.fileno(), len(content))
    assert header.payload_end == len(content)
    assert {t.name: t.shape for t in header.tensors} == {name: array.shape for name, array in arrays.items()}
    assert all(t.end - t.start == arrays[t.name].nbytes for t in header.tensors)
