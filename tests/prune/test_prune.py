"""What prune deletes, when, and what it refuses to touch; on a real repository in a directory."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup.world import MIB, bring_back, flip, require_same, require_sound, unprivileged, zitcache
from tests.prune.world import (
    DAY,
    MODEL,
    big,
    everything,
    names,
    new_repository,
    opened,
    pass_time,
    remove,
    run_forget,
    run_prune,
    run_undelete,
    snapshot,
    write,
)
from tests.storage.disks import python_environment
from zitcache.errors import CredentialsError, Exit, Locked
from zitcache.events import Session
from zitcache.repository.locks import LOCK_FOLDER, PruneLock
from zitcache.repository.marks import CLAIM_FOLDER, ClaimRecord, nonce
from zitcache.repository.notes import add_label
from zitcache.tasks.prune import PruneRefused


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return write(tmp_path / "cache", weights_bin=big("first"), config_json=b"{}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return new_repository(tmp_path / "repository")


@pytest.fixture
def replaced(repository: Path, cache: Path) -> tuple[str, str]:
    """Two snapshots: between them the weights were replaced. The first is forgotten."""
    first = snapshot(repository, cache)
    write(cache, weights_bin=big("second"))
    second = snapshot(repository, cache)
    run_forget(repository, first)
    return first, second


def test_what_nothing_needs_is_deleted_after_the_grace_period_and_not_before(
    repository: Path, cache: Path, replaced: tuple[str, str], tmp_path: Path
) -> None:
    packs = names(repository, "packs")
    report = run_prune(repository).data
    assert (report.packs_marked, report.packs_deleted, report.snapshots_held) == (1, 0, 1)
    assert report.bytes_marked > 300_000 and report.next_sweep is not None
    assert report.packs_repacked == 1, "config.json lies in the marked pack, and is needed"
    assert packs < names(repository, "packs")
    pass_time(repository, DAY - 100)
    assert run_prune(repository).data.packs_deleted == 0
    pass_time(repository, 200)
    report = run_prune(repository).data
    assert (report.packs_deleted, report.snapshots_gone) == (1, [replaced[0]])
    assert report.bytes_freed > 300_000 and report.next_sweep is None
    assert len(names(repository, "packs")) == len(packs) and packs - names(repository, "packs")
    assert not names(repository, "marks") and not names(repository, "forgotten")
    require_sound(repository)
    bring_back(repository, tmp_path / "back")
    require_same(cache, tmp_path / "back")


@pytest.mark.parametrize("clock", ["own", "files"])
def test_one_clock_that_jumped_is_not_enough(repository: Path, replaced: tuple[str, str], clock: str) -> None:
    """Both the note's own time and the storage's must say that the grace period is over."""
    run_prune(repository)
    pass_time(repository, 400 * DAY, own=clock == "own", files=clock == "files")
    report = run_prune(repository).data
    assert report.packs_deleted == 0 and report.snapshots_gone == []
    assert run_undelete(repository, replaced[0]).data.restored == 1


def test_a_dry_run_changes_nothing_and_foretells_what_happens(
    repository: Path, replaced: tuple[str, str]
) -> None:
    before = everything(repository)
    foretold = run_prune(repository, dry_run=True).data
    assert everything(repository) == before
    done = run_prune(repository).data
    assert (foretold.packs_marked, foretold.bytes_marked) == (done.packs_marked, done.bytes_marked)
    pass_time(repository, 2 * DAY)
    foretold, before = run_prune(repository, dry_run=True).data, everything(repository)
    assert foretold.packs_deleted == 1 and foretold.snapshots_gone == [replaced[0]]
    assert everything(repository) == before
    assert run_prune(repository).data.packs_deleted == 1


def test_a_backup_revives_what_was_marked(
    repository: Path, cache: Path, replaced: tuple[str, str], tmp_path: Path
) -> None:
    run_prune(repository)
    pass_time(repository, 2 * DAY)
    write(cache, weights_bin=big("first"))
    report_packs = names(repository, "packs")
    snapshot(repository, cache)
    assert len(names(repository, "packs") - report_packs) == 1, "only lists and trees were stored"
    report = run_prune(repository).data
    assert report.packs_revived == 1 and report.packs_deleted == 0
    require_sound(repository)
    bring_back(repository, tmp_path / "back")
    require_same(cache, tmp_path / "back")


def test_a_forgotten_snapshot_comes_back_whole(
    repository: Path, replaced: tuple[str, str], tmp_path: Path
) -> None:
    run_prune(repository)
    pass_time(repository, DAY / 2)
    run_prune(repository)
    assert run_undelete(repository, replaced[0]).data.restored == 1
    require_sound(repository)
    bring_back(repository, tmp_path / "back", snapshot=replaced[0])
    assert (tmp_path / "back" / MODEL / "weights.bin").read_bytes() == big("first")
    pass_time(repository, 9 * DAY)
    assert run_prune(repository).data.packs_deleted == 0


def test_a_pinned_snapshot_that_was_forgotten_stays_for_ever(
    repository: Path, replaced: tuple[str, str]
) -> None:
    add_label(opened(repository), replaced[0], pin=True)
    run_prune(repository)
    pass_time(repository, 999 * DAY)
    assert run_prune(repository).data.packs_deleted == 0
    assert run_undelete(repository, replaced[0]).data.restored == 1


def test_grace_zero_deletes_at_once(repository: Path, replaced: tuple[str, str]) -> None:
    report = run_prune(repository, grace_seconds=0).data
    assert report.packs_deleted == 1 and report.snapshots_gone == [replaced[0]]
    require_sound(repository)


def test_packs_of_an_unfinished_backup_are_left_for_a_day(repository: Path, cache: Path) -> None:
    snapshot(repository, cache)
    with opened(repository).saver(1) as saver:
        from zitcache.codec.blob import blob_id, encode

        assert saver.claim(blob_id(big("unfinished")).hex())
        saver.save(encode(big("unfinished")))
        saver.finish()
    assert run_prune(repository).data.packs_marked == 0
    pass_time(repository, 2 * DAY)
    assert run_prune(repository).data.packs_marked == 1
    pass_time(repository, 2 * DAY)
    assert run_prune(repository).data.packs_deleted == 1


# -- repacking, merging ---------------------------------------------------------------------------------


@pytest.fixture
def half_empty(repository: Path, cache: Path) -> Path:
    """One pack holds five files of which the last snapshot needs one."""
    for number in range(4):
        write(cache, **{f"part{number}_bin": big(f"part {number}", 150_000)})
    first = snapshot(repository, cache)
    for number in range(4):
        remove(cache, f"part{number}.bin")
    snapshot(repository, cache)
    run_forget(repository, first)
    pass_time(repository, 2 * DAY)
    return repository


def test_packs_that_are_mostly_unused_are_repacked(half_empty: Path, cache: Path, tmp_path: Path) -> None:
    before = sum(path.stat().st_size for path in (half_empty / "packs").iterdir())
    report = run_prune(half_empty).data
    assert report.packs_repacked == 1 and 300_000 < report.bytes_repacked < 400_000
    pass_time(half_empty, 2 * DAY)
    run_prune(half_empty)
    after = sum(path.stat().st_size for path in (half_empty / "packs").iterdir())
    assert after < before - 500_000
    require_sound(half_empty)
    assert run_prune(half_empty).data.packs_repacked == 0, "and then it is done"
    bring_back(half_empty, tmp_path / "back")
    require_same(cache, tmp_path / "back")


def test_a_share_that_may_stay_unused_is_not_repacked(half_empty: Path) -> None:
    assert run_prune(half_empty, max_unused=1e9).data.packs_repacked == 0
    assert run_prune(half_empty, max_repack_bytes=1000).data.packs_repacked == 0
    assert run_prune(half_empty).data.packs_repacked == 1


def test_a_damaged_blob_is_not_carried_into_a_new_pack(half_empty: Path) -> None:
    """Its pack stays as it is, and prune says so."""
    entry = next(
        entry
        for entry in opened(half_empty).tree(
            opened(half_empty).load_snapshot(*names(half_empty, "snapshots"))
        )
        if entry.path.endswith("weights.bin")
    )
    blob = opened(half_empty).piece_list(entry)[1][1]
    (at,) = opened(half_empty).index.locations(blob)
    flip(half_empty / "packs" / at.pack, at.offset + 100)
    outcome = run_prune(half_empty)
    assert outcome.exit_code is Exit.DAMAGE and outcome.data.packs_repacked == 0
    pass_time(half_empty, 2 * DAY)
    run_prune(half_empty)
    assert at.pack in names(half_empty, "packs")


def test_a_year_of_small_objects_is_put_together(repository: Path, cache: Path) -> None:
    for night in range(12):
        write(cache, config_json=f"{night}".encode())
        snapshot(repository, cache)
        zitcache("check", "-r", repository, "--read-data-subset", "5%", "-q")
    assert len(names(repository, "index")) == 12 and len(names(repository, "checks")) == 12
    assert run_prune(repository).data.objects_merged > 20
    assert len(names(repository, "index")) == 1 and len(names(repository, "checks")) == 1
    pass_time(repository, 2 * DAY)
    run_prune(repository)
    assert len(names(repository, "packs")) <= 3
    require_sound(repository)
    assert not opened(repository).unindexed_packs
    assert len(names(repository, "snapshots")) == 12


def test_the_reader_of_last_resort_reads_a_pruned_repository(half_empty: Path, tmp_path: Path) -> None:
    run_prune(half_empty, grace_seconds=0)
    reader = next(Path(__file__).parents[2].rglob("read_repository.py"))
    done = subprocess.run(
        [sys.executable, str(reader), str(half_empty), "latest", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=python_environment(),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / MODEL / "weights.bin").read_bytes() == big("first")


# -- two copies -----------------------------------------------------------------------------------------


@pytest.fixture
def doubled(repository: Path, cache: Path) -> Path:
    """Two machines stored the same at the same time: every blob lies in two packs."""
    snapshot(repository, cache)
    other = new_repository(repository.with_name("other"))
    (other / "config").write_bytes((repository / "config").read_bytes())
    snapshot(other, cache)
    for pack in (other / "packs").iterdir():
        (repository / "packs" / pack.name).write_bytes(pack.read_bytes())
    pass_time(repository, 3 * DAY)
    return repository


def test_of_two_copies_one_goes(doubled: Path, cache: Path, tmp_path: Path) -> None:
    packs = names(doubled, "packs")
    assert run_prune(doubled).data.packs_marked == len(packs) // 2
    pass_time(doubled, 2 * DAY)
    run_prune(doubled)
    assert len(names(doubled, "packs")) == len(packs) // 2
    bring_back(doubled, tmp_path / "back")
    require_same(cache, tmp_path / "back")


@pytest.mark.parametrize("which", ["kept", "marked"])
def test_the_sound_one_of_two_copies_stays_even_if_nobody_knew(
    doubled: Path, cache: Path, tmp_path: Path, which: str
) -> None:
    """A copy is deleted only after the one that stays has been read."""
    run_prune(doubled)
    from zitcache.repository.marks import MarkRecord

    (mark,) = opened(doubled).load_records("marks", MarkRecord)
    packs = names(doubled, "packs")
    victims = set(mark.packs) if which == "marked" else packs - set(mark.packs)
    for pack in victims:
        flip(doubled / "packs" / pack, 1000)
    pass_time(doubled, 2 * DAY)
    run_prune(doubled)
    require_sound(doubled)
    bring_back(doubled, tmp_path / "back")
    require_same(cache, tmp_path / "back")


# -- refusing -------------------------------------------------------------------------------------------


def spoil_snapshot(repository: Path) -> None:
    flip(repository / "snapshots" / min(names(repository, "snapshots")))


def lose_tree(repository: Path) -> None:
    found = opened(repository)
    tree = found.load_snapshot(min(names(repository, "snapshots"))).trees[0]
    (at,) = found.index.locations(tree)
    flip(repository / "packs" / at.pack, at.offset + 70)


def lose_piece_list(repository: Path) -> None:
    found = opened(repository)
    entries = found.tree(found.load_snapshot(min(names(repository, "snapshots"))))
    (lists,) = [entry.pieces for entry in entries if entry.pieces]
    (at,) = found.index.locations(lists)
    flip(repository / "packs" / at.pack, at.offset + 70)


def lose_pack(repository: Path) -> None:
    found = opened(repository)
    entries = found.tree(found.load_snapshot(min(names(repository, "snapshots"))))
    entry = next(entry for entry in entries if entry.pieces)
    (at,) = found.index.locations(found.piece_list(entry)[0][1])
    (repository / "packs" / at.pack).unlink()


def spoil_label(repository: Path) -> None:
    add_label(opened(repository), min(names(repository, "snapshots")), pin=True)
    flip(repository / "labels" / min(names(repository, "labels")))


def spoil_forgotten(repository: Path) -> None:
    flip(repository / "forgotten" / min(names(repository, "forgotten")))


@pytest.mark.parametrize(
    "break_it", [spoil_snapshot, lose_tree, lose_piece_list, lose_pack, spoil_label, spoil_forgotten]
)
def test_nothing_is_deleted_on_partial_knowledge(
    repository: Path, replaced: tuple[str, str], break_it: object
) -> None:
    run_prune(repository)
    pass_time(repository, 9 * DAY)
    break_it(repository)  # type: ignore[operator]
    before = everything(repository)
    with pytest.raises(PruneRefused) as refused:
        run_prune(repository, grace_seconds=0)
    assert refused.value.exit_code is Exit.DAMAGE and "repair" in str(refused.value.hint)
    assert "Nothing was deleted" in refused.value.message
    assert {name for name in before if not name.startswith(".")} == set(everything(repository))


def test_a_second_prune_is_told_who_works(repository: Path, replaced: tuple[str, str]) -> None:
    with PruneLock(opened(repository)), pytest.raises(Locked) as locked:
        run_prune(repository)
    assert f"process {os.getpid()}" in locked.value.message and locked.value.exit_code is Exit.LOCKED
    assert run_prune(repository).data.packs_marked == 1


def test_the_lock_of_a_dead_process_is_no_lock(repository: Path, replaced: tuple[str, str]) -> None:
    script = (
        "import os, sys; from zitcache.storage.local import LocalStorage;"
        "from zitcache.repository.repository import Repository;"
        "from zitcache.repository.locks import PruneLock;"
        "PruneLock(Repository.open(LocalStorage(sys.argv[1]))).__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(repository)], env=python_environment())
    assert len(names(repository, LOCK_FOLDER)) == 1
    assert run_prune(repository).data.packs_marked == 1
    assert names(repository, LOCK_FOLDER) == set()


@pytest.mark.parametrize(("age", "is_free"), [(60, False), (3600, True), (-7200, True)])
def test_the_lock_of_another_machine_expires(
    repository: Path, monkeypatch: pytest.MonkeyPatch, age: float, is_free: bool
) -> None:
    monkeypatch.setattr("zitcache.repository.locks.socket.gethostname", lambda: "elsewhere")
    PruneLock(opened(repository)).__enter__()
    monkeypatch.undo()
    (name,) = names(repository, LOCK_FOLDER)
    moment = time.time() - age
    os.utime(repository / LOCK_FOLDER / name, (moment, moment))
    monkeypatch.setattr("zitcache.repository.locks.time.sleep", lambda seconds: None)
    if is_free:
        run_prune(repository)
    else:
        with pytest.raises(Locked, match="elsewhere"):
            run_prune(repository)


@pytest.fixture
def public(repository: Path, replaced: tuple[str, str]) -> Iterator[Path]:
    """That repository, where everybody may look into it."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(shutil.copytree(repository, os.path.join(place, "repository")))


def test_without_the_right_to_delete_nothing_is_half_done(public: Path) -> None:
    repository = public
    run_prune(repository)
    pass_time(repository, 9 * DAY)
    os.chmod(repository, 0o755)
    for folder in repository.iterdir():
        if folder.is_dir():
            os.chmod(folder, 0o777 if folder.name in {"locks", "sweeps", "marks"} else 0o555)
    with unprivileged(), pytest.raises(CredentialsError) as denied:
        run_prune(repository)
    assert "does not allow to delete" in denied.value.message
    assert "Nothing is half done" in str(denied.value.hint)
    require_sound(repository)
    for folder in repository.iterdir():
        if folder.is_dir():
            os.chmod(folder, 0o755)
    assert run_prune(repository).data.packs_deleted == 1
    assert names(repository, "sweeps") == set()


def test_forget_without_the_right_to_delete_leaves_all_as_it_was(
    public: Path, replaced: tuple[str, str]
) -> None:
    repository, first = public, replaced[0]
    run_undelete(repository, first)
    os.chmod(repository / "forgotten", 0o777)
    os.chmod(repository / "snapshots", 0o555)
    os.chmod(repository, 0o755)
    with unprivileged(), pytest.raises(CredentialsError, match="does not allow to delete"):
        run_forget(repository, first)
    assert first in names(repository, "snapshots") and names(repository, "forgotten") == set()


# -- claims of writers that died ------------------------------------------------------------------------


def test_a_claim_protects_until_it_is_surely_that_of_a_dead_writer(
    repository: Path, replaced: tuple[str, str]
) -> None:
    found = opened(repository)
    packs = sorted(found.index.packs)
    record = ClaimRecord(time=int(time.time()), host="gone", nonce=nonce(), snapshot="ab" * 32, packs=packs)
    name = found.store_record(CLAIM_FOLDER, record)
    run_prune(repository)
    pass_time(repository, 2 * DAY)
    assert run_prune(repository).data.packs_deleted == 0, "somebody may be about to commit"
    assert names(repository, CLAIM_FOLDER) == {name}
    old = found.store_record(
        CLAIM_FOLDER,
        ClaimRecord(time=record.time - 30 * DAY, host="gone", nonce=nonce(), snapshot="ab" * 32, packs=packs),
    )
    (repository / CLAIM_FOLDER / name).unlink()
    moment = time.time() - 30 * DAY
    os.utime(repository / CLAIM_FOLDER / old, (moment, moment))
    assert run_prune(repository).data.packs_deleted == 0, "not by one look at a clock"
    pass_time(repository, 2 * DAY)
    assert run_prune(repository).data.packs_deleted == 1
    assert names(repository, CLAIM_FOLDER) == set()


def test_a_claim_whose_snapshot_is_there_is_removed(repository: Path, replaced: tuple[str, str]) -> None:
    """Append-only credentials let a backup claim, but not take the claim back."""
    found = opened(repository)
    found.store_record(
        CLAIM_FOLDER,
        ClaimRecord(time=0, host="box", nonce=nonce(), snapshot=replaced[1], packs=sorted(found.index.packs)),
    )
    assert run_prune(repository, grace_seconds=0).data.packs_deleted == 1
    assert names(repository, CLAIM_FOLDER) == set()


# -- listings that lag ----------------------------------------------------------------------------------


def test_on_a_network_file_system_both_sides_wait_for_listings(
    repository: Path, cache: Path, replaced: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim stays until the snapshot shows up; the sweep looks only when everybody has seen it."""
    from zitcache.repository import committing
    from zitcache.tasks.prune import sweeping

    for module in (committing, sweeping):
        monkeypatch.setattr(module, "may_lag", lambda repository: True)
    monkeypatch.setattr(sweeping, "LAG_SECONDS", 0.5)
    looked: list[float] = []
    right = sweeping.gather
    monkeypatch.setattr(sweeping, "gather", lambda *all_: looked.append(time.monotonic()) or right(*all_))
    write(cache, config_json=b"changed")
    snapshot(repository, cache)
    assert len(names(repository, CLAIM_FOLDER)) == 1
    began = time.monotonic()
    assert run_prune(repository, grace_seconds=0).data.packs_deleted == 1
    assert looked[0] - began >= 1
    assert names(repository, CLAIM_FOLDER) == set()


def test_where_listings_may_lag(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    from zitcache.machine.mounts import mount_of
    from zitcache.repository.lag import may_lag
    from zitcache.storage.traits import StorageTraits

    found = opened(repository)
    assert not may_lag(found)
    for listing in ("late", "something later"):
        found.config = msgspec.structs.replace(found.config, storage=StorageTraits(listing=listing))
        assert may_lag(found)
    found.config = msgspec.structs.replace(found.config, storage=StorageTraits())
    assert not may_lag(found)
    nfs = dataclasses.replace(mount_of(repository), is_network=True)
    monkeypatch.setattr("zitcache.repository.lag.mount_of", lambda place: nfs)
    assert may_lag(found)


# -- odds and ends --------------------------------------------------------------------------------------


def test_temporaries_of_killed_writers_go_after_a_day(repository: Path, cache: Path) -> None:
    snapshot(repository, cache)
    young, old = (repository / "packs" / f".tmp-1-{digit * 16}" for digit in "ab")
    young.write_bytes(b"x")
    old.write_bytes(b"x")
    moment = time.time() - 2 * DAY
    os.utime(old, (moment, moment))
    assert run_prune(repository).data.temporaries_removed == 1
    assert young.exists() and not old.exists()


def test_foreign_files_are_never_touched(repository: Path, replaced: tuple[str, str]) -> None:
    (repository / "packs" / "notes.txt").write_text("mine")
    (repository / "mine").mkdir()
    run_prune(repository, grace_seconds=0)
    assert (repository / "packs" / "notes.txt").read_text() == "mine" and (repository / "mine").is_dir()


def test_an_interrupted_prune_goes_on(repository: Path, replaced: tuple[str, str]) -> None:
    from zitcache.errors import Interrupted
    from zitcache.events import Cancel

    cancel = Cancel()
    cancel.set()
    with pytest.raises(Interrupted):
        run_prune(repository, Session(cancel=cancel))
    assert names(repository, LOCK_FOLDER) == set()
    assert run_prune(repository, grace_seconds=0).data.packs_deleted == 1


def test_marks_from_the_future_are_dated_anew(repository: Path, replaced: tuple[str, str]) -> None:
    """A night with a clock in 2099 must not keep the disk full until then."""
    run_prune(repository)
    pass_time(repository, -70 * 365 * DAY)
    run_prune(repository)
    pass_time(repository, 2 * DAY)
    run_prune(repository)
    assert names(repository, "marks") == set()
    assert len(names(repository, "packs")) < 4
    require_sound(repository)


def test_a_pack_that_cannot_be_read_is_left_alone(repository: Path, replaced: tuple[str, str]) -> None:
    stray = repository / "packs" / ("ab" * 32)
    stray.write_bytes(b"rubbish" * 1000)
    outcome = run_prune(repository)
    assert outcome.data.packs_unreadable == 1 and stray.exists()
    assert [warning.code for warning in outcome.warnings] == ["pack-unreadable"]


def test_prune_on_the_command_line(repository: Path, replaced: tuple[str, str]) -> None:
    done = zitcache("prune", "-r", repository, "--grace", "0", "--max-repack-size", "10M")
    assert done.returncode == 0 and done.stdout.startswith("Freed "), done.stderr
    assert zitcache("prune", "-r", repository, "--grace", "soon").returncode == 2
    assert zitcache("prune", "-r", repository, "--max-unused", "lots").returncode == 2
    assert zitcache("prune", "-r", repository, "--max-repack-size", "ten").returncode == 2
    assert MIB
