"""Snapshots arrive at the other repository, whole, once, and under their own ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backup.world import KIB, MIB, back_up, flip, make_repository, noise
from tests.copy.world import (
    ids,
    make_source,
    opened,
    require_restorable,
    run_copy,
    stored_copies,
)
from zitcache.errors import Exit, RepositoryNotFound, SnapshotNotFound, UsageError
from zitcache.repository.digests import known_sha256, record_sha256
from zitcache.repository.notes import add_label, load_labels
from zitcache.repository.selection import list_snapshots


def test_every_snapshot_arrives_under_its_own_id(tmp_path: Path) -> None:
    cache, source = make_source(tmp_path, nights=3)
    outcome = run_copy(source, tmp_path / "copy")
    report = outcome.data
    assert outcome.exit_code is Exit.OK
    assert {warning.code for warning in outcome.warnings} <= {"system-disk", "in-memory"}
    assert set(report.snapshots_copied) == ids(source) == ids(tmp_path / "copy")
    assert (report.snapshots_skipped, report.created) == (0, True)
    assert report.blobs_copied == len(stored_copies(source))
    for snapshot in ids(source):
        left, right = (opened(place).load_snapshot(snapshot) for place in (source, tmp_path / "copy"))
        assert left == right
    require_restorable(tmp_path / "copy", cache, tmp_path / "restored")


def test_a_second_run_copies_nothing_and_reads_no_pack(tmp_path: Path) -> None:
    _, source = make_source(tmp_path, nights=2)
    run_copy(source, tmp_path / "copy")
    for pack in (source / "packs").iterdir():
        pack.unlink()  # nobody needs them now
    for entry in (source / "index").iterdir():
        entry.unlink()
    report = run_copy(source, tmp_path / "copy").data
    assert (report.snapshots_copied, report.snapshots_skipped) == ([], 2)
    assert (report.blobs_copied, report.bytes_copied, report.bytes_stored) == (0, 0, 0)


def test_only_what_is_new_is_sent(tmp_path: Path) -> None:
    cache, source = make_source(tmp_path)
    run_copy(source, tmp_path / "copy")
    (cache / "new.bin").write_bytes(noise(90 * KIB, "new"))
    back_up(source, cache)
    report = run_copy(source, tmp_path / "copy").data
    assert len(report.snapshots_copied) == 1 and report.snapshots_skipped == 1
    assert 90 * KIB < report.bytes_copied < 120 * KIB
    assert set(stored_copies(tmp_path / "copy").values()) == {1}


def test_repositories_with_other_rules_take_the_blobs_as_they_are(tmp_path: Path) -> None:
    cache, source = make_source(tmp_path)
    for number, (piece, pack) in enumerate(((64 * KIB, 4 * MIB), (4 * MIB, 64 * MIB))):
        place = make_repository(tmp_path / f"copy{number}", piece_size=piece, pack_size=pack)
        run_copy(source, place)
        require_restorable(place, cache, tmp_path / f"restored{number}")
        assert opened(place).config.cutting.piece_size == piece
        checked = _check(place)
        assert checked.exit_code is Exit.OK, checked.data.damaged


def test_what_both_have_is_not_sent(tmp_path: Path) -> None:
    cache, source = make_source(tmp_path)
    place = make_repository(tmp_path / "copy", piece_size=256 * KIB, merge_below=64 * KIB, pack_size=MIB)
    back_up(place, cache)
    report = run_copy(source, place).data
    assert len(report.snapshots_copied) == 1
    assert report.bytes_copied < 20 * KIB, "only the tree is another one"
    assert len(ids(place)) == 2


def test_one_snapshot_can_be_named(tmp_path: Path) -> None:
    _, source = make_source(tmp_path, nights=3)
    oldest, _, newest = (snapshot.id for snapshot in list_snapshots(opened(source))[0])
    run_copy(source, tmp_path / "copy", "latest")
    assert ids(tmp_path / "copy") == {newest}
    report = run_copy(source, tmp_path / "copy", oldest[:12], "latest").data
    assert (report.snapshots_copied, report.snapshots_skipped) == ([oldest], 1)
    with pytest.raises(SnapshotNotFound):
        run_copy(source, tmp_path / "copy", "feedfacefeed")


def test_suspect_snapshots_stay_suspect(tmp_path: Path) -> None:
    cache, source = make_source(tmp_path)
    flip(cache / "model.safetensors", 400 * KIB)
    assert back_up(source, cache, reread=1.0).exit_code is Exit.DAMAGE
    run_copy(source, tmp_path / "copy")
    found, _ = list_snapshots(opened(tmp_path / "copy"))
    assert [snapshot.is_suspect for snapshot in found] == [False, True]


def test_digests_goldens_and_labels_come_along_and_checks_do_not(tmp_path: Path) -> None:
    _, source = make_source(tmp_path)
    repository = opened(source)
    (snapshot,) = ids(source)
    record_sha256(repository, {"ab" * 32: "cd" * 32})
    add_label(repository, snapshot, pin=True)
    repository.store_record("goldens", _golden())
    _check(source, read_data=True)
    assert list((source / "checks").iterdir())
    report = run_copy(source, tmp_path / "copy").data
    copied = opened(tmp_path / "copy")
    assert report.records_copied == 3 + (len(list((source / "digests").iterdir())) - 1)
    assert known_sha256(copied)["ab" * 32] == "cd" * 32
    assert snapshot in load_labels(copied).pinned
    assert [path.name for path in (tmp_path / "copy" / "goldens").iterdir()] == [
        path.name for path in (source / "goldens").iterdir()
    ]
    assert not (tmp_path / "copy" / "checks").exists()
    # Later digests of snapshots that are there already come along, too.
    record_sha256(repository, {"ef" * 32: "01" * 32})
    assert run_copy(source, tmp_path / "copy").data.records_copied == 1
    assert known_sha256(opened(tmp_path / "copy"))["ef" * 32] == "01" * 32


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    _, source = make_source(tmp_path, nights=2)
    report = run_copy(source, tmp_path / "copy", dry_run=True).data
    assert report.dry_run and not (tmp_path / "copy").exists()
    real = run_copy(source, tmp_path / "copy").data
    assert set(report.snapshots_copied) == set(real.snapshots_copied)
    assert (report.blobs_copied, report.bytes_copied) == (real.blobs_copied, real.bytes_copied)
    assert run_copy(source, tmp_path / "copy", dry_run=True).data.snapshots_copied == []


def test_the_target_must_exist_or_be_asked_for(tmp_path: Path) -> None:
    _, source = make_source(tmp_path)
    with pytest.raises(RepositoryNotFound) as caught:
        run_copy(source, tmp_path / "copy", init=False)
    assert "--init" in (caught.value.hint or "")
    with pytest.raises(RepositoryNotFound):
        run_copy(tmp_path / "nothing", source)
    run_copy(source, tmp_path / "copy")
    assert opened(tmp_path / "copy").config.cutting == opened(source).config.cutting
    assert opened(tmp_path / "copy").config.id != opened(source).config.id


def test_one_repository_twice_is_refused(tmp_path: Path) -> None:
    _, source = make_source(tmp_path)
    (tmp_path / "link").symlink_to(source)
    for first, second in (
        (source, source),
        (source, tmp_path / "link"),
        (source, f"file://{source}"),
        (source, source / "copy"),
        (source / "packs", source),
        ("s3://bucket/prefix?region=us-east-1", "s3://bucket/prefix/"),
    ):
        with pytest.raises(UsageError):
            run_copy(first, second)
    with pytest.raises(UsageError):
        run_copy("", source)


def test_an_empty_source_is_no_failure(tmp_path: Path) -> None:
    make_repository(tmp_path / "source")
    outcome = run_copy(tmp_path / "source", tmp_path / "copy")
    assert outcome.exit_code is Exit.OK
    assert outcome.data.snapshots_copied == []


def _check(place: Path, *, read_data: bool = True):  # type: ignore[no-untyped-def]
    from zitcache.events import Session
    from zitcache.tasks.check import CheckRequest, check

    return check(CheckRequest(repository=str(place), read_data=read_data), Session())


def _golden():  # type: ignore[no-untyped-def]
    from zitcache.repository.records import DigestRecord

    return DigestRecord(sha256={})  # any record will do: they are copied byte for byte
