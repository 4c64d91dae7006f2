"""PATH may be a cache, a model's folder, a folder in it, or one file; with a snapshot and without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.verify.places import MODEL, SHARD, Place, flip_bit, only_damaged, write_files
from zitcache.errors import Exit, NotFound
from zitcache.tasks.sample import SampleLayout


@pytest.mark.parametrize("inside", ["", "models", "models/owner--model", MODEL, SHARD])
def test_only_what_lies_in_the_path_is_verified(place: Place, inside: str) -> None:
    flip_bit(place.cache / SHARD, 4_000_000)
    (place.cache / MODEL / "config.json").unlink()
    outcome = place.verify(place.cache / inside)
    assert outcome.exit_code == Exit.DAMAGE
    assert outcome.data.cache == str(place.cache)
    assert only_damaged(outcome).path == SHARD
    assert outcome.data.missing == ([] if inside == SHARD else [f"{MODEL}/config.json"])
    assert outcome.data.files_checked == (1 if inside == SHARD else 4)


def test_damage_elsewhere_does_not_matter(place: Place) -> None:
    flip_bit(place.cache / SHARD, 4_000_000)
    assert place.verify(place.cache / MODEL / "config.json").exit_code == Exit.OK


def test_a_missing_file_can_be_named_and_brought_back(place: Place) -> None:
    (place.cache / SHARD).unlink()
    assert place.verify(place.cache / SHARD).data.missing == [SHARD]
    outcome = place.repair(path=place.cache / SHARD)
    assert (outcome.exit_code, outcome.data.restored) == (Exit.OK, [SHARD])


def test_a_path_that_never_was_is_not_found(place: Place) -> None:
    with pytest.raises(NotFound):
        place.verify(place.cache / "models" / "nobody--nothing")
    with pytest.raises(NotFound):
        place.without_repository(place.cache / "models" / "nobody--nothing")


@pytest.mark.parametrize("layout", [SampleLayout.HUGGINGFACE, SampleLayout.HUGGINGFACE_SHARED])
@pytest.mark.parametrize("with_snapshot", [True, False])
def test_a_file_of_a_hugging_face_snapshot_is_verified_through_its_links(
    tmp_path: Path, layout: SampleLayout, with_snapshot: bool
) -> None:
    place = Place.of_sample(tmp_path, layout)
    name = next(place.cache.rglob("diffusion_pytorch_model-00002-of-00003.safetensors"))
    run = place.verify if with_snapshot else place.without_repository
    good = run(name)
    assert (good.exit_code, good.data.files_checked) == (Exit.OK, 1)
    name.resolve().chmod(0o644)
    flip_bit(name.resolve(), 70_000)
    damaged = only_damaged(run(name))
    assert damaged.path == str(name.resolve().relative_to(place.cache.resolve()))
    assert damaged.names == [str(name.relative_to(place.cache))]
    folder = run(name.parent)
    assert only_damaged(folder).path == damaged.path


@pytest.mark.parametrize("layout", list(SampleLayout))
def test_a_folder_in_a_model_is_verified_without_a_snapshot(tmp_path: Path, layout: SampleLayout) -> None:
    place = Place.of_sample(tmp_path, layout)
    place.checksum(output=tmp_path / "fingerprint.json")
    model = next(place.cache.rglob("model_index.json")).parent
    outcome = place.without_repository(model / "transformer", against=tmp_path / "fingerprint.json")
    assert (outcome.exit_code, outcome.data.missing, outcome.data.unverified) == (Exit.OK, [], [])
    assert outcome.data.files_checked == 5


def test_a_path_through_a_link_is_the_place_it_leads_to(place: Place, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place.cache)
    outcome = place.verify(tmp_path / "link" / "models")
    assert (outcome.exit_code, outcome.data.cache) == (Exit.OK, str(place.cache))


def test_a_cache_of_which_a_larger_one_was_backed_up(place: Place) -> None:
    outcome = place.verify(place.cache / "models")
    assert (outcome.exit_code, outcome.data.cache) == (Exit.OK, str(place.cache))


def test_two_machines_with_the_same_path_are_told_apart(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = place.verify().data.snapshot_id
    monkeypatch.setattr("socket.gethostname", lambda: "another-machine")
    content = (place.cache / MODEL / "config.json").read_bytes()
    (place.cache / MODEL / "config.json").write_text('{"dim": 99}')
    place.backup()
    monkeypatch.undo()
    (place.cache / MODEL / "config.json").write_bytes(content)
    monkeypatch.setattr("zitcache.tasks.locations.data_mounts", lambda: ())
    outcome = place.verify()
    assert (outcome.exit_code, outcome.data.snapshot_id) == (Exit.OK, mine)


def test_names_of_any_bytes_are_verified_and_repaired(tmp_path: Path) -> None:
    place = Place(tmp_path / "cache", tmp_path / "repository")
    odd = ["new\nline.json", "back\\slash.json", os.fsdecode(b"not\xffutf8.json"), "n" * 250 + ".json"]
    files = {name: f'{{"a": {number}}}'.encode() for number, name in enumerate(odd)}
    write_files(place.cache / MODEL, files | {"model.bin": b"weights"})
    place.backup()
    before = place.contents()
    for name in odd[:2]:
        flip_bit(place.cache / MODEL / name, 3)
    for name in odd[2:]:
        (place.cache / MODEL / name).unlink()
    outcome = place.repair()
    assert outcome.exit_code == Exit.OK
    assert sorted(file.path for file in outcome.data.damaged) == sorted(f"{MODEL}/{name}" for name in odd[:2])
    assert sorted(outcome.data.restored) == sorted(f"{MODEL}/{name}" for name in odd[2:])
    assert place.contents() == before
