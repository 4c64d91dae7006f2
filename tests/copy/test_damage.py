"""A damaged source: what can be copied is, what cannot is named, and nothing wrong is ever passed on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.backup.world import KIB, command, require_sound
from tests.copy.world import ids, make_source, opened, require_restorable, run_copy
from tests.storage.disks import python_environment
from zitcache.codec.frame import FrameKind
from zitcache.errors import Exit
from zitcache.repository.records import TreeEntry
from zitcache.repository.selection import Snapshot, list_snapshots


def snapshots(place: Path) -> list[Snapshot]:
    return list_snapshots(opened(place))[0]


def entry(place: Path, snapshot: Snapshot, path: str) -> TreeEntry:
    return next(each for each in opened(place).tree(snapshot.record) if each.path == path)


def flip_blob(place: Path, blob: str, kind: FrameKind = FrameKind.DATA) -> None:
    """Turn a bit over in the middle of every copy of a blob."""
    for location in opened(place).index.locations(blob):
        if location.kind == kind:
            with (place / "packs" / location.pack).open("r+b") as pack:
                pack.seek(location.offset + location.length // 2)
                byte = pack.read(1)[0]
                pack.seek(-1, 1)
                pack.write(bytes([byte ^ 8]))


def test_a_damaged_blob_costs_the_snapshots_that_need_it_and_no_other(tmp_path: Path) -> None:
    cache, source = make_source(tmp_path, nights=3)
    first, second, third = snapshots(source)
    found = entry(source, second, "night1.bin")
    assert found.blob is not None
    flip_blob(source, found.blob)
    outcome = run_copy(source, tmp_path / "copy")
    assert outcome.exit_code is Exit.DAMAGE
    assert ids(tmp_path / "copy") == {first.id}
    assert {failed.id for failed in outcome.data.snapshots_failed} == {second.id, third.id}
    assert all("id" in failed.reason for failed in outcome.data.snapshots_failed)
    hints = [warning.hint or "" for warning in outcome.warnings]
    assert any("check --read-data" in hint for hint in hints)
    require_sound(tmp_path / "copy")
    # Once the source is right again, the rest comes, and only that.
    flip_blob(source, found.blob)
    again = run_copy(source, tmp_path / "copy")
    assert again.exit_code is Exit.OK
    assert again.data.bytes_copied < 300 * KIB
    require_restorable(tmp_path / "copy", cache, tmp_path / "restored")


@pytest.mark.parametrize("kind", [FrameKind.TREE, FrameKind.PIECES])
def test_a_damaged_tree_or_list_costs_its_snapshots(tmp_path: Path, kind: FrameKind) -> None:
    _, source = make_source(tmp_path, nights=2)
    first, second = snapshots(source)
    if kind is FrameKind.TREE:
        flip_blob(source, second.record.trees[0], kind)
        lost = {second.id}
    else:
        pieces = entry(source, second, "model.safetensors").pieces
        assert pieces is not None
        flip_blob(source, pieces, kind)
        lost = {first.id, second.id}
    outcome = run_copy(source, tmp_path / "copy")
    assert outcome.exit_code is Exit.DAMAGE
    assert {failed.id for failed in outcome.data.snapshots_failed} == lost
    assert ids(tmp_path / "copy") == {first.id, second.id} - lost
    require_sound(tmp_path / "copy")


def test_another_copy_of_a_damaged_blob_will_do(tmp_path: Path) -> None:
    """Two machines have saved the same blobs; one copy is damaged."""
    cache, source = make_source(tmp_path)
    for pack in list((source / "packs").iterdir()):
        pack.rename(tmp_path / pack.name)
    from tests.backup.world import back_up

    back_up(source, cache)
    for pack in tmp_path.iterdir():
        if pack.is_file() and len(pack.name) == 64:
            pack.rename(source / "packs" / pack.name)
    found = entry(source, snapshots(source)[0], "tokenizer.json")
    assert found.blob is not None
    locations = opened(source).index.locations(found.blob)
    assert len(locations) == 2
    with (source / "packs" / locations[0].pack).open("r+b") as pack_file:
        pack_file.seek(locations[0].offset + 100)
        pack_file.write(b"damage")
    outcome = run_copy(source, tmp_path / "copy")
    assert outcome.exit_code is Exit.OK
    require_restorable(tmp_path / "copy", cache, tmp_path / "restored")


def test_a_pack_that_is_missing(tmp_path: Path) -> None:
    _, source = make_source(tmp_path)
    (blob,) = [entry(source, snapshots(source)[0], "tokenizer.json").blob]
    assert blob is not None
    (source / "packs" / opened(source).index.locations(blob)[0].pack).unlink()
    outcome = run_copy(source, tmp_path / "copy")
    assert outcome.exit_code is Exit.DAMAGE
    assert ids(tmp_path / "copy") == set()


def test_a_snapshot_object_that_is_damaged_is_named(tmp_path: Path) -> None:
    _, source = make_source(tmp_path, nights=2)
    first, second = snapshots(source)
    with (source / "snapshots" / second.id).open("r+b") as file:
        file.seek(70)
        file.write(b"x")
    outcome = run_copy(source, tmp_path / "copy")
    assert outcome.exit_code is Exit.DAMAGE
    assert [failed.id for failed in outcome.data.snapshots_failed] == [second.id]
    assert ids(tmp_path / "copy") == {first.id}


def test_a_damaged_record_is_left_behind_with_a_warning(tmp_path: Path) -> None:
    from zitcache.repository.digests import record_sha256

    _, source = make_source(tmp_path)
    record_sha256(opened(source), {"ab" * 32: "cd" * 32})
    record = next(path for path in (source / "digests").iterdir() if b"zit" not in path.name.encode())
    record.write_bytes(record.read_bytes()[:-1])
    outcome = run_copy(source, tmp_path / "copy")
    assert outcome.exit_code is Exit.OK
    assert "record-not-copied" in {warning.code for warning in outcome.warnings}
    assert not (tmp_path / "copy" / "digests" / record.name).exists()


def test_a_hostile_snapshot_is_not_passed_on(tmp_path: Path) -> None:
    from tests.repository.builders import write_snapshot

    _, source = make_source(tmp_path)
    evil = write_snapshot(
        opened(source), [TreeEntry(path="../../etc/passwd", kind="file", mode=0o644, mtime_ns=0)]
    )
    outcome = run_copy(source, tmp_path / "copy")
    assert outcome.exit_code is Exit.DAMAGE
    assert [failed.id for failed in outcome.data.snapshots_failed] == [evil]
    assert len(ids(tmp_path / "copy")) == 1


def test_the_program_says_what_to_do(tmp_path: Path) -> None:
    _, source = make_source(tmp_path)
    blob = entry(source, snapshots(source)[0], "tokenizer.json").blob
    assert blob is not None
    flip_blob(source, blob)
    done = subprocess.run(
        command("copy", "--init", source, tmp_path / "copy"),
        capture_output=True,
        text=True,
        env=python_environment(),
    )
    assert done.returncode == 1
    assert "could not be copied" in done.stdout
    assert f"zitcache check --read-data --repo {source}" in done.stdout
