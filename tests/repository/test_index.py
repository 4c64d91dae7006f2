"""The index can be lost, damaged or late: packs say themselves what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.codec.contents import make
from tests.repository.builders import new_repository, reopened, save
from zitcache.codec.blob import blob_id, encode_metadata
from zitcache.codec.frame import FrameKind
from zitcache.errors import BlobDamaged
from zitcache.repository.records import BlobRecord, PackRecord
from zitcache.repository.repository import Repository

BLOBS = [make("noise", 3000, number) for number in range(6)]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two packs, each with an index object of its own."""
    made = new_repository(tmp_path / "repository")
    save(made, BLOBS[:3])
    made = reopened(made)
    save(made, BLOBS[3:])
    return reopened(made)


def folder(repository: Repository, name: str) -> list[Path]:
    return sorted((Path(repository.storage.location) / name).iterdir())


def assert_all_there(repository: Repository) -> None:
    assert [repository.load_blob(blob_id(data).hex()) for data in BLOBS] == BLOBS


def test_the_index_names_every_blob(repository: Repository) -> None:
    assert len(folder(repository, "index")) == 2
    assert_all_there(repository)
    assert repository.unindexed_packs == []
    assert set(repository.index) == {blob_id(data).hex() for data in BLOBS}


def test_the_index_is_rebuilt_from_packs_alone(repository: Repository) -> None:
    for path in folder(repository, "index"):
        path.unlink()
    fresh = reopened(repository)
    assert_all_there(fresh)
    assert len(fresh.unindexed_packs) == 2
    fresh.write_index(fresh.unindexed_packs)
    again = reopened(repository)
    assert_all_there(again)
    assert again.unindexed_packs == []


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "empty", "nonsense"])
def test_a_damaged_index_object_is_no_misfortune(repository: Repository, damage: str) -> None:
    path = folder(repository, "index")[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    new = {"flipped bit": bytes(data), "truncated": data[:-1], "empty": b"", "nonsense": b"x" * 500}[damage]
    path.write_bytes(new)
    fresh = reopened(repository)
    assert_all_there(fresh)
    assert len(fresh.unindexed_packs) == 1
    assert list(fresh.unreadable_index) == [f"index/{path.name}"]


def test_an_object_of_another_kind_in_the_index_is_passed_over(repository: Repository) -> None:
    frame = encode_metadata(b'{"version": 1, "packs": []}', FrameKind.SNAPSHOT).to_bytes()
    repository.storage.store(f"index/{blob_id(frame).hex()}", frame)
    fresh = reopened(repository)
    assert_all_there(fresh)
    assert len(fresh.unreadable_index) == 1


def test_packs_of_an_unfinished_backup_are_found(repository: Repository) -> None:
    (identity,) = save(repository, [b"late"], index=False)
    fresh = reopened(repository)
    assert fresh.load_blob(identity) == b"late"
    assert [[blob.id for blob in pack.blobs] for pack in fresh.unindexed_packs] == [[identity]]


def test_a_pack_that_is_gone_makes_its_blobs_missing_and_nothing_else(repository: Repository) -> None:
    pack = repository.index.locations(blob_id(BLOBS[0]).hex())[0].pack
    (Path(repository.storage.location) / "packs" / pack).unlink()
    fresh = reopened(repository)
    assert fresh.index.lost_packs == {pack}
    for data in BLOBS[:3]:
        assert blob_id(data).hex() not in fresh.index
        with pytest.raises(BlobDamaged):
            fresh.load_blob(blob_id(data).hex())
    assert [fresh.load_blob(blob_id(data).hex()) for data in BLOBS[3:]] == BLOBS[3:]


def test_a_truncated_pack_counts_as_gone(repository: Repository) -> None:
    pack = repository.index.locations(blob_id(BLOBS[0]).hex())[0].pack
    path = Path(repository.storage.location) / "packs" / pack
    path.write_bytes(path.read_bytes()[:-1])
    fresh = reopened(repository)
    assert blob_id(BLOBS[0]).hex() not in fresh.index
    assert list(fresh.unreadable_packs) == [pack]


def test_an_unreadable_pack_that_nobody_named_is_passed_over(repository: Repository) -> None:
    stray = Path(repository.storage.location) / "packs" / ("0" * 64)
    for content in (b"", b"x" * 1000):
        stray.write_bytes(content)
        fresh = reopened(repository)
        assert_all_there(fresh)
        assert list(fresh.unreadable_packs) == ["0" * 64]


@pytest.mark.parametrize("name", ["{id}.bak", "readme", "{id}0", ".tmp-1-0123456789abcdef", "{id}-copy"])
def test_foreign_files_are_no_objects(repository: Repository, name: str) -> None:
    """A copy that somebody made beside a pack must not get into the index under its name."""
    for kind in ("packs", "index", "snapshots"):
        place = Path(repository.storage.location) / kind
        place.mkdir(exist_ok=True)
        source = folder(repository, "packs")[0] if kind == "packs" else None
        data = source.read_bytes() if source else b"x"
        (place / name.format(id=source.name if source else "0" * 64)).write_bytes(data)
    fresh = reopened(repository)
    assert_all_there(fresh)
    assert fresh.unindexed_packs == []
    assert fresh.snapshot_ids() == []
    assert fresh.unreadable_packs == {}


def test_two_index_objects_may_name_the_same_pack(repository: Repository) -> None:
    packs = [
        PackRecord(
            id=pack,
            size=size,
            blobs=[
                BlobRecord(each, at.kind, at.offset, at.length, at.raw_size)
                for each in repository.index
                for at in repository.index.locations(each)
                if at.pack == pack
            ],
        )
        for pack, size in repository.index.packs.items()
    ]
    repository.write_index(packs)
    fresh = reopened(repository)
    assert len(folder(repository, "index")) == 3
    assert_all_there(fresh)
    assert all(len(fresh.index.locations(each)) == 1 for each in fresh.index)


def test_nothing_new_writes_no_index_object(repository: Repository) -> None:
    repository.write_index([])
    assert len(folder(repository, "index")) == 2


def test_a_large_index_becomes_several_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zitcache.repository.saver.MAX_BLOBS", 2)
    monkeypatch.setattr("zitcache.repository.repository.MAX_INDEX_BLOBS", 4)
    made = new_repository(tmp_path / "repository")
    save(made, BLOBS)
    assert len(folder(made, "packs")) == 3
    assert len(folder(made, "index")) == 2
    fresh = reopened(made)
    assert_all_there(fresh)
    assert fresh.unindexed_packs == []


def test_an_index_that_lies_about_a_blob_is_found_out(repository: Repository) -> None:
    """Offsets and sizes of a forged index lead to an error, never to wrong bytes or a huge allocation."""
    identity = blob_id(BLOBS[0]).hex()
    true = repository.index.locations(identity)[0]
    size = repository.index.packs[true.pack]
    lies = [
        BlobRecord(identity, 0, true.offset + 1, true.length, true.raw_size),
        BlobRecord(identity, 0, true.offset, true.length - 1, true.raw_size),
        BlobRecord(identity, 0, true.offset, true.length, true.raw_size + 1),
        BlobRecord(identity, 0, size - 10, 64, true.raw_size),
        BlobRecord(identity, 0, 1 << 60, 64, true.raw_size),
        BlobRecord("ef" * 32, 0, true.offset, true.length, true.raw_size),
    ]
    for path in folder(repository, "index"):
        path.unlink()
    for lie in lies:
        forged = reopened(repository)
        forged.write_index([PackRecord(id=true.pack, size=size, blobs=[lie])])
        with pytest.raises(BlobDamaged):
            reopened(repository).load_blob(lie.id)
        for path in folder(repository, "index"):
            path.unlink()


def test_an_index_that_claims_a_gigabyte_is_not_believed(repository: Repository) -> None:
    for path in folder(repository, "index"):
        path.unlink()
    true = reopened(repository).index.packs
    pack, size = next(iter(true.items()))
    reopened(repository).write_index(
        [PackRecord(id=pack, size=size, blobs=[BlobRecord("ef" * 32, 0, 0, 64, 1 << 60)])]
    )
    fresh = reopened(repository)
    assert_all_there(fresh)
    assert len(fresh.unreadable_index) == 1
    with pytest.raises(BlobDamaged):
        fresh.load_blob("ef" * 32)
