"""Records are typed and bounded: what a repository says is believed only within the limits of the format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.repository.builders import new_repository, reopened
from zitcache.codec.blob import blob_id, encode_metadata
from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError, RepositoryNotFound, UnsupportedFormat, UsageError
from zitcache.repository.records import (
    BlobRecord,
    CheckRecord,
    DigestRecord,
    IndexRecord,
    PackContents,
    PieceList,
    RepositoryConfig,
    SnapshotRecord,
    TreeRecord,
    decode_record,
    portable,
)
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage

ID = "ab" * 32
BLOB: list[Any] = [ID, 0, 0, 64, 0]
ENTRY: dict[str, Any] = {"path": "a", "kind": "file", "mode": 0o644, "mtime_ns": -5}
SNAPSHOT: dict[str, Any] = {
    "time": "2026-01-02T03:04:05.000006Z",
    "host": "box",
    "cache": "/root/cache",
    "program": "zitcache 1",
    "trees": [ID],
    "files": 0,
    "size_bytes": 0,
}
CONFIG: dict[str, Any] = {
    "format": "zitcache",
    "version": 1,
    "id": "0" * 32,
    "created": "2026-01-02T03:04:05Z",
    "features": [],
    "cutting": {"piece_size": 4 << 20, "merge_below": 1 << 20},
    "pack_size": 64 << 20,
}


def blob_with(position: int, value: object) -> dict[str, Any]:
    return {"blobs": [[*BLOB[:position], value, *BLOB[position + 1 :]]]}


GOOD: dict[str, tuple[type[msgspec.Struct], Any]] = {
    "contents": (PackContents, {"version": 1, "blobs": [BLOB]}),
    "contents without a version": (PackContents, {"blobs": []}),
    "contents of a later minor version": (PackContents, {"blobs": [[*BLOB, "more"]], "news": {"x": [1]}}),
    "index": (IndexRecord, {"packs": [{"id": ID, "size": 200, "blobs": [BLOB]}]}),
    "piece list": (PieceList, {"size": 5, "pieces": [[5, ID]]}),
    "tree": (TreeRecord, {"entries": [ENTRY, {**ENTRY, "news": 1}]}),
    "snapshot": (SnapshotRecord, SNAPSHOT),
    "digests": (DigestRecord, {"sha256": {ID: ID}}),
    "checks": (CheckRecord, {"packs": {ID: 1_700_000_000}}),
    "config": (RepositoryConfig, CONFIG),
}

BAD: dict[str, tuple[type[msgspec.Struct], Any]] = {
    "version 2": (PackContents, {"version": 2, "blobs": []}),
    "an id in capitals": (PackContents, blob_with(0, ID.upper())),
    "an id that is short": (PackContents, blob_with(0, ID[1:])),
    "an id that is long": (PackContents, blob_with(0, ID + "0")),
    "an id with a line feed": (PackContents, blob_with(0, ID + "\n")),
    "an id that is a path": (PackContents, blob_with(0, "../" * 20 + "abcd")),
    "an id that is a number": (PackContents, blob_with(0, 7)),
    "a kind below zero": (PackContents, blob_with(1, -1)),
    "a kind of two bytes": (PackContents, blob_with(1, 256)),
    "an offset below zero": (PackContents, blob_with(2, -1)),
    "an offset beyond everything": (PackContents, blob_with(2, 1 << 63)),
    "an offset that is a fraction": (PackContents, blob_with(2, 0.5)),
    "a frame below its header": (PackContents, blob_with(3, 63)),
    "a frame of a gigabyte": (PackContents, blob_with(3, 1 << 30)),
    "a blob below zero": (PackContents, blob_with(4, -1)),
    "a blob of a gigabyte": (PackContents, blob_with(4, 1 << 30)),
    "a blob with a field missing": (PackContents, {"blobs": [BLOB[:4]]}),
    "a blob that is an object": (PackContents, {"blobs": [{"id": ID}]}),
    "no blobs": (PackContents, {}),
    "a pack with a path for a name": (IndexRecord, {"packs": [{"id": "../x", "size": 1, "blobs": []}]}),
    "a pack without a size": (IndexRecord, {"packs": [{"id": ID, "blobs": []}]}),
    "a piece below zero": (PieceList, {"size": 0, "pieces": [[-1, ID]]}),
    "a piece without an id": (PieceList, {"size": 0, "pieces": [[0]]}),
    "a piece list without a size": (PieceList, {"pieces": []}),
    "an entry of another kind": (TreeRecord, {"entries": [{**ENTRY, "kind": "socket"}]}),
    "an entry without a name": (TreeRecord, {"entries": [{**ENTRY, "path": ""}]}),
    "an entry with a huge name": (TreeRecord, {"entries": [{**ENTRY, "path": "a" * 65537}]}),
    "an entry without a mode": (TreeRecord, {"entries": [{"path": "a", "kind": "file", "mtime_ns": 0}]}),
    "an entry with more than permission bits": (TreeRecord, {"entries": [{**ENTRY, "mode": 0o10000}]}),
    "an entry of negative size": (TreeRecord, {"entries": [{**ENTRY, "size": -1}]}),
    "an entry with a bad blob": (TreeRecord, {"entries": [{**ENTRY, "blob": "x"}]}),
    "a snapshot without trees": (SnapshotRecord, {k: v for k, v in SNAPSHOT.items() if k != "trees"}),
    "a snapshot with a bad tree": (SnapshotRecord, {**SNAPSHOT, "trees": ["x"]}),
    "a snapshot of nothing": (SnapshotRecord, {**SNAPSHOT, "cache": ""}),
    "a digest that is none": (DigestRecord, {"sha256": {ID: "x"}}),
    "a check at no time": (CheckRecord, {"packs": {ID: "yesterday"}}),
    "pieces of a gigabyte": (RepositoryConfig, {**CONFIG, "cutting": {"piece_size": 1 << 30}}),
    "pieces of one byte": (RepositoryConfig, {**CONFIG, "cutting": {"piece_size": 1}}),
    "packs of one byte": (RepositoryConfig, {**CONFIG, "pack_size": 1}),
    "a repository without an id": (RepositoryConfig, {**CONFIG, "id": ""}),
    "a list": (IndexRecord, []),
    "null": (IndexRecord, None),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_record_is_read_and_what_is_new_in_it_is_ignored(name: str) -> None:
    kind, value = GOOD[name]
    found = decode_record(msgspec.json.encode(value), kind, name)
    assert isinstance(found, kind)
    assert decode_record(msgspec.json.encode(found), kind, name) == found


@pytest.mark.parametrize("name", BAD)
def test_a_record_beyond_its_bounds_is_refused(name: str) -> None:
    kind, value = BAD[name]
    with pytest.raises(IntegrityError, match="test record"):
        decode_record(msgspec.json.encode(value), kind, "test record")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"version": 1, "packs": [' + b"[" * 50_000,
        b'{"packs": []} x',
        b"NaN",
    ],
    ids=["nothing", "cut off", "not UTF-8", "deep", "deep inside", "more behind", "not JSON"],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_record(data, IndexRecord, "test record")


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name))
def test_every_name_comes_back_to_the_byte(name: bytes) -> None:
    text, exact = portable(os.fsdecode(name))
    text.encode()  # valid Unicode, whatever the name
    entry = decode_record(
        msgspec.json.encode(
            {"entries": [{**ENTRY, "path": text, "path_bytes": exact, "target": text, "target_bytes": exact}]}
        ),
        TreeRecord,
        "tree",
    ).entries[0]
    assert os.fsencode(entry.real_path) == os.fsencode(entry.real_target) == name
    assert (exact is None) == (text.encode() == name)


def test_defaults_of_an_entry_are_not_written() -> None:
    entry = decode_record(msgspec.json.encode({"entries": [ENTRY]}), TreeRecord, "tree").entries[0]
    assert msgspec.json.decode(msgspec.json.encode(entry)) == ENTRY


def test_a_blob_record_is_an_array_in_the_order_of_the_page() -> None:
    blob = BlobRecord(ID, 2, 3, 64, 5)
    assert msgspec.json.encode(blob) == f'["{ID}",2,3,64,5]'.encode()


# -- config ---------------------------------------------------------------------------------------------


def with_config(tmp_path: Path, data: bytes) -> LocalStorage:
    (tmp_path / "config").write_bytes(data)
    return LocalStorage(tmp_path)


def test_a_repository_is_made_once(tmp_path: Path) -> None:
    repository = new_repository(tmp_path)
    before = (tmp_path / "config").read_bytes()
    with pytest.raises(UsageError):
        new_repository(tmp_path)
    assert (tmp_path / "config").read_bytes() == before
    assert reopened(repository).config == repository.config
    assert new_repository(tmp_path / "b").config.id != repository.config.id


@pytest.mark.parametrize("change", [{"version": 2}, {"version": 0}, {"features": ["encryption"]}])
def test_a_repository_of_a_later_version_is_refused_with_the_way_out(
    tmp_path: Path, change: dict[str, object]
) -> None:
    storage = with_config(tmp_path, msgspec.json.encode({**CONFIG, **change}))
    with pytest.raises(UnsupportedFormat) as caught:
        Repository.open(storage)
    assert "pip install --upgrade" in (caught.value.hint or "")


def test_a_later_version_is_told_even_if_its_config_looks_different(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="version 9"):
        Repository.open(
            with_config(tmp_path, b'{"format": "zitcache", "version": 9, "id": 7, "cutting": "new"}')
        )


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{}" * 2, b'{"format": "zitcache", "version": "one"}', bytes(2 << 20)]
)
def test_a_damaged_config_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(IntegrityError, match="config"):
        Repository.open(with_config(tmp_path, data))


def test_another_programs_config_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound):
        Repository.open(with_config(tmp_path, b'{"version": 1, "name": "something"}'))


def test_a_repository_that_lost_its_config_is_not_taken_for_an_empty_place(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound):
        Repository.open(LocalStorage(tmp_path))
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / ("0" * 64)).write_bytes(b"x")
    with pytest.raises(IntegrityError, match="lost its config"):
        Repository.open(LocalStorage(tmp_path))


# -- objects --------------------------------------------------------------------------------------------


def test_an_object_is_believed_only_under_its_own_name_and_in_its_own_folder(tmp_path: Path) -> None:
    repository = new_repository(tmp_path)
    frame = encode_metadata(msgspec.json.encode(SNAPSHOT), FrameKind.SNAPSHOT).to_bytes()
    name = blob_id(frame).hex()
    repository.storage.store(f"snapshots/{name}", frame)
    assert repository.load_snapshot(name).host == "box"
    repository.storage.store(f"snapshots/{ID}", frame)
    with pytest.raises(IntegrityError, match="name"):
        repository.load_snapshot(ID)
    other = encode_metadata(msgspec.json.encode(SNAPSHOT), FrameKind.INDEX).to_bytes()
    repository.storage.store(f"snapshots/{blob_id(other).hex()}", other)
    with pytest.raises(IntegrityError, match="folder"):
        repository.load_snapshot(blob_id(other).hex())


def test_records_that_are_conveniences_are_skipped_when_damaged(tmp_path: Path) -> None:
    repository = new_repository(tmp_path)
    name = repository.store_record("digests", DigestRecord(sha256={ID: "cd" * 32}))
    (tmp_path / "digests" / ("0" * 64)).write_bytes(b"damaged")
    (tmp_path / "digests" / name[::-1]).write_bytes((tmp_path / "digests" / name).read_bytes())
    assert repository.load_records("digests", DigestRecord) == [DigestRecord(sha256={ID: "cd" * 32})]
