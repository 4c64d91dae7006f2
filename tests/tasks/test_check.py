"""``check`` finds what is wrong with a repository, names it, and says which files it costs."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from tests.storage.disks import mounted, names_under
from tests.storage.faults import FaultyStorage, Plan
from tests.tasks.repositories import (
    MODEL,
    back_up,
    flip_bit,
    frame_of_file,
    frames_of,
    new_repository,
    newest_tree,
    packs_of,
    reopened,
    run_check,
    store_blob,
    store_snapshot,
    weights,
    write_cache,
)
from zitcache.codec.blob import encode_metadata
from zitcache.codec.frame import FrameKind
from zitcache.errors import (
    Exit,
    IntegrityError,
    Interrupted,
    RepositoryNotFound,
    Unreachable,
    UnsupportedFormat,
    UsageError,
)
from zitcache.events import Progress, Session
from zitcache.repository.checks import verified_packs
from zitcache.repository.digests import known_sha256
from zitcache.repository.records import BlobRecord, IndexRecord, PackRecord, TreeEntry
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.check.data import PackCheck
from zitcache.tasks.check.findings import Findings
from zitcache.tasks.check.structure import check_structure
from zitcache.tasks.restore import RestoreRequest, restore

SHARD = f"{MODEL}/model-2.safetensors"


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one snapshot in a repository of several packs; tests take copies."""
    place = tmp_path_factory.mktemp("pristine")
    write_cache(place / "cache")
    new_repository(place / "repo")
    back_up(place / "repo", place / "cache")
    assert len(packs_of(place / "repo")) >= 4
    return place


@pytest.fixture
def repo(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine / "repo", tmp_path / "repo"))


def short_id(repo: Path) -> str:
    (snapshot,) = (repo / "snapshots").iterdir()
    return snapshot.name[:8]


def restored(repo: Path, target: Path) -> tuple[Exit, list[str]]:
    outcome = restore(RestoreRequest(repository=str(repo), to=str(target)), Session())
    return outcome.exit_code, outcome.data.failed


# -- a sound repository -----------------------------------------------------------------------------


def test_a_sound_repository_passes_and_is_not_changed(repo: Path) -> None:
    before = names_under(repo)
    outcome = run_check(repo)
    assert (outcome.exit_code, outcome.data.damaged, outcome.warnings) == (Exit.OK, [], [])
    assert outcome.data.snapshots == 1
    assert outcome.data.packs == len(packs_of(repo))
    assert outcome.data.blobs == len(reopened(repo).index)
    assert (outcome.data.blobs_checked, outcome.data.bytes_read, outcome.data.oldest_check) == (0, 0, None)
    assert names_under(repo) == before


def test_reading_data_reads_every_pack_once(repo: Path) -> None:
    shown = CountingProgress()
    outcome = run_check(repo, read_data=True, session=Session(shown))
    stored = sum(path.stat().st_size for path in packs_of(repo))
    assert (outcome.exit_code, outcome.data.damaged) == (Exit.OK, [])
    assert outcome.data.blobs_checked == outcome.data.blobs
    assert outcome.data.bytes_read == stored == shown.totals["Reading packs"] == shown.done["Reading packs"]
    assert outcome.data.packs_checked == outcome.data.packs
    assert outcome.data.oldest_check is not None
    assert outcome.data.oldest_check[:4] == time.strftime("%Y", time.gmtime())


def test_an_empty_repository_is_sound(tmp_path: Path) -> None:
    new_repository(tmp_path / "repo")
    outcome = run_check(tmp_path / "repo", read_data=True)
    assert (outcome.exit_code, outcome.data.packs, outcome.data.oldest_check) == (Exit.OK, 0, None)


class CountingProgress(Progress):
    """Adds up what each stage announced and did; can ask to stop in the middle."""

    def __init__(self, stop_at_bytes: int | None = None) -> None:
        self.totals: dict[str, int | None] = {}
        self.done: dict[str, int] = {}
        self.current = ""
        self.stop_at_bytes = stop_at_bytes
        self.session: Session | None = None

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self.current = name
        self.totals[name] = total_bytes

    def advance(self, byte_count: int) -> None:
        self.done[self.current] = self.done.get(self.current, 0) + byte_count
        if self.session and self.stop_at_bytes is not None and self.done[self.current] > self.stop_at_bytes:
            self.session.cancel.set()


# -- damage -----------------------------------------------------------------------------------------


def test_a_flipped_bit_names_the_blob_and_its_file_and_the_others_restore(
    repo: Path, pristine: Path, tmp_path: Path
) -> None:
    blob, pack, offset, length = frame_of_file(repo, "model-2.safetensors", piece=3)
    flip_bit(pack, offset + length // 2)
    assert run_check(repo).data.damaged == [], "the structure alone cannot show it"
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.pack, damaged.tampered) == (blob, pack.name, False)
    assert damaged.files == [f"{short_id(repo)}:{SHARD}"]
    assert outcome.data.blobs_checked == outcome.data.blobs, "the other blobs are read all the same"
    assert outcome.data.oldest_check is None, "a damaged pack does not count as verified"
    assert pack.name not in verified_packs(reopened(repo))
    assert len(verified_packs(reopened(repo))) == len(packs_of(repo)) - 1

    assert restored(repo, tmp_path / "back") == (Exit.DAMAGE, [SHARD])
    for name in ("model-1.safetensors", "model-3.safetensors", "config.json", "README.md", "empty"):
        original = pristine / "cache" / MODEL / name
        assert (tmp_path / "back" / MODEL / name).read_bytes() == original.read_bytes()
    assert not (tmp_path / "back" / SHARD).exists()


def test_no_flipped_bit_anywhere_goes_unnoticed(repo: Path) -> None:
    chance = random.Random(7)
    objects = [path for folder in ("packs", "index", "snapshots") for path in (repo / folder).iterdir()]
    for path in objects:
        for _ in range(6):
            offset, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
            flip_bit(path, offset, bit)
            outcome = run_check(repo, read_data=True)
            assert outcome.exit_code in {Exit.DAMAGE, Exit.TAMPERED}, (
                f"{path.name[:8]} byte {offset} bit {bit}"
            )
            assert any(path.name in {damaged.id, damaged.pack} for damaged in outcome.data.damaged)
            flip_bit(path, offset, bit)
    assert run_check(repo, read_data=True).exit_code == Exit.OK


def test_every_damaged_piece_of_a_pack_is_named(repo: Path) -> None:
    spoiled = set()
    for piece in (0, 2, 4):
        blob, pack, offset, length = frame_of_file(repo, "model-1.safetensors", piece)
        flip_bit(pack, offset + length - 1)
        spoiled.add((blob, pack.name))
    damaged = run_check(repo, read_data=True).data.damaged
    assert {(each.id, each.pack) for each in damaged} == spoiled


@pytest.mark.parametrize("kept", [0.5, 0.999, 0.0])
def test_a_truncated_pack_costs_its_files_and_no_others(repo: Path, tmp_path: Path, kept: float) -> None:
    blob, pack, _, _ = frame_of_file(repo, "model-2.safetensors", piece=3)
    os.truncate(pack, int(pack.stat().st_size * kept))
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.pack) == (pack.name, pack.name)
    assert "bytes" in damaged.problem
    assert f"{short_id(repo)}:{SHARD}" in damaged.files
    code, failed = restored(repo, tmp_path / "back")
    assert code == Exit.DAMAGE
    assert damaged.files == [f"{short_id(repo)}:{path}" for path in failed]
    assert blob not in reopened(repo).index


def test_a_deleted_pack_is_missed_with_the_files_it_costs(repo: Path, tmp_path: Path) -> None:
    _, pack, _, _ = frame_of_file(repo, "model-2.safetensors")
    pack.unlink()
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.problem) == (pack.name, "The pack is missing.")
    _, failed = restored(repo, tmp_path / "back")
    assert damaged.files == [f"{short_id(repo)}:{path}" for path in failed]
    assert outcome.data.packs_checked == len(packs_of(repo)), "all other packs are still read"


def test_a_deleted_index_loses_nothing(repo: Path, tmp_path: Path) -> None:
    for path in (repo / "index").iterdir():
        path.unlink()
    outcome = run_check(repo, read_data=True)
    assert (outcome.exit_code, outcome.data.damaged) == (Exit.OK, [])
    assert outcome.data.unindexed_packs == outcome.data.packs == outcome.data.packs_checked
    assert [notice.code for notice in outcome.warnings] == ["index-lost"]
    assert restored(repo, tmp_path / "back") == (Exit.OK, [])


def test_a_damaged_index_object_is_named_and_loses_nothing(repo: Path, tmp_path: Path) -> None:
    (index,) = (repo / "index").iterdir()
    flip_bit(index, index.stat().st_size // 2)
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.pack, damaged.files, damaged.tampered) == (index.name, "", [], False)
    assert restored(repo, tmp_path / "back") == (Exit.OK, [])


def test_a_pack_cut_short_whose_index_is_gone_too_is_still_found(repo: Path) -> None:
    _, pack, _, _ = frame_of_file(repo, "model-2.safetensors")
    os.truncate(pack, pack.stat().st_size - 10)
    for path in (repo / "index").iterdir():
        path.unlink()
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.DAMAGE
    assert pack.name in {damaged.id for damaged in outcome.data.damaged}
    lost = [damaged for damaged in outcome.data.damaged if damaged.problem == "No pack holds it."]
    assert any(f"{short_id(repo)}:{SHARD}" in damaged.files for damaged in lost)


def test_a_damaged_table_of_contents_is_named_but_costs_no_file(repo: Path, tmp_path: Path) -> None:
    pack = packs_of(repo)[0]
    flip_bit(pack, pack.stat().st_size - 100)
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.files) == (pack.name, [])
    assert restored(repo, tmp_path / "back") == (Exit.OK, [])


def test_a_damaged_tree_costs_its_whole_snapshot(repo: Path) -> None:
    ((tree, pack, offset, length),) = frames_of(repo, FrameKind.TREE)
    flip_bit(pack, offset + length // 2)
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.pack, damaged.files) == (tree, pack.name, [f"{short_id(repo)}:*"])


def test_a_missing_tree_costs_its_snapshot_and_no_other(repo: Path) -> None:
    good = short_id(repo)
    bad = store_snapshot(repo, [], trees=["ab" * 32])
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.files) == ("ab" * 32, [f"{bad[:8]}:*"])
    assert good != bad[:8]


def test_a_damaged_piece_list_costs_its_file(repo: Path) -> None:
    lists = {blob: (pack, offset, length) for blob, pack, offset, length in frames_of(repo, FrameKind.PIECES)}
    (entry,) = (entry for entry in newest_tree(reopened(repo)) if entry.path == SHARD)
    assert entry.pieces is not None
    pack, offset, length = lists[entry.pieces]
    flip_bit(pack, offset + length // 2)
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.files) == (entry.pieces, [f"{short_id(repo)}:{SHARD}"])


def test_a_damaged_snapshot_is_named_and_the_others_are_checked(repo: Path, pristine: Path) -> None:
    back_up(repo, pristine / "cache")
    first, second = sorted((repo / "snapshots").iterdir())
    flip_bit(first, first.stat().st_size // 2)
    blob, pack, offset, length = frame_of_file_of(repo, second.name)
    flip_bit(pack, offset + length // 2)
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.DAMAGE
    assert outcome.data.snapshots == 2
    by_id = {damaged.id: damaged for damaged in outcome.data.damaged}
    assert by_id[first.name].files == [f"{first.name[:8]}:*"]
    assert by_id[blob].files == [f"{second.name[:8]}:{SHARD}"]


def frame_of_file_of(repo: Path, snapshot_id: str) -> tuple[str, Path, int, int]:
    opened = reopened(repo)
    (entry,) = (each for each in opened.tree(opened.load_snapshot(snapshot_id)) if each.path == SHARD)
    blob = opened.piece_list(entry)[2][1]
    at = opened.index.locations(blob)[0]
    return blob, repo / "packs" / at.pack, at.offset, at.length


def test_damage_in_several_snapshots_names_the_file_in_each(repo: Path, pristine: Path) -> None:
    back_up(repo, pristine / "cache")
    _, pack, offset, length = frame_of_file(repo, "model-2.safetensors", piece=1)
    flip_bit(pack, offset + length // 2)
    (damaged,) = run_check(repo, read_data=True).data.damaged
    ids = sorted(path.name[:8] for path in (repo / "snapshots").iterdir())
    assert damaged.files == [f"{each}:{SHARD}" for each in ids]


def test_a_damaged_blob_that_no_snapshot_needs_is_said_to_cost_nothing(repo: Path) -> None:
    blob = store_blob(repo, os.urandom(5000))
    ((pack, offset, length),) = [(p, o, n) for b, p, o, n in frames_of(repo, FrameKind.DATA) if b == blob]
    flip_bit(pack, offset + length - 1)
    outcome = run_check(repo, read_data=True)
    (damaged,) = outcome.data.damaged
    assert (outcome.exit_code, damaged.id, damaged.files) == (Exit.DAMAGE, blob, [])
    assert "No snapshot needs it." in damaged.problem


def test_every_copy_of_a_blob_counts_and_one_sound_copy_is_enough(repo: Path, tmp_path: Path) -> None:
    content = (b'{"dim": 64}', "config.json")
    copy = store_blob(repo, content[0])
    places = [
        (pack, offset, length)
        for blob, pack, offset, length in frames_of(repo, FrameKind.DATA)
        if blob == copy
    ]
    assert len(places) == 2
    first, second = places
    flip_bit(first[0], first[1] + first[2] - 1)
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.DAMAGE
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.pack, damaged.files) == (copy, first[0].name, [])
    assert "Another copy is sound" in damaged.problem
    assert restored(repo, tmp_path / "back") == (Exit.OK, [])
    flip_bit(second[0], second[1] + second[2] - 1)
    damaged_both = run_check(repo, read_data=True).data.damaged
    assert {each.pack for each in damaged_both} == {first[0].name, second[0].name}
    for each in damaged_both:
        assert each.files == [f"{short_id(repo)}:{MODEL}/config.json"]


def test_a_file_with_the_very_bytes_of_a_piece_list_is_no_confusion(repo: Path, tmp_path: Path) -> None:
    opened = reopened(repo)
    (entry,) = (entry for entry in newest_tree(opened) if entry.path == SHARD)
    assert entry.pieces is not None
    twin = opened.load_blob(entry.pieces, FrameKind.PIECES)
    back_up(repo, write_cache(tmp_path / "other", {"twin.json": twin}))
    outcome = run_check(repo, read_data=True)
    assert (outcome.exit_code, outcome.data.damaged) == (Exit.OK, [])
    ((pack, offset, length),) = [
        (pack, offset, length)
        for blob, pack, offset, length in frames_of(repo, FrameKind.DATA)
        if blob == entry.pieces
    ]
    flip_bit(pack, offset + length - 1)
    (damaged,) = run_check(repo, read_data=True).data.damaged
    assert damaged.id == entry.pieces
    assert [name.partition(":")[2] for name in damaged.files] == [f"{MODEL}/twin.json"]


def test_a_pack_that_the_disk_cannot_read_is_named_and_the_others_go_on(repo: Path) -> None:
    storage = FaultyStorage(LocalStorage(repo))
    repository = Repository.open(storage)
    findings = Findings()
    structure = check_structure(repository, findings, Session())
    storage.plan = Plan(errors={len(storage.operations) + 3: Unreachable("Input/output error")})
    run = PackCheck(repository, findings, Session())
    run.run(structure.packs.values(), structure.sizes)
    (finding,) = findings.all()
    assert finding.problem.message == "Input/output error"
    assert len(run.result.sound) == len(packs_of(repo)) - 1


def test_a_disk_that_is_gone_is_not_called_damage(repo: Path) -> None:
    storage = FaultyStorage(LocalStorage(repo))
    repository = Repository.open(storage)
    structure = check_structure(repository, Findings(), Session())
    gone = Unreachable("No such device")
    storage.plan = Plan(errors={len(storage.operations) + n: gone for n in range(3, 1000)})
    with pytest.raises(Unreachable, match="No such device"):
        PackCheck(repository, Findings(), Session()).run(structure.packs.values(), structure.sizes)


# -- foreign and unfinished things ------------------------------------------------------------------


def test_foreign_files_are_mentioned_and_do_no_harm(repo: Path) -> None:
    for folder in ("packs", "index", "snapshots"):
        (repo / folder / "notes.txt").write_text("hello")
    outcome = run_check(repo, read_data=True)
    assert (outcome.exit_code, outcome.data.damaged) == (Exit.OK, [])
    (notice,) = outcome.warnings
    assert notice.code == "foreign-files"
    assert "packs/notes.txt" in notice.message


@pytest.mark.parametrize("folder", ["packs", "index", "snapshots"])
@pytest.mark.parametrize("content", [b"", b"garbage " * 50])
def test_garbage_with_the_name_of_an_object_is_damage(repo: Path, folder: str, content: bytes) -> None:
    (repo / folder / ("cd" * 32)).write_bytes(content)
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.DAMAGE
    assert [damaged.id for damaged in outcome.data.damaged] == ["cd" * 32]


def test_packs_of_an_unfinished_backup_are_counted_and_no_error(repo: Path) -> None:
    for path in [*(repo / "index").iterdir(), *(repo / "snapshots").iterdir()]:
        path.unlink()
    outcome = run_check(repo)
    assert (outcome.exit_code, outcome.data.unindexed_packs) == (Exit.OK, len(packs_of(repo)))
    assert outcome.warnings == []


def test_leftovers_of_a_killed_backup_are_counted_once_they_are_old(repo: Path) -> None:
    leftover = repo / "packs" / ".tmp-123-0123456789abcdef"
    leftover.write_bytes(b"half a pack")
    assert run_check(repo).data.leftovers == 0, "its writer may be alive"
    os.utime(leftover, (time.time() - 90_000,) * 2)
    outcome = run_check(repo)
    assert (outcome.exit_code, outcome.data.leftovers) == (Exit.OK, 1)


def test_a_damaged_memory_of_checks_is_a_warning_only(repo: Path) -> None:
    run_check(repo, read_data=True)
    (record,) = (repo / "checks").iterdir()
    flip_bit(record, record.stat().st_size // 2)
    outcome = run_check(repo)
    assert (outcome.exit_code, outcome.data.oldest_check) == (Exit.OK, None)
    assert [notice.code for notice in outcome.warnings] == ["record-unreadable"]


# -- no repository, or not ours to read -------------------------------------------------------------


def test_a_repository_of_a_future_version_is_refused(repo: Path) -> None:
    config = repo / "config"
    config.write_bytes(config.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(UnsupportedFormat) as refused:
        run_check(repo)
    assert refused.value.exit_code == Exit.USAGE


def test_a_repository_without_its_config_is_said_to_be_half_deleted(repo: Path) -> None:
    (repo / "config").unlink()
    with pytest.raises(IntegrityError, match="lost its config"):
        run_check(repo)


def test_a_missing_repository_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound):
        run_check(tmp_path / "nowhere")


# -- tampering --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b"])
def test_a_snapshot_that_names_a_path_outside_is_tampering_and_restores_nothing(
    repo: Path, tmp_path: Path, path: str
) -> None:
    blob = store_blob(repo, b"root::0:0::/:/bin/sh\n")
    entry = TreeEntry(path=path, kind="file", mode=0o644, mtime_ns=0, size=21, blake3=blob, blob=blob)
    forged = store_snapshot(repo, [entry])
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.TAMPERED
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.tampered, damaged.files) == (forged, True, [f"{forged[:8]}:*"])
    passwd = Path("/etc/passwd").read_bytes()
    before = names_under(tmp_path)
    target = tmp_path / "deep" / "target"
    with pytest.raises(IntegrityError) as refused:
        restore(RestoreRequest(repository=str(repo), snapshot=forged, to=str(target)), Session())
    assert refused.value.exit_code == Exit.TAMPERED
    assert names_under(tmp_path) == before
    assert Path("/etc/passwd").read_bytes() == passwd


@pytest.mark.parametrize("folder", ["index", "snapshots"])
def test_a_good_object_under_another_name_is_tampering(repo: Path, folder: str) -> None:
    (original,) = (repo / folder).iterdir()
    shutil.copy(original, repo / folder / ("cd" * 32))
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.TAMPERED
    assert [(damaged.id, damaged.tampered) for damaged in outcome.data.damaged] == [("cd" * 32, True)]


def test_a_good_pack_under_another_name_is_tampering(repo: Path) -> None:
    shutil.copy(packs_of(repo)[0], repo / "packs" / ("cd" * 32))
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.TAMPERED
    assert [(damaged.id, damaged.tampered) for damaged in outcome.data.damaged] == [("cd" * 32, True)]


def test_a_pack_in_the_place_of_another_is_tampering(repo: Path) -> None:
    first, second = packs_of(repo)[:2]
    shutil.copy(first, second)
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.TAMPERED
    assert second.name in {damaged.id for damaged in outcome.data.damaged if damaged.tampered}


def forge_index(repo: Path, change: object) -> str:
    """Replace the index by one in which ``change(blob)`` is said of every data blob; returns its id."""
    opened = reopened(repo)
    (old,) = (repo / "index").iterdir()
    record = opened._load_object(f"index/{old.name}", FrameKind.INDEX, IndexRecord)
    assert callable(change)
    packs = [
        PackRecord(id=pack.id, size=pack.size, blobs=[change(blob) for blob in pack.blobs])
        for pack in record.packs
    ]
    old.unlink()
    return opened._store_object("index", FrameKind.INDEX, IndexRecord(packs=packs))


def test_an_index_that_claims_impossible_sizes_is_tampering_and_exhausts_no_memory(repo: Path) -> None:
    def change(blob: BlobRecord) -> BlobRecord:
        return msgspec.structs.replace(blob, raw_size=1 << 60)

    forge_index(repo, change)
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.TAMPERED


def test_an_index_that_points_to_other_blobs_is_tampering(repo: Path) -> None:
    def change(blob: BlobRecord) -> BlobRecord:
        return msgspec.structs.replace(blob, id=blob.id[32:] + blob.id[:32])

    forge_index(repo, change)
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.TAMPERED
    assert any("Another blob lies" in damaged.problem for damaged in outcome.data.damaged)
    assert any(damaged.problem == "No pack holds it." for damaged in outcome.data.damaged)


def test_a_piece_list_that_does_not_add_up_is_tampering(repo: Path) -> None:
    (entry,) = (entry for entry in newest_tree(reopened(repo)) if entry.path == SHARD)
    forged = store_snapshot(repo, [msgspec.structs.replace(entry, path="model", size=entry.size + 1)])
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.TAMPERED
    (damaged,) = outcome.data.damaged
    assert damaged.id == entry.pieces
    assert f"{forged[:8]}:model" in damaged.files


def test_a_file_that_is_longer_than_its_only_piece_is_tampering(repo: Path) -> None:
    blob = store_blob(repo, b"short")
    entry = TreeEntry(path="a", kind="file", mode=0o644, mtime_ns=0, size=6, blake3=blob, blob=blob)
    forged = store_snapshot(repo, [entry])
    outcome = run_check(repo)
    assert outcome.exit_code == Exit.TAMPERED
    assert [(each.id, each.files) for each in outcome.data.damaged] == [(blob, [f"{forged[:8]}:a"])]


def test_a_name_that_is_no_base64_is_tampering(repo: Path) -> None:
    entry = TreeEntry(path="a", kind="directory", mode=0o755, mtime_ns=0, path_bytes="not base64!")
    forged = store_snapshot(repo, [entry])
    outcome = run_check(repo)
    assert (outcome.exit_code, outcome.data.damaged[0].id) == (Exit.TAMPERED, forged)


def test_a_digest_that_is_not_that_of_the_file_is_found_when_sha256_is_filled_in(repo: Path) -> None:
    (entry,) = (entry for entry in newest_tree(reopened(repo)) if entry.path == SHARD)
    wrong = msgspec.structs.replace(entry, path="model", blake3="ef" * 32, sha256=None)
    forged = store_snapshot(repo, [wrong])
    outcome = run_check(repo, read_data=True)
    assert outcome.exit_code == Exit.TAMPERED
    (damaged,) = outcome.data.damaged
    assert (damaged.id, damaged.files) == ("ef" * 32, [f"{forged[:8]}:model"])


# -- parts, and what is remembered ------------------------------------------------------------------


def test_seven_nights_of_one_seventh_cover_every_pack_exactly_once(repo: Path) -> None:
    packs = {path.name for path in packs_of(repo)}
    seen: list[str] = []
    for number in range(1, 8):
        known = set(verified_packs(reopened(repo)))
        outcome = run_check(repo, subset=f"{number}/7")
        new = set(verified_packs(reopened(repo))) - known
        assert outcome.data.packs_checked == len(new)
        seen += sorted(new)
        assert (outcome.data.oldest_check is None) == (set(seen) != packs)
    assert sorted(seen) == sorted(packs)


def test_a_share_reads_first_what_was_never_read_then_what_was_read_longest_ago(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {path.name: path.stat().st_size for path in packs_of(repo)}
    now = time.time()
    read: list[str] = []
    for night in range(2 * len(sizes)):
        before = verified_packs(reopened(repo))
        monkeypatch.setattr("zitcache.tasks.check.time.time", lambda moment=now + night: moment)
        run_check(repo, subset="20%")
        after = verified_packs(reopened(repo))
        chosen = [pack for pack, moment in after.items() if moment == int(now + night)]
        assert sum(sizes[pack] for pack in chosen) >= 0.2 * sum(sizes.values())
        read += sorted(chosen, key=lambda pack: before.get(pack, 0))
    first_round = read[: len(sizes)]
    assert sorted(first_round) == sorted(sizes), "none has a second turn before all had their first"
    assert min(read.count(pack) for pack in sizes) >= 2, "all have their turn again and again"


def test_a_damaged_pack_has_its_turn_again_the_next_time(repo: Path) -> None:
    run_check(repo, read_data=True)
    _, pack, offset, length = frame_of_file(repo, "model-2.safetensors", piece=3)
    flip_bit(pack, offset + length // 2)
    record = verified_packs(reopened(repo))
    assert run_check(repo, subset="100%").exit_code == Exit.DAMAGE
    assert verified_packs(reopened(repo))[pack.name] == record[pack.name]


@pytest.mark.parametrize("text", ["", "0%", "101%", "5", "0/7", "8/7", "1/0", "-1%", "a/b", "1e1%", "nan%"])
def test_a_part_that_is_none_is_a_usage_error(repo: Path, text: str) -> None:
    with pytest.raises(UsageError) as refused:
        run_check(repo, subset=text)
    assert "--read-data-subset 5%" in (refused.value.hint or "")


def test_everything_and_a_part_exclude_each_other(repo: Path) -> None:
    with pytest.raises(UsageError):
        run_check(repo, read_data=True, subset="5%")


def test_an_interrupted_check_remembers_the_packs_it_finished(repo: Path) -> None:
    shown = CountingProgress(stop_at_bytes=3 << 20)
    session = shown.session = Session(shown)
    with pytest.raises(Interrupted):
        run_check(repo, read_data=True, session=session)
    remembered = set(verified_packs(reopened(repo)))
    assert remembered
    assert remembered < {path.name for path in packs_of(repo)}


def test_checks_of_two_machines_add_up(repo: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(repo, tmp_path / "other"))
    run_check(repo, subset="1/2")
    run_check(other, subset="2/2")
    shutil.copytree(other / "checks", repo / "checks", dirs_exist_ok=True)
    assert set(verified_packs(reopened(repo))) == {path.name for path in packs_of(repo)}


@pytest.mark.root
def test_a_repository_on_read_only_media_can_be_checked(repo: Path, tmp_path: Path) -> None:
    before = names_under(repo)
    with mounted(["--bind", "-o", "ro", str(repo)], tmp_path / "read-only") as place:
        outcome = run_check(place, read_data=True)
    assert (outcome.exit_code, outcome.data.damaged) == (Exit.OK, [])
    assert [notice.code for notice in outcome.warnings] == ["check-not-recorded"]
    assert names_under(repo) == before


# -- SHA-256 ----------------------------------------------------------------------------------------


def test_sha256_that_the_backup_left_out_is_filled_in_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zitcache.tasks.backup.content.has_sha_extensions", lambda: False)
    cache = write_cache(
        tmp_path / "cache", {"a.safetensors": weights("a"), "same": weights("a"), "empty": b""}
    )
    new_repository(tmp_path / "repo")
    back_up(tmp_path / "repo", cache)
    assert run_check(tmp_path / "repo").data.sha256_filled_in == 0, "only data that is read can be digested"
    outcome = run_check(tmp_path / "repo", read_data=True)
    assert outcome.data.sha256_filled_in == 2, "two different contents"
    known = known_sha256(reopened(tmp_path / "repo"))
    for entry in newest_tree(reopened(tmp_path / "repo")):
        if entry.kind == "file":
            assert entry.sha256 is None
            assert entry.blake3 is not None
            expected = hashlib.sha256((cache / entry.path).read_bytes()).hexdigest()
            assert known[entry.blake3] == expected
    assert run_check(tmp_path / "repo", read_data=True).data.sha256_filled_in == 0


def test_no_sha256_is_made_of_damaged_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zitcache.tasks.backup.content.has_sha_extensions", lambda: False)
    cache = write_cache(tmp_path / "cache", {"a.safetensors": weights("a"), "b.safetensors": weights("b")})
    new_repository(tmp_path / "repo")
    back_up(tmp_path / "repo", cache)
    _, pack, offset, length = frame_of_file(tmp_path / "repo", "a.safetensors", piece=1)
    flip_bit(pack, offset + length // 2)
    outcome = run_check(tmp_path / "repo", read_data=True)
    assert (outcome.exit_code, outcome.data.sha256_filled_in, len(outcome.data.damaged)) == (
        Exit.DAMAGE,
        1,
        1,
    )


def test_an_oversized_tree_is_checked_like_any_other_blob(tmp_path: Path) -> None:
    """Trees may be larger than the pieces of which the buffers are made."""
    new_repository(tmp_path / "repo")
    entries = [
        TreeEntry(path=f"{n:05}-{os.urandom(40).hex()}", kind="directory", mode=0o755, mtime_ns=n)
        for n in range(8000)
    ]
    store_snapshot(tmp_path / "repo", entries)
    ((_, _, _, length),) = frames_of(tmp_path / "repo", FrameKind.TREE)
    assert length > 256 << 10
    outcome = run_check(tmp_path / "repo", read_data=True)
    assert (outcome.exit_code, outcome.data.damaged, outcome.data.blobs_checked) == (Exit.OK, [], 1)


def test_a_frame_of_a_later_version_is_not_called_tampering(repo: Path) -> None:
    """The helper that builds frames accepts only known kinds, so the header is written by hand."""
    import struct

    from blake3 import blake3

    content = b"from the future"
    good = encode_metadata(content, FrameKind.RECORD).to_bytes()
    fields = bytearray(good[:56])
    fields[4] = 200  # the codec
    header = bytes(fields) + blake3(bytes(fields)).digest(length=8)
    assert struct.calcsize("<4sBBBBQQ32s") == 56
    data = header + good[64:]
    (repo / "snapshots" / blake3(data).hexdigest()).write_bytes(data)
    outcome = run_check(repo)
    (damaged,) = outcome.data.damaged
    assert (outcome.exit_code, damaged.tampered) == (Exit.DAMAGE, False)
    assert "codec 200" in damaged.problem
