"""Cutting: pieces cover a file exactly, and the same tensors become the same blobs wherever they lie."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cache.builders import safetensors, with_header, write
from tests.repository.builders import SMALL_PIECES, back_up, reopened
from zitcache.cache.cutting import Piece, cut_file
from zitcache.cache.safetensors_header import BITS_PER_ELEMENT
from zitcache.codec.blob import blob_id
from zitcache.repository.records import CuttingRules
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage

RULES = SMALL_PIECES
WHOLE_BYTES = sorted(dtype for dtype, bits in BITS_PER_ELEMENT.items() if bits % 8 == 0)
Tensors = dict[str, tuple[str, list[int], bytes]]


def tensor(dtype: str, size: int, seed: int) -> tuple[str, list[int], bytes]:
    """A tensor of about ``size`` bytes: as many whole numbers as fit."""
    width = BITS_PER_ELEMENT[dtype] // 8
    count = size // width
    return dtype, [count], np.random.default_rng(seed).bytes(count * width)


def pieces_of(data: bytes, path: Path, rules: CuttingRules = RULES) -> tuple[Piece, ...]:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return cut_file(fd, len(data), rules)
    finally:
        os.close(fd)


def assert_covers(pieces: Iterable[Piece], size: int, rules: CuttingRules = RULES) -> None:
    position = 0
    for piece in pieces:
        assert piece.offset == position
        assert 0 < piece.length <= rules.piece_size
        position += piece.length
    assert position == size


def ids(data: bytes, path: Path, rules: CuttingRules = RULES) -> set[bytes]:
    return {blob_id(data[at.offset : at.offset + at.length]) for at in pieces_of(data, path, rules)}


sizes = st.one_of(
    st.sampled_from([0, 1, 1023, 1024, 1025, 4095, 4096, 4097, 8192]),
    st.integers(0, 2000),
    st.integers(0, 20_000),
)
all_rules = st.builds(
    CuttingRules,
    piece_size=st.sampled_from([4096, 5000, 65536]),
    merge_below=st.sampled_from([0, 100, 1024, 9000]),
)


@settings(max_examples=200, deadline=None)
@given(
    layout=st.lists(st.tuples(st.sampled_from(WHOLE_BYTES), sizes), max_size=12),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=500), max_size=20) | st.none(),
    behind=st.binary(max_size=100),
    rules=all_rules,
)
def test_pieces_cover_a_safetensors_file_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    layout: list[tuple[str, int]],
    metadata: dict[str, str] | None,
    behind: bytes,
    rules: CuttingRules,
) -> None:
    tensors = {f"t{number}": tensor(dtype, size, number) for number, (dtype, size) in enumerate(layout)}
    data = safetensors(tensors, metadata) + behind
    pieces = pieces_of(data, tmp_path_factory.getbasetemp() / "a.safetensors", rules)
    assert_covers(pieces, len(data), rules)
    # No piece holds numbers of two dtypes, and a large tensor is cut from its own start.
    position = 8 + int.from_bytes(data[:8], "little")
    starts = {piece.offset for piece in pieces}
    assert position in starts or position == len(data)
    for dtype, _, content in tensors.values():
        end = position + len(content)
        for piece in pieces:
            if content and piece.offset < end and piece.offset + piece.length > position:
                assert piece.dtype == dtype
        if len(content) >= rules.merge_below and content:
            assert starts.issuperset(range(position, end, rules.piece_size))
        position = end


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=20_000), st.sampled_from(["a.bin", "a.safetensors", "config.json"]), all_rules)
def test_pieces_cover_any_other_file_exactly(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str, rules: CuttingRules
) -> None:
    pieces = pieces_of(data, tmp_path_factory.getbasetemp() / name, rules)
    assert_covers(pieces, len(data), rules)
    assert [piece.offset for piece in pieces] == list(range(0, len(data), rules.piece_size))


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 10 << 30) + b"{}",
        struct.pack("<Q", (1 << 64) - 1) + b"{}",
        with_header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}'),
        with_header(b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}')[:-3],
        with_header(b'{"a": {"dtype": "U8", "shape": [9999999], "data_offsets": [0, 9999999]}}'),
        with_header(
            b'{"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},'
            b' "b": {"dtype": "U8", "shape": [8], "data_offsets": [4, 12]}}'
        ),
        with_header(b"[" * 1000),
        b"",
        b"1234",
    ],
)
def test_a_broken_safetensors_file_is_cut_like_any_other(tmp_path: Path, header: bytes) -> None:
    data = header + bytes(range(256)) * 40
    pieces = pieces_of(data, tmp_path / "model.safetensors")
    assert_covers(pieces, len(data))
    assert {piece.dtype for piece in pieces} == {None}


def test_small_neighbours_of_one_dtype_share_a_piece(tmp_path: Path) -> None:
    sizes_of = {"a": 500, "b": 600, "c": 1000, "d": 900, "e": 1022, "f": 1000}  # 4022 to e, 5022 to f
    tensors: Tensors = {name: tensor("BF16", size, 1) for name, size in sizes_of.items()}
    tensors["g"] = tensor("F16", 500, 2)
    pieces = pieces_of(safetensors(tensors), tmp_path / "a.safetensors")
    assert [(piece.length, piece.dtype) for piece in pieces[1:]] == [
        (4022, "BF16"),
        (1000, "BF16"),
        (500, "F16"),
    ]


def test_the_same_tensors_in_two_files_give_the_same_blobs(tmp_path: Path) -> None:
    """The header differs, the order differs, the file's name differs; what is large is found again."""
    large: Tensors = {f"large{number}": tensor("BF16", 10_000 + number * 2, number) for number in range(4)}
    one = safetensors({**large, "small": tensor("F32", 100, 9)}, {"format": "pt"})
    other = safetensors({"first": tensor("F32", 400, 10), **dict(reversed(large.items()))})
    shared = ids(one, tmp_path / "a.safetensors") & ids(other, tmp_path / "b.safetensors")
    # Three pieces each, and none of header or small tensors.
    assert len(shared) == 4 * 3


def test_a_model_that_was_cut_into_other_shards_shares_its_blobs(tmp_path: Path) -> None:
    tensors: Tensors = {f"layer{number}": tensor("F32", 9000, number) for number in range(6)}
    whole = ids(safetensors(tensors), tmp_path / "model.safetensors")
    shards: set[bytes] = set()
    for start in range(0, 6, 2):
        part = {name: tensors[name] for name in list(tensors)[start : start + 2]}
        shards |= ids(safetensors(part), tmp_path / f"model-{start}.safetensors")
    assert len(shards - whole) == 3, "only the headers are new"
    assert len(whole - shards) == 1


def test_a_blob_of_a_hugging_face_cache_is_recognised_without_its_suffix(tmp_path: Path) -> None:
    data = safetensors({"a": tensor("BF16", 6000, 1), "b": tensor("BF16", 7000, 2)})
    assert pieces_of(data, tmp_path / ("ab" * 32)) == pieces_of(data, tmp_path / "a.safetensors")
    small = safetensors({"a": tensor("BF16", 100, 1)})
    assert pieces_of(small, tmp_path / ("cd" * 32)) == pieces_of(small, tmp_path / "a.safetensors")


def test_cutting_depends_on_nothing_but_the_bytes_and_the_rules(tmp_path: Path) -> None:
    data = safetensors({"a": tensor("BF16", 6000, 1)})
    assert pieces_of(data, tmp_path / "a.safetensors") == pieces_of(data, tmp_path / "b.safetensors")
    assert pieces_of(data, tmp_path / "a.safetensors", CuttingRules()) != pieces_of(
        data, tmp_path / "a.safetensors"
    )


def test_a_backup_of_resharded_weights_stores_headers_only(tmp_path: Path) -> None:
    tensors: Tensors = {f"layer{number}": tensor("BF16", 50_000, number) for number in range(6)}
    names = list(tensors)
    one, two = tmp_path / "one", tmp_path / "two"
    write(one / "models--a--b" / "snapshots" / "main", {"model.safetensors": safetensors(tensors)})
    halves = {
        f"model-{part}.safetensors": safetensors({name: tensors[name] for name in names[part::2]})
        for part in (0, 1)
    }
    write(two / "models--a--c" / "snapshots" / "main", halves)
    Repository.create(LocalStorage(tmp_path / "repository"), cutting=SMALL_PIECES)
    first = back_up(tmp_path / "repository", one).data
    second = back_up(tmp_path / "repository", two).data
    assert first.bytes_new_stored > 290_000
    assert second.bytes_new_stored < 10_000
    assert len(reopened(Repository.open(LocalStorage(tmp_path / "repository"))).snapshot_ids()) == 2
