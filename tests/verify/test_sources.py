"""What a cache is compared with: snapshots from here and elsewhere, files, names, published digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cache.builders import pipeline_files, write_huggingface
from tests.verify.places import (
    MIB,
    MODEL,
    SHARD,
    Place,
    codes,
    flip_bit,
    noise,
    only_damaged,
    shard_files,
    write_files,
)
from zitcache.errors import CacheNotFound, Exit, IntegrityError, NotFound, SnapshotNotFound, UsageError
from zitcache.repository.digests import record_sha256
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.sample import SampleLayout

# -- nothing --------------------------------------------------------------------------------------------


def test_nothing_to_compare_with_is_said_and_never_called_verified(place: Place) -> None:
    outcome = place.without_repository()
    assert outcome.exit_code == Exit.NOT_FOUND
    assert outcome.data.sources == []
    assert len(outcome.data.unverified) == outcome.data.files_checked == 5
    (warning,) = (warning for warning in outcome.warnings if warning.code == "nothing-to-compare")
    assert "zitcache backup" in str(warning.hint)
    assert "zitcache checksum" in str(warning.hint)


def test_nothing_to_compare_with_still_shows_what_is_plain_to_see(place: Place) -> None:
    os.truncate(place.cache / SHARD, 5 * MIB)
    (place.cache / MODEL / "model-00003-of-00003.safetensors").unlink()
    (place.cache / MODEL / "config.json").write_bytes(bytes(12))
    outcome = place.without_repository()
    assert outcome.exit_code == Exit.DAMAGE
    assert outcome.data.sources == []
    assert {file.path: file.kind for file in outcome.data.damaged} == {
        SHARD: "truncated",
        f"{MODEL}/config.json": "zero-filled",
    }
    assert outcome.data.missing == [f"{MODEL}/model-00003-of-00003.safetensors"]
    assert "download this file again" in outcome.data.damaged[0].message


def test_a_card_that_begins_like_a_web_page_is_no_damage(place: Place) -> None:
    assert place.without_repository().data.damaged == []


def test_a_repository_that_was_named_must_be_there(place: Place, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        place.verify(repository=str(tmp_path / "nowhere"))


def test_a_configured_repository_that_is_away_is_only_a_warning(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZITCACHE_REPO", str(tmp_path / "not-mounted"))
    place.checksum(output=tmp_path / "fingerprint.json")
    outcome = place.without_repository(against=tmp_path / "fingerprint.json")
    assert outcome.exit_code == Exit.OK
    assert "no-snapshot" in codes(outcome)


def test_the_live_cache_is_found_when_none_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(place.cache))
    monkeypatch.setenv("ZITCACHE_REPO", str(place.repository))
    flip_bit(place.cache / SHARD, 5)
    from zitcache.events import Session
    from zitcache.tasks.verify import VerifyRequest, verify

    outcome = verify(VerifyRequest(), Session())
    assert outcome.data.path == str(place.cache)
    assert only_damaged(outcome).message.endswith("repair with: zitcache verify --repair")


def test_no_cache_at_all_is_not_found(tmp_path: Path) -> None:
    from zitcache.events import Session
    from zitcache.tasks.verify import VerifyRequest, verify

    with pytest.raises(CacheNotFound):
        verify(VerifyRequest(), Session())


# -- snapshots ------------------------------------------------------------------------------------------


def test_a_snapshot_of_another_place_is_compared_by_relative_paths(place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "data" / "cache"
    shutil.move(place.cache, elsewhere)
    flip_bit(elsewhere / SHARD, 5)
    outcome = place.verify(elsewhere)
    assert "snapshot-of-another-place" in codes(outcome)
    assert (only_damaged(outcome).path, outcome.data.cache) == (SHARD, str(elsewhere))
    assert place.repair(path=elsewhere).exit_code == Exit.OK


def test_a_model_folder_of_a_cache_restored_elsewhere_is_found_in_the_snapshot(
    place: Place, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "data" / "cache"
    shutil.move(place.cache, elsewhere)
    outcome = place.verify(elsewhere / "models" / "owner--model")
    assert (outcome.exit_code, outcome.data.cache) == (Exit.OK, str(elsewhere))


def test_the_newest_good_snapshot_is_the_measure(place: Place) -> None:
    flip_bit(place.cache / SHARD, 4 * MIB)
    from zitcache.events import Session
    from zitcache.tasks.backup import BackupRequest, backup

    suspect = backup(
        BackupRequest(repository=str(place.repository), cache=str(place.cache), reread=1.0), Session()
    )
    assert suspect.data.suspect
    outcome = place.verify()
    assert only_damaged(outcome).path == SHARD
    assert outcome.data.snapshot_id != suspect.data.snapshot_id
    named = place.verify(snapshot=str(suspect.data.snapshot_id)[:8])
    # What that snapshot knows to be damaged is no measure: nothing else knows the file.
    assert (named.data.damaged, named.data.unverified) == ([], [SHARD])
    assert "suspect-snapshot" in codes(named)


def test_an_unknown_snapshot_is_not_found(place: Place) -> None:
    with pytest.raises(SnapshotNotFound):
        place.verify(snapshot="ffffffff")


def test_a_snapshot_of_something_else_is_not_compared_with(place: Place, tmp_path: Path) -> None:
    write_files(tmp_path / "other" / "a" / "b", {"config.json": b"{}", "model.safetensors": b"x" * 9})
    snapshot = str(place.verify().data.snapshot_id)
    with pytest.raises(NotFound, match="holds nothing"):
        place.verify(tmp_path / "other", snapshot=snapshot)
    assert place.verify(tmp_path / "other").exit_code == Exit.DAMAGE  # nine bytes are no safetensors file
    assert place.verify(tmp_path / "other").data.sources == []


def test_a_damaged_newest_snapshot_leaves_the_one_before(place: Place) -> None:
    first = place.verify().data.snapshot_id
    packs = {path for path in (place.repository / "packs").rglob("*") if path.is_file()}
    (place.cache / MODEL / "config.json").write_text('{"dim": 65}')
    place.backup()
    for pack in (path for path in (place.repository / "packs").rglob("*") if path.is_file()):
        if pack not in packs:
            pack.chmod(0o644)
            for offset in range(10, pack.stat().st_size - 200, 40):
                flip_bit(pack, offset)
    outcome = place.verify()
    assert outcome.data.snapshot_id == first
    assert "snapshot-damaged" in codes(outcome)


def test_a_cache_that_is_gone_says_how_to_bring_it_back(place: Place) -> None:
    shutil.rmtree(place.cache)
    with pytest.raises(CacheNotFound) as caught:
        place.verify()
    assert "zitcache restore" in str(caught.value.hint)


def test_an_empty_cache_misses_everything(place: Place) -> None:
    shutil.rmtree(place.cache)
    place.cache.mkdir()
    outcome = place.verify()
    assert (outcome.exit_code, len(outcome.data.missing)) == (Exit.DAMAGE, 5)


# -- files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["output", "sha256sums"])
@pytest.mark.parametrize(
    "layout", [SampleLayout.MODELSCOPE, SampleLayout.HUGGINGFACE_SHARED, SampleLayout.PLAIN]
)
def test_a_fingerprint_file_finds_damage_missing_and_extra(
    tmp_path: Path, layout: SampleLayout, option: str
) -> None:
    place = Place.of_sample(tmp_path, layout)
    file = tmp_path / "known-good"
    place.checksum(**{option: file})
    assert place.without_repository(against=file).exit_code == Exit.OK
    shard = next(place.cache.rglob("diffusion_pytorch_model-00002-of-00003.safetensors"))
    shard.resolve().chmod(0o644)
    flip_bit(shard.resolve(), 70_000)
    lost = next(place.cache.rglob("vocab.json"))
    lost.unlink()
    (lost.parent / "added.json").write_text("{}")
    outcome = place.without_repository(against=file)
    assert outcome.exit_code == Exit.DAMAGE
    assert only_damaged(outcome).path == str(shard.resolve().relative_to(place.cache.resolve()))
    assert outcome.data.missing == [str(lost.relative_to(place.cache))]
    assert str((lost.parent / "added.json").relative_to(place.cache)) in outcome.data.extra


def test_a_fingerprint_of_another_layout_fits_the_same_model(tmp_path: Path) -> None:
    ours = Place.of_sample(tmp_path / "a", SampleLayout.MODELSCOPE_LEGACY)
    theirs = Place.of_sample(tmp_path / "b", SampleLayout.HUGGINGFACE)
    ours.checksum(output=tmp_path / "fingerprint.json")
    outcome = theirs.without_repository(against=tmp_path / "fingerprint.json")
    # .msc, .mdl and .mv are notes about one download: they are not missing in another tool's cache.
    assert (outcome.exit_code, outcome.data.missing) == (Exit.OK, [])


def test_damage_found_with_a_file_is_located_and_repaired_with_the_snapshot(
    place: Place, tmp_path: Path
) -> None:
    place.checksum(sha256sums=tmp_path / "SHA256SUMS")
    flip_bit(place.cache / SHARD, 4_000_000)
    outcome = place.repair(against=tmp_path / "SHA256SUMS")
    assert outcome.exit_code == Exit.OK
    assert only_damaged(outcome).ranges == [(4_000_000, 4_000_001)]


def test_a_snapshot_that_the_file_contradicts_is_not_used_for_repair(place: Place, tmp_path: Path) -> None:
    good = (place.cache / SHARD).read_bytes()
    os.utime(place.cache / SHARD)
    (place.cache / SHARD).write_bytes(noise("the right one", len(good)))
    place.checksum(output=tmp_path / "fingerprint.json")
    (place.cache / SHARD).write_bytes(noise("a wrong one", len(good)))
    outcome = place.repair(against=tmp_path / "fingerprint.json")
    damaged = only_damaged(outcome)
    assert (outcome.exit_code, damaged.repaired, damaged.repairable) == (Exit.DAMAGE, False, False)
    assert (place.cache / SHARD).read_bytes() == noise("a wrong one", len(good))


def test_sums_may_be_relative_to_the_model(place: Place, tmp_path: Path) -> None:
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in shard_files().items())
    (tmp_path / "SUMS").write_text(sums)
    outcome = place.without_repository(against=tmp_path / "SUMS")
    assert (outcome.exit_code, outcome.data.unverified) == (Exit.OK, [])


def test_a_file_about_something_else_is_not_found(place: Place, tmp_path: Path) -> None:
    (tmp_path / "SUMS").write_text(f"{'0' * 64}  something/else\n")
    with pytest.raises(NotFound, match="names nothing"):
        place.without_repository(against=tmp_path / "SUMS")


@pytest.mark.parametrize(
    "content", [b"{", b'{"schema": "x"}', b"[1]", b"not a sum\n", b'{"schema": "zitcache-fingerprints/1"}']
)
def test_a_file_that_is_neither_is_refused(place: Place, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError):
        place.without_repository(against=tmp_path / "file")


def test_a_model_of_the_fingerprint_that_is_not_in_the_cache_is_missing(place: Place, tmp_path: Path) -> None:
    write_files(place.cache / "models/owner--second/snapshots/master", {"config.json": b"{}", "w.bin": b"1"})
    place.checksum(output=tmp_path / "fingerprint.json")
    shutil.rmtree(place.cache / "models/owner--second")
    outcome = place.without_repository(against=tmp_path / "fingerprint.json")
    assert (outcome.exit_code, outcome.data.missing) == (Exit.DAMAGE, ["owner/second@master"])


# -- names of a Hugging Face cache ----------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_blob_names_find_damage_without_any_snapshot(tmp_path: Path, shared: bool) -> None:
    snapshot = write_huggingface(tmp_path / "cache", pipeline_files(), shared=shared)
    place = Place(tmp_path / "cache", tmp_path / "repository")
    assert place.without_repository().data.unverified == []
    flip_bit((snapshot / "vae/diffusion_pytorch_model.safetensors").resolve(), 200)
    flip_bit((snapshot / "README.md").resolve(), 4)
    outcome = place.without_repository()
    assert outcome.exit_code == Exit.DAMAGE
    assert {file.names[0].rpartition("snapshots/")[2].partition("/")[2] for file in outcome.data.damaged} == {
        "vae/diffusion_pytorch_model.safetensors",
        "README.md",
    }


def test_a_large_file_with_a_git_name_is_checked(tmp_path: Path) -> None:
    files = pipeline_files() | {"tokenizer/tokenizer.json": noise("tokens", 5 * MIB)}
    snapshot = write_huggingface(tmp_path / "cache", files)
    place = Place(tmp_path / "cache", tmp_path / "repository")
    assert place.without_repository().exit_code == Exit.OK
    flip_bit((snapshot / "tokenizer/tokenizer.json").resolve(), 5 * MIB - 1)
    assert only_damaged(place.without_repository()).names[0].endswith("tokenizer/tokenizer.json")


def test_the_name_acquits_a_file_of_which_the_snapshot_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zitcache.tasks.backup.content.has_sha_extensions", lambda: False)
    snapshot = write_huggingface(tmp_path / "cache", pipeline_files())
    place = Place(tmp_path / "cache", tmp_path / "repository")
    blob = (snapshot / "vae/diffusion_pytorch_model.safetensors").resolve()
    flip_bit(blob, 200)
    place.backup()
    flip_bit(blob, 200)
    outcome = place.repair()
    assert (outcome.exit_code, outcome.data.damaged) == (Exit.OK, [])
    assert "snapshot-differs" in codes(outcome)


@pytest.mark.parametrize("sha256_known", [True, False])
def test_a_snapshot_of_a_damaged_blob_is_no_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sha256_known: bool
) -> None:
    """The repository holds a blob that was damaged when it was backed up; now it is damaged even more."""
    monkeypatch.setattr("zitcache.tasks.backup.content.has_sha_extensions", lambda: sha256_known)
    snapshot = write_huggingface(tmp_path / "cache", pipeline_files())
    place = Place(tmp_path / "cache", tmp_path / "repository")
    blob = (snapshot / "vae/diffusion_pytorch_model.safetensors").resolve()
    flip_bit(blob, 200)
    place.backup()
    flip_bit(blob, 201)
    before = blob.read_bytes()
    outcome = place.repair()
    assert (outcome.exit_code, only_damaged(outcome).repaired) == (Exit.DAMAGE, False)
    assert blob.read_bytes() == before
    assert place.leftovers() == []


def test_a_snapshot_of_a_damaged_blob_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zitcache.tasks.backup.content.has_sha_extensions", lambda: False)
    snapshot = write_huggingface(tmp_path / "cache", pipeline_files())
    place = Place(tmp_path / "cache", tmp_path / "repository")
    blob = (snapshot / "vae/diffusion_pytorch_model.safetensors").resolve()
    flip_bit(blob, 200)
    place.backup()
    data = blob.read_bytes()
    repository = Repository.open(LocalStorage(place.repository))
    import blake3

    record_sha256(repository, {blake3.blake3(data).hexdigest(): hashlib.sha256(data).hexdigest()})
    outcome = place.verify()
    assert outcome.exit_code == Exit.DAMAGE
    assert "the snapshot holds the same bytes" in only_damaged(outcome).message


def test_sha256_is_not_computed_where_the_snapshot_vouches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.HUGGINGFACE)
    import zitcache.tasks.verify.examine as examine

    asked: list[tuple[bool, int]] = []
    real = examine.digest_files

    def watch(files, session, **options):  # type: ignore[no-untyped-def]
        asked.append((options["sha256"], len(files)))
        return real(files, session, **options)

    monkeypatch.setattr(examine, "digest_files", watch)
    place.verify()
    assert [count for sha256, count in asked if sha256] == [0]
    asked.clear()
    place.without_repository()
    assert [count for sha256, count in asked if sha256] == [8]


# -- published ------------------------------------------------------------------------------------------


def test_the_published_fingerprint_alone_is_a_warning_only(tmp_path: Path) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.MODELSCOPE)
    outcome = place.without_repository()
    assert outcome.exit_code == Exit.OK
    assert outcome.data.damaged == []
    (warning,) = (warning for warning in outcome.warnings if warning.code == "differs-from-published")
    assert "8 file(s) differ" in warning.message
    assert len(outcome.data.unverified) == outcome.data.files_checked


def test_files_as_published_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.MODELSCOPE)
    model = next(place.cache.rglob("model_index.json")).parent
    name = "vae/diffusion_pytorch_model.safetensors"
    data = (model / name).read_bytes()
    published = {name: (len(data), hashlib.sha256(data).hexdigest())}
    monkeypatch.setattr("zitcache.tasks.verify.sources.published_fingerprint", lambda model_id: published)
    outcome = place.without_repository()
    assert "differs-from-published" not in codes(outcome)
    assert str((model / name).relative_to(place.cache)) not in outcome.data.unverified
    flip_bit(model / name, 100_000)
    outcome = place.without_repository()
    assert outcome.exit_code == Exit.OK
    assert "differs-from-published" in codes(outcome)


# -- hostile input --------------------------------------------------------------------------------------


def test_a_fingerprint_that_names_paths_outside_is_refused(place: Place, tmp_path: Path) -> None:
    place.checksum(output=tmp_path / "fingerprint.json")
    wire = json.loads((tmp_path / "fingerprint.json").read_text())
    wire["files"][0]["path"] = "../../../etc/passwd"
    (tmp_path / "fingerprint.json").write_text(json.dumps(wire))
    with pytest.raises(UsageError):
        place.without_repository(against=tmp_path / "fingerprint.json")


def test_sums_that_name_paths_outside_are_not_read(place: Place, tmp_path: Path) -> None:
    place.checksum(sha256sums=tmp_path / "SUMS")
    with (tmp_path / "SUMS").open("a") as file:
        file.write(f"{'0' * 64}  ../repository/config\n{'0' * 64}  /etc/passwd\n")
    assert place.without_repository(against=tmp_path / "SUMS").exit_code == Exit.OK


def test_a_snapshot_that_escapes_is_never_used(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Repository, "tree", lambda self, record: (_ for _ in ()).throw(IntegrityError("escapes"))
    )
    with pytest.raises(NotFound):
        place.repair()
    assert place.verify().data.sources == []
