"""Packs: what was put in is found again, with the index, without it, and in spite of damage."""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec.contents import make
from tests.repository.builders import new_repository, reopened, save
from zitcache.codec.blob import blob_id, decode, encode, encode_metadata
from zitcache.codec.frame import FrameKind
from zitcache.errors import BlobDamaged, IntegrityError
from zitcache.repository.pack import MAX_BLOBS, TRAILER_SIZE, PackWriter, pack_name, read_contents
from zitcache.repository.records import BlobRecord, PackContents, PackRecord
from zitcache.storage.local import LocalStorage

BLOBS = [make("noise", 900, 1), make("bf16", 5000, 2), bytes(3000), make("text", 4000, 3), b"x"]


def write_pack(storage: LocalStorage, blobs: list[bytes]) -> PackRecord:
    writer = PackWriter(storage)
    for data in blobs:
        writer.add(encode(data))
    return writer.commit()


def path_of(storage: LocalStorage, pack: PackRecord) -> Path:
    return storage.directory / pack_name(pack.id)


def forge_pack(storage: LocalStorage, blobs: list[BlobRecord], frames: bytes) -> PackRecord:
    """A pack with a table of contents of our choice and a right trailer."""
    contents = encode_metadata(msgspec.json.encode(PackContents(blobs=blobs)), FrameKind.CONTENTS).to_bytes()
    fields = struct.pack("<QQ8s", len(frames), len(contents), b"ZCPKEND1")
    data = frames + contents + fields + blake3(fields).digest(length=8)
    name = blake3(data).hexdigest()
    storage.store(pack_name(name), data)
    return PackRecord(id=name, size=len(data), blobs=blobs)


def test_a_pack_is_named_by_its_bytes_and_lists_what_it_holds(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    pack = write_pack(storage, BLOBS)
    data = path_of(storage, pack).read_bytes()
    assert blake3(data).hexdigest() == pack.id
    assert read_contents(storage, pack.id, len(data)) == pack
    for blob, expected in zip(pack.blobs, BLOBS, strict=True):
        header, content = decode(data[blob.offset : blob.offset + blob.length])
        assert (content, header.id.hex(), len(content)) == (expected, blob.id, blob.raw_size)


def test_a_pack_of_nothing_is_a_pack(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    pack = write_pack(storage, [])
    assert read_contents(storage, pack.id, pack.size).blobs == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=600), max_size=12))
def test_any_blobs_come_back_from_a_pack(
    tmp_path_factory: pytest.TempPathFactory, blobs: list[bytes]
) -> None:
    repository = new_repository(tmp_path_factory.mktemp("pack") / "repository")
    ids = save(repository, blobs)
    fresh = reopened(repository)
    assert [fresh.load_blob(each) for each in ids] == blobs
    assert len(fresh.index) == len(set(ids))


def test_an_abandoned_pack_leaves_nothing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    writer = PackWriter(storage)
    writer.add(encode(b"x" * 5000))
    writer.abort()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_truncated_pack_is_told(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    pack = write_pack(storage, [b"a" * 100, b"b" * 100])
    path = path_of(storage, pack)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            read_contents(storage, pack.id, length)


def test_every_flipped_bit_at_the_end_of_a_pack_is_told_or_harmless(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    pack = write_pack(storage, [b"a" * 100, b"b" * 100])
    path = path_of(storage, pack)
    whole = path.read_bytes()
    end = pack.blobs[-1].offset + pack.blobs[-1].length
    unnoticed = 0
    for bit in range(8 * end, 8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read_contents(storage, pack.id, len(damaged)) == pack
            unnoticed += 1
        except IntegrityError:
            pass
    assert unnoticed <= 16, "bits of a zstd frame that no decoder looks at"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("a gap", [(0, 64, 0), (65, 64, 0)]),
        ("an overlap", [(0, 64, 0), (63, 64, 0)]),
        ("another order", [(64, 64, 0), (0, 64, 0)]),
        ("less than the pack", [(0, 64, 0)]),
        ("more than the pack", [(0, 64, 0), (64, 64, 0), (128, 64, 0)]),
        ("a frame shorter than a header", [(0, 63, 0), (63, 65, 0)]),
        ("a negative offset", [(-64, 64, 0), (0, 128, 0)]),
        ("a blob of a gigabyte", [(0, 64, 1 << 30), (64, 64, 0)]),
    ],
)
def test_a_table_of_contents_that_does_not_fit_its_pack_is_refused(
    tmp_path: Path, name: str, rows: list[tuple[int, int, int]]
) -> None:
    storage = LocalStorage(tmp_path)
    blobs = [BlobRecord("0" * 64, 0, offset, length, raw_size) for offset, length, raw_size in rows]
    pack = forge_pack(storage, blobs, bytes(128))
    with pytest.raises(IntegrityError):
        read_contents(storage, pack.id, pack.size)


def test_a_trailer_that_points_outside_is_refused(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for offset, length in ((0, 1 << 63), ((1 << 64) - 1, 33), (1 << 40, 64), (0, 0)):
        fields = struct.pack("<QQ8s", offset, length, b"ZCPKEND1")
        data = bytes(100) + fields + blake3(fields).digest(length=8)
        name = blake3(data).hexdigest()
        storage.store(pack_name(name), data)
        with pytest.raises(IntegrityError):
            read_contents(storage, name, len(data))


def test_a_pack_is_full_when_its_table_of_contents_would_grow_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zitcache.repository.saver.MAX_BLOBS", 10)
    repository = new_repository(tmp_path / "repository")
    ids = save(repository, [f"{number}".encode() for number in range(25)])
    assert len(repository.index.packs) == 3
    assert all(reopened(repository).load_blob(each) for each in ids)
    assert MAX_BLOBS * 150 < 64 << 20, "so many lines of JSON fit the format's limit"


def test_the_second_copy_is_used_when_the_first_is_damaged(tmp_path: Path) -> None:
    """Two machines that back up at the same time store a blob twice."""
    repository = new_repository(tmp_path / "repository")
    content = make("bf16", 4000, 4)
    storage = LocalStorage(tmp_path / "repository")
    packs = [write_pack(storage, [content, other]) for other in (b"one", b"two")]
    repository.write_index(packs)
    identity = blob_id(content).hex()
    assert len(reopened(repository).index.locations(identity)) == 2
    for pack in packs:
        whole = path_of(storage, pack).read_bytes()
        for damaged in (whole[:100] + b"\xff\x00" + whole[102:], whole[:200], None):
            if damaged is None:
                path_of(storage, pack).unlink()
            else:
                path_of(storage, pack).write_bytes(damaged)
            assert reopened(repository).load_blob(identity) == content
            path_of(storage, pack).write_bytes(whole)


def test_a_blob_without_a_sound_copy_is_named_with_its_place(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    content = make("noise", 4000, 5)
    (identity,) = save(repository, [content])
    location = repository.index.locations(identity)[0]
    path = tmp_path / "repository" / pack_name(location.pack)
    data = bytearray(path.read_bytes())
    data[location.offset + 2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(BlobDamaged) as caught:
        reopened(repository).load_blob(identity)
    message = caught.value.message
    assert identity[:8] in message
    assert location.pack[:8] in message
    assert str(location.offset) in message


def test_a_blob_that_is_not_there_is_named(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    with pytest.raises(BlobDamaged, match="abababab"):
        repository.load_blob("ab" * 32)


def test_the_trailer_is_as_long_as_the_page_says() -> None:
    assert TRAILER_SIZE == 32
