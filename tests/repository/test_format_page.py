"""docs/FORMAT.md says what the code does: its worked example is made anew, and its tables are compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
import zstandard
from blake3 import blake3

from tests.repository import format_example
from tests.repository.format_example import CONTENTS, PAGE, render, shown, write_pack
from zitcache.codec.blob import decode
from zitcache.codec.frame import MAX_RAW_SIZE, Codec, FrameKind
from zitcache.codec.planes import PLANES_OF_WIDTH
from zitcache.repository import locks, marks, records
from zitcache.repository import notes as notes_beside
from zitcache.repository.pack import MAX_BLOBS, MAX_CONTENTS_SIZE, pack_name, read_contents
from zitcache.repository.trees import ENTRIES_PER_TREE
from zitcache.storage.local import LocalStorage


def shown_pack() -> bytes:
    """The bytes of the dump on the page."""
    dump = shown().partition("```\n")[2].partition("```")[0]
    lines = re.findall(r"^([0-9a-f]{6})  ((?:[0-9a-f]{2} ?)+)", dump, re.MULTILINE)
    data = bytearray()
    for offset, part in lines:
        assert int(offset, 16) == len(data), "every byte is shown, in order"
        data += bytes.fromhex(part)
    return bytes(data)


def test_the_example_on_the_page_is_a_pack_that_can_be_read(tmp_path: Path) -> None:
    pack = shown_pack()
    name = re.search("Pack `([0-9a-f]{64})`, ([0-9]+) bytes", shown())
    assert name is not None
    assert (name[1], int(name[2])) == (blake3(pack).hexdigest(), len(pack))
    storage = LocalStorage(tmp_path)
    storage.store(pack_name(name[1]), pack)
    record = read_contents(storage, name[1], len(pack))
    frames = [pack[blob.offset : blob.offset + blob.length] for blob in record.blobs]
    assert tuple(decode(frame)[1] for frame in frames) == CONTENTS
    assert [decode(frame)[0].codec for frame in frames] == [Codec.RAW, Codec.CONSTANT, Codec.PLANES]
    listed = json.loads(shown().partition("```json\n")[2].partition("```")[0])
    assert msgspec.convert(listed["blobs"], list[records.BlobRecord]) == record.blobs


def test_the_example_on_the_page_is_what_the_code_writes(tmp_path: Path) -> None:
    """If this fails after a change that was meant: python -m tests.repository.format_example"""
    version = ".".join(map(str, zstandard.ZSTD_VERSION))
    if f"(Made with zstd {version}.)" not in shown():
        pytest.skip(
            f"zstd {version} may compress the table of contents in another way than the one of the page"
        )
    assert render(*write_pack(tmp_path)) == shown()


def test_the_example_is_made_of_what_the_page_says() -> None:
    assert len(format_example.CONTENTS[1]) == 40
    assert format_example.CONTENTS[0] == b"zitcache!\n"


def rows(section: str) -> list[list[str]]:
    """The cells of the tables of a section."""
    text = PAGE.read_text().partition(f"\n{section}\n")[2]
    text = re.split(r"^#{1,3} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def fields(section: str) -> set[str]:
    """The first cells of a section, split at commas."""
    names = {name.strip(" .`") for row in rows(section) for name in row[0].split(",")}
    return {name for name in names if re.fullmatch(r"[a-z][a-z0-9_.\[\]]*", name)} - {"field"}


@pytest.mark.parametrize(
    ("section", "record"),
    [
        ("### `config`", records.RepositoryConfig),
        ("### Index", records.IndexRecord),
        ("### Snapshot", records.SnapshotRecord),
        ("### Tree", records.TreeRecord),
        ("### Piece list", records.PieceList),
    ],
)
def test_every_field_that_is_written_is_on_the_page(section: str, record: type[msgspec.Struct]) -> None:
    expected = {field.encode_name for field in msgspec.structs.fields(record)}
    if record is records.TreeRecord:
        expected |= {field.encode_name for field in msgspec.structs.fields(records.TreeEntry)}
    found = {name.partition("[")[0] for name in fields(section)}
    if record is records.SnapshotRecord:
        found -= {"revision", "layout", "root"}  # of models[]
    assert found == expected


def test_every_field_of_a_note_is_on_the_page() -> None:
    rows_by_folder = {row[0]: f"{row[1]}, {row[3]}" for row in rows("### Notes") if row[0].startswith("`")}
    notes = {
        notes_beside.LABEL_FOLDER: notes_beside.LabelRecord,
        notes_beside.LOSS_FOLDER: notes_beside.LossRecord,
        notes_beside.DAMAGED_FOLDER: notes_beside.DamagedRecord,
        marks.FORGOTTEN_FOLDER: marks.ForgottenRecord,
        marks.MARK_FOLDER: marks.MarkRecord,
        marks.SWEEP_FOLDER: marks.SweepRecord,
        marks.CLAIM_FOLDER: marks.ClaimRecord,
        locks.LOCK_FOLDER: locks.LockRecord,
    }
    assert {f"`{folder}/`" for folder in notes} == set(rows_by_folder)
    for folder, record in notes.items():
        for field in msgspec.structs.fields(record):
            if field.encode_name not in {"version", "time", "host"}:
                assert field.encode_name in rows_by_folder[f"`{folder}/`"], (folder, field.encode_name)
        assert f"{folder}/<id>" in PAGE.read_text()


def test_codecs_kinds_and_planes_are_those_of_the_page() -> None:
    text = PAGE.read_text()
    header = {row[2]: row[3] for row in rows("## Frames") if len(row) == 4}
    for codec in Codec:
        assert f"{codec.value} {codec.name}" in header["codec"]
        assert f"### {codec.value}: {codec.name}\n" in text
    kinds = {row[1]: row[0] for row in rows("## Frames") if row[0].isdigit() and row[1].isupper()}
    assert kinds == {kind.name: str(kind.value) for kind in FrameKind}
    planes = {row[0]: row[1] for row in rows("### 2: PLANES") if len(row) == 2 and row[0].isdigit()}
    assert planes == {
        str(width): " ".join(f"({offset}, {size})" for offset, size in shapes)
        for width, shapes in PLANES_OF_WIDTH.items()
    }


def test_the_limits_are_those_of_the_page() -> None:
    limits = dict(rows("## Limits"))
    assert limits["decoded blob, payload of a frame"] == f"{MAX_RAW_SIZE >> 20} MiB"
    assert limits["table of contents, its frame"] == f"{MAX_CONTENTS_SIZE >> 20} MiB"
    assert limits["blobs in a pack"] == f"{MAX_BLOBS:,}"
    assert f"{ENTRIES_PER_TREE:,} entries into a tree" in PAGE.read_text()
