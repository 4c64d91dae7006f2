"""What repair mends, where it takes it from, and what it says of the rest; on real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backup.world import (
    KIB,
    back_up,
    bring_back,
    data_of,
    flip,
    make_repository,
    noise,
    require_same,
    require_sound,
    settle,
    weights,
    zitcache,
)
from tests.prune.world import (
    DAY,
    MODEL,
    everything,
    names,
    opened,
    pass_time,
    run_forget,
    run_prune,
    snapshot,
    write,
)
from tests.storage.disks import python_environment
from tests.tasks.repositories import run_check
from zitcache.codec.frame import FrameKind
from zitcache.errors import CacheNotFound, Exit, IntegrityError, RepositoryNotFound, UnsupportedFormat
from zitcache.events import Outcome, Session
from zitcache.repository.notes import add_label
from zitcache.repository.records import TreeEntry
from zitcache.repository.selection import list_snapshots
from zitcache.tasks.repair import RepairReport, RepairRequest, repair
from zitcache.tasks.repair.salvage import sound_frames


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return write(
        tmp_path / "cache",
        model_safetensors=weights({"a": 200 * KIB, "b": 300 * KIB, "c": 40 * KIB}),
        other_bin=noise(150 * KIB, "other"),
        config_json=b'{"dim": 64}',
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(
        tmp_path / "repository", piece_size=64 * KIB, merge_below=16 * KIB, pack_size=1 << 20
    )


@pytest.fixture
def saved(repository: Path, cache: Path) -> str:
    return snapshot(repository, settle(cache))


def mend(repository: Path, cache: Path | None = None, **options: object) -> Outcome[RepairReport]:
    request = RepairRequest(
        repository=str(repository),
        cache=None if cache is None else str(cache),
        **options,  # type: ignore[arg-type]
    )
    return repair(request, Session())


@pytest.fixture(autouse=True)
def no_cache_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("ZITCACHE_CACHE", str(tmp_path / "nothing"))


def entry_of(repository: Path, name: str) -> TreeEntry:
    found = opened(repository)
    record = list_snapshots(found)[0][-1].record
    return next(entry for entry in found.tree(record) if entry.path.endswith(name))


def spoil_blob(repository: Path, blob: str, kind: FrameKind = FrameKind.DATA) -> None:
    for at in opened(repository).index.locations(blob):
        if at.kind == kind:
            flip(repository / "packs" / at.pack, at.offset + at.length - 1)


def spoil_piece(repository: Path, name: str, piece: int = 0) -> str:
    blob = opened(repository).piece_list(entry_of(repository, name))[piece][1]
    spoil_blob(repository, blob)
    return blob


def cut_pack(repository: Path, keep: float = 0.5) -> Path:
    pack = max((repository / "packs").iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(pack, int(pack.stat().st_size * keep))
    return pack


def require_whole(repository: Path, cache: Path, place: Path) -> None:
    bring_back(repository, place)
    require_same(cache, place)


def test_a_sound_repository_is_left_as_it_is(repository: Path, cache: Path, saved: str) -> None:
    before = everything(repository)
    outcome = mend(repository, cache)
    assert outcome.exit_code is Exit.OK and not outcome.data.set_aside and not outcome.warnings
    assert set(everything(repository)) == set(before)


# -- the index ------------------------------------------------------------------------------------------


def test_a_lost_index_is_built_anew_from_the_packs(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    for name in names(repository, "index"):
        (repository / "index" / name).unlink()
    report = mend(repository).data
    assert report.packs_indexed == 1 and not report.snapshots_damaged
    assert len(names(repository, "index")) == 1 and not opened(repository).unindexed_packs
    require_whole(repository, cache, tmp_path / "back")


@pytest.mark.parametrize("folder", ["index", "digests", "checks", "labels", "losses", "damaged", "marks"])
def test_a_broken_small_object_is_set_aside_and_kept(
    repository: Path, cache: Path, saved: str, folder: str
) -> None:
    (repository / folder).mkdir(exist_ok=True)
    if folder == "labels":
        add_label(opened(repository), saved, pin=True)
    elif folder != "index":
        (repository / folder / ("ab" * 32)).write_bytes(b"rubbish")
    (name,) = names(repository, folder)
    path = repository / folder / name
    if folder in {"index", "labels"}:
        flip(path)
    content = path.read_bytes()
    outcome = mend(repository)
    (moved,) = outcome.data.set_aside
    assert moved.name == f"{folder}/{name}" and moved.place is not None
    assert (repository / moved.place).read_bytes() == content
    assert outcome.exit_code is Exit.OK
    if folder == "index":
        assert path.read_bytes() != content, "made anew, under the name that its bytes have"
    else:
        assert not path.exists()
    assert run_check(repository).exit_code is Exit.OK
    assert not mend(repository).data.set_aside


def test_an_index_that_lies_about_a_pack_is_set_aside(repository: Path, cache: Path, saved: str) -> None:
    from zitcache.repository.records import BlobRecord, PackRecord

    (name,) = names(repository, "index")
    found = opened(repository)
    (pack,) = found.load_index_object(f"index/{name}").packs
    first = pack.blobs[0]
    lie = [BlobRecord("ab" * 32, first.kind, first.offset, first.length, first.raw_size), *pack.blobs[1:]]
    (repository / "index" / name).unlink()
    (liar,) = found.write_index([PackRecord(id=pack.id, size=pack.size, blobs=lie)])
    report = mend(repository).data
    assert [item.name for item in report.set_aside] == [f"index/{liar}"]
    assert "contradicts" in report.set_aside[0].problem and not report.snapshots_damaged
    require_sound(repository)


# -- packs, and what they lost --------------------------------------------------------------------------


def test_a_pack_that_was_cut_short_gives_what_is_left_of_it(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    cut_pack(repository, 0.7)
    outcome = mend(repository)
    report = outcome.data
    assert outcome.exit_code is Exit.DAMAGE and report.packs_broken == 1
    assert report.bytes_salvaged > 200_000 and report.snapshots_damaged
    healed = mend(repository, cache)
    assert healed.exit_code is Exit.DAMAGE, "the tree was at the end, and no cache has it"
    assert healed.data.snapshots_damaged[0].files == ["*"]
    back_up(repository, cache)
    assert len(list_snapshots(opened(repository))[0]) == 2
    newest = list_snapshots(opened(repository))[0][-1]
    bring_back(repository, tmp_path / "back", snapshot=newest.id)
    require_same(cache, tmp_path / "back")


def test_a_pack_whose_end_is_broken_is_written_anew(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    """Its blobs are found through the index; but if that were lost, too, nobody would find them."""
    pack = max((repository / "packs").iterdir(), key=lambda path: path.stat().st_size)
    flip(pack, pack.stat().st_size - 10)
    assert run_check(repository).exit_code is Exit.DAMAGE
    report = mend(repository).data
    assert report.packs_broken == 1 and report.bytes_salvaged > 600_000 and not report.snapshots_damaged
    assert mend(repository).data.bytes_salvaged == 0, "once is enough"
    run_prune(repository)
    pass_time(repository, 2 * DAY)
    run_prune(repository)
    assert not pack.exists() and run_check(repository, read_data=True).exit_code is Exit.OK
    require_whole(repository, cache, tmp_path / "back")


def test_a_pack_that_lost_its_end_and_its_index_is_salvaged(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    pack = max((repository / "packs").iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(pack, pack.stat().st_size - 40)
    for name in names(repository, "index"):
        (repository / "index" / name).unlink()
    report = mend(repository).data
    assert report.bytes_salvaged > 600_000 and not report.snapshots_damaged
    require_whole(repository, cache, tmp_path / "back")


def test_rubbish_between_frames_does_not_hide_the_frames_behind_it(repository: Path, saved: str) -> None:
    pack = max((repository / "packs").iterdir(), key=lambda path: path.stat().st_size)
    data = pack.read_bytes()
    count = sum(1 for _ in sound_frames(data))
    assert count > 10
    spoilt = bytearray(b"ZCF1" * 3 + data)
    spoilt[40:44] = b"\0\0\0\0"  # in the header of the first frame
    spoilt[200_000] ^= 1  # in the payload of another
    assert sum(1 for _ in sound_frames(bytes(spoilt))) == count - 2
    assert list(sound_frames(b"ZCF1" * 1000)) == []
    assert list(sound_frames(b"")) == []


def test_a_flipped_bit_is_healed_from_the_cache(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    spoil_piece(repository, "model.safetensors", 3)
    spoil_piece(repository, "config.json")
    assert run_check(repository, read_data=True).exit_code is Exit.DAMAGE
    report = mend(repository, cache, dry_run=True).data
    assert (report.blobs_lost, report.blobs_healed) == (2, 2) and not report.snapshots_damaged
    outcome = mend(repository, cache)
    assert outcome.exit_code is Exit.OK
    assert (outcome.data.blobs_lost, outcome.data.blobs_healed) == (2, 2)
    require_whole(repository, cache, tmp_path / "back")
    assert mend(repository, cache).data.blobs_lost == 0


def test_read_data_finds_the_damage_by_itself(repository: Path, cache: Path, saved: str) -> None:
    spoil_piece(repository, "other.bin")
    assert mend(repository, cache).data.blobs_lost == 0, "nobody has read it yet"
    report = mend(repository, cache, read_data=True).data
    assert report.packs_read == 1 and (report.blobs_lost, report.blobs_healed) == (1, 1)
    require_sound(repository)


def test_lost_bytes_are_found_in_a_file_of_another_name(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    spoil_piece(repository, "other.bin", 1)
    (cache / MODEL / "other.bin").rename(cache / MODEL / "renamed.bin")
    assert mend(repository, cache, read_data=True).data.blobs_healed == 1


def test_lost_bytes_are_found_in_a_file_of_another_size(repository: Path, cache: Path, saved: str) -> None:
    """The same tensors, sharded in another way."""
    spoil_piece(repository, "model.safetensors", 3)
    (cache / MODEL / "model.safetensors").unlink()
    write(cache, shard1_safetensors=weights({"a": 200 * KIB}), shard2_safetensors=weights({"b": 300 * KIB}))
    assert mend(repository, cache, read_data=True).data.blobs_healed == 1


def test_a_lost_piece_list_is_made_again_from_the_whole_file(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    lists = entry_of(repository, "model.safetensors").pieces
    assert lists is not None
    spoil_blob(repository, lists, FrameKind.PIECES)
    report = mend(repository, cache, read_data=True).data
    assert (report.blobs_lost, report.blobs_healed) == (1, 1)
    require_whole(repository, cache, tmp_path / "back")


def test_a_list_and_a_piece_that_it_names_are_both_healed(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    spoil_piece(repository, "model.safetensors", 2)
    lists = entry_of(repository, "model.safetensors").pieces
    assert lists is not None
    spoil_blob(repository, lists, FrameKind.PIECES)
    outcome = mend(repository, cache, read_data=True)
    assert outcome.exit_code is Exit.OK and outcome.data.blobs_healed == 2
    require_whole(repository, cache, tmp_path / "back")


def test_a_damaged_live_file_heals_nothing(repository: Path, cache: Path, saved: str) -> None:
    spoil_piece(repository, "other.bin", 1)
    flip(cache / MODEL / "other.bin", 70_000)
    outcome = mend(repository, cache, read_data=True)
    assert outcome.data.blobs_healed == 0 and outcome.exit_code is Exit.DAMAGE


def test_a_copy_in_another_pack_is_as_good(repository: Path, cache: Path, saved: str, tmp_path: Path) -> None:
    other = make_repository(tmp_path / "other", piece_size=64 * KIB, merge_below=16 * KIB, pack_size=1 << 20)
    snapshot(other, cache)
    for pack in (other / "packs").iterdir():
        (repository / "packs" / pack.name).write_bytes(pack.read_bytes())
    blob = opened(repository).piece_list(entry_of(repository, "other.bin"))[0][1]
    at = opened(repository).index.locations(blob)[0]
    flip(repository / "packs" / at.pack, at.offset + at.length - 1)
    outcome = mend(repository, read_data=True)
    assert outcome.exit_code is Exit.OK
    assert (outcome.data.copies_damaged, outcome.data.blobs_lost) == (1, 0)
    require_sound(repository)


# -- snapshots that lost something ----------------------------------------------------------------------


def test_a_snapshot_that_lost_files_is_kept_and_says_so(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    (cache / MODEL / "added.json").write_text("later")
    newer = snapshot(repository, cache)
    spoil_piece(repository, "added.json")
    outcome = mend(repository, read_data=True)
    assert outcome.exit_code is Exit.DAMAGE
    (damaged,) = outcome.data.snapshots_damaged
    assert damaged.id == newer and damaged.files == [f"{MODEL}/added.json"]
    assert names(repository, "snapshots") == {saved, newer}
    shown = json.loads(zitcache("snapshots", "-r", repository, "--json").stdout)["data"]
    assert [(item["suspect"], item["lost"]) for item in shown] == [
        (False, []),
        (True, [f"{MODEL}/added.json"]),
    ]
    assert bring_back(repository, tmp_path / "back").data.snapshot_id == saved, "the whole one is restored"
    before = names(repository, "losses")
    mend(repository)
    assert names(repository, "losses") == before, "said once is enough"
    # And when the file turns up again, the snapshot is whole again.
    report = mend(repository, cache).data
    assert report.snapshots_healed == [newer] and names(repository, "losses") == set()
    assert bring_back(repository, tmp_path / "again").data.snapshot_id == newer


def test_a_lossy_snapshot_does_not_count_for_retention_and_lets_prune_work(
    repository: Path, cache: Path, saved: str
) -> None:
    from zitcache.repository.retention import Policy

    (cache / MODEL / "added.json").write_text("later")
    newer = snapshot(repository, cache)
    blob = entry_of(repository, "added.json").blob
    assert blob is not None
    (at,) = opened(repository).index.locations(blob)
    spoil_blob(repository, blob)
    mend(repository, read_data=True)
    run_forget(repository, policy=Policy(last=1))
    assert names(repository, "snapshots") == {saved, newer}
    assert run_prune(repository).exit_code is Exit.OK
    assert at.pack in names(repository, "packs"), "what is damaged may yet be looked at"


def test_the_next_backup_heals_what_check_has_found(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    spoil_piece(repository, "model.safetensors", 3)
    assert run_check(repository, read_data=True).exit_code is Exit.DAMAGE
    report = back_up(repository, cache).data
    assert report.bytes_new_stored > 60_000 and not report.suspect
    require_sound(repository)
    bring_back(repository, tmp_path / "back", snapshot=saved)
    require_same(cache, tmp_path / "back")


def test_without_a_check_the_backup_does_not_read_what_is_unchanged(
    repository: Path, cache: Path, saved: str
) -> None:
    spoil_piece(repository, "model.safetensors", 3)
    assert back_up(repository, cache).data.bytes_read == 0


def test_a_broken_snapshot_object_is_set_aside(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    (cache / MODEL / "added.json").write_text("later")
    newer = snapshot(repository, cache)
    flip(repository / "snapshots" / newer)
    outcome = mend(repository)
    assert [item.name for item in outcome.data.set_aside] == [f"snapshots/{newer}"]
    assert outcome.exit_code is Exit.OK
    assert zitcache("snapshots", "-r", repository).returncode == 0
    assert run_prune(repository).exit_code is Exit.OK


# -- the config -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_lost_config_is_made_again(
    repository: Path, cache: Path, saved: str, tmp_path: Path, how: str
) -> None:
    config = (repository / "config").read_bytes()
    if how == "lost":
        (repository / "config").unlink()
    else:
        (repository / "config").write_bytes(b'{"format": "zitca')
    before = everything(repository)
    assert mend(repository, dry_run=True).data.config_rebuilt
    assert everything(repository) == before
    outcome = mend(repository)
    assert outcome.data.config_rebuilt and outcome.exit_code is Exit.OK
    assert [item.name for item in outcome.data.set_aside] == (["config"] if how == "damaged" else [])
    assert json.loads((repository / "config").read_bytes())["id"] != json.loads(config)["id"]
    require_whole(repository, cache, tmp_path / "back")
    back_up(repository, cache)
    assert not mend(repository).data.config_rebuilt


def test_a_config_of_larger_pieces_is_told_from_the_packs(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "large", piece_size=9 << 20, pack_size=64 << 20)
    cache = write(tmp_path / "cache", a_bin=noise(20 << 20, "a"))
    snapshot(repository, cache)
    (repository / "config").unlink()
    mend(repository)
    assert opened(repository).config.cutting.piece_size == 9 << 20
    assert run_check(repository, read_data=True).exit_code is Exit.OK


def test_a_newer_repository_is_not_touched(repository: Path, saved: str) -> None:
    config = json.loads((repository / "config").read_bytes())
    for change in ({"version": 2}, {"features": ["encryption"]}):
        (repository / "config").write_text(json.dumps({**config, **change}))
        before = everything(repository)
        with pytest.raises(UnsupportedFormat):
            mend(repository)
        assert everything(repository) == before


def test_where_there_is_no_repository_none_is_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RepositoryNotFound):
        mend(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


# -- everything at once ---------------------------------------------------------------------------------


def lose_index(repository: Path) -> None:
    for name in names(repository, "index"):
        (repository / "index" / name).unlink()


def lose_config(repository: Path) -> None:
    (repository / "config").unlink()


def spoil_data(repository: Path) -> None:
    spoil_piece(repository, "model.safetensors", 1)


def spoil_list(repository: Path) -> None:
    spoil_blob(repository, entry_of(repository, "other.bin").pieces or "", FrameKind.PIECES)


def spoil_ends(repository: Path) -> None:
    for pack in (repository / "packs").iterdir():
        flip(pack, pack.stat().st_size - 5)


def test_all_of_it_together_is_mended(repository: Path, cache: Path, saved: str, tmp_path: Path) -> None:
    steps: list[Callable[[Path], None]] = [spoil_data, spoil_list, lose_index, spoil_ends, lose_config]
    for step in steps:
        step(repository)
    with pytest.raises(IntegrityError):
        opened(repository)
    before = everything(repository)
    planned = mend(repository, cache, dry_run=True, read_data=True).data
    assert everything(repository) == before
    outcome = mend(repository, cache, read_data=True)
    assert outcome.exit_code is Exit.OK, outcome.warnings
    assert outcome.data.config_rebuilt and planned.config_rebuilt
    require_whole(repository, cache, tmp_path / "back")
    for _ in range(2):
        pass_time(repository, 2 * DAY)
        run_prune(repository)
    assert run_check(repository, read_data=True).exit_code is Exit.OK
    require_whole(repository, cache, tmp_path / "again")


def test_hostile_lists_make_repair_read_nothing_it_should_not(
    repository: Path, cache: Path, saved: str, tmp_path: Path
) -> None:
    """A tree that names a path outside the cache, and a piece as long as the disk."""
    from tests.tasks.repositories import store_snapshot
    from zitcache.repository.records import PieceList

    found = opened(repository)
    with found.saver(1) as saver:
        huge = found.save_metadata(
            saver, PieceList(size=1 << 40, pieces=[(1 << 40, "cd" * 32)]), FrameKind.PIECES
        )
        found.write_index(saver.finish())
    store_snapshot(
        repository,
        [
            TreeEntry(path="../../etc/passwd", kind="file", mode=0, mtime_ns=0, size=9, blob="ab" * 32),
            TreeEntry(path="huge", kind="file", mode=0, mtime_ns=0, size=1 << 40, pieces=huge),
        ],
    )
    outcome = mend(repository, cache)
    assert outcome.exit_code is Exit.DAMAGE
    assert outcome.data.snapshots_damaged[0].files == ["../../etc/passwd", "huge"]


def test_a_cache_that_was_named_must_be_there(repository: Path, saved: str, tmp_path: Path) -> None:
    with pytest.raises(CacheNotFound):
        mend(repository, tmp_path / "no-such-cache")


def test_repair_on_the_command_line(repository: Path, cache: Path, saved: str) -> None:
    spoil_piece(repository, "other.bin")
    dry = zitcache("repair", "-r", repository, "--cache", cache, "--read-data", "--dry-run")
    assert dry.returncode == 0 and dry.stdout.startswith("Would mend"), dry.stdout
    done = zitcache("repair", "-r", repository, "--cache", cache, "--read-data", "--json")
    assert data_of(done)["blobs_healed"] == 1
    reader = next(Path(__file__).parents[2].rglob("read_repository.py"))
    read = subprocess.run(
        [sys.executable, str(reader), str(repository)], capture_output=True, env=python_environment()
    )
    assert read.returncode == 0 and saved[:8] in read.stdout.decode()
