"""``verify --quick``: sizes, headers, completeness, pointers and lost tails, without reading the weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cache.builders import safetensors
from tests.verify.places import (
    MIB,
    MODEL,
    SHARD,
    Place,
    codes,
    flip_bit,
    noise,
    only_damaged,
    overwrite,
    write_files,
)
from zitcache.errors import Exit
from zitcache.tasks.sample import SampleLayout


def test_a_good_cache_looks_sound_and_is_not_read(place: Place) -> None:
    outcome = place.verify(quick=True)
    assert (outcome.exit_code, outcome.data.bytes_read, outcome.data.quick) == (Exit.OK, 0, True)
    assert outcome.data.damaged == outcome.data.missing == outcome.data.unverified == []


@pytest.mark.parametrize("layout", list(SampleLayout))
def test_a_good_sample_looks_sound_in_every_layout(tmp_path: Path, layout: SampleLayout) -> None:
    place = Place.of_sample(tmp_path, layout)
    assert place.verify(quick=True).exit_code == Exit.OK
    assert place.without_repository(quick=True).exit_code == Exit.OK


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_a_truncated_shard_and_a_missing_one_are_found(place: Place, with_snapshot: bool) -> None:
    os.truncate(place.cache / SHARD, 5 * MIB)
    (place.cache / MODEL / "model-00003-of-00003.safetensors").unlink()
    outcome = place.verify(quick=True) if with_snapshot else place.without_repository(quick=True)
    assert outcome.exit_code == Exit.DAMAGE
    assert (only_damaged(outcome).path, only_damaged(outcome).kind) == (SHARD, "truncated")
    assert outcome.data.missing == [f"{MODEL}/model-00003-of-00003.safetensors"]


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_a_lost_tail_is_found(place: Place, with_snapshot: bool) -> None:
    size = (place.cache / SHARD).stat().st_size
    overwrite(place.cache / SHARD, size - 2 * MIB, bytes(2 * MIB))
    outcome = place.verify(quick=True) if with_snapshot else place.without_repository(quick=True)
    damaged = only_damaged(outcome)
    assert (damaged.kind, damaged.ranges) == ("zero-filled", [(size - 2 * MIB, size)])


def test_a_small_lost_tail_needs_a_snapshot_to_be_sure(place: Place) -> None:
    size = (place.cache / SHARD).stat().st_size
    overwrite(place.cache / SHARD, size - 8192, bytes(8192))
    assert only_damaged(place.verify(quick=True)).kind == "zero-filled"
    outcome = place.without_repository(quick=True)
    assert (outcome.exit_code, outcome.data.damaged) == (Exit.OK, [])
    assert "zero-tail" in codes(outcome)


def test_weights_that_end_in_zeros_by_right_are_sound(tmp_path: Path) -> None:
    place = Place(tmp_path / "cache", tmp_path / "repository")
    tensors = {"a": ("U8", [MIB], noise("a", MIB)), "zeros": ("U8", [2 * MIB], bytes(2 * MIB))}
    write_files(place.cache / MODEL, {"model.safetensors": safetensors(tensors), "config.json": b"{}"})
    place.backup()
    assert place.verify(quick=True).exit_code == Exit.OK
    assert place.verify().exit_code == Exit.OK


def test_a_damaged_header_is_found(place: Place) -> None:
    flip_bit(place.cache / SHARD, 20)
    damaged = only_damaged(place.verify(quick=True))
    assert (damaged.path, damaged.kind, damaged.repairable) == (SHARD, "differs", True)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "lfs-pointer"),
        (b"<html>", "html-page"),
        (b"", "truncated"),
    ],
)
def test_pointers_pages_and_empty_files_are_found(place: Place, content: bytes, kind: str) -> None:
    (place.cache / SHARD).write_bytes(content)
    assert only_damaged(place.verify(quick=True)).kind == kind
    assert only_damaged(place.without_repository(quick=True)).kind == kind


def test_a_config_that_was_zeroed_is_found(place: Place) -> None:
    overwrite(place.cache / MODEL / "config.json", 0, bytes(11))
    assert only_damaged(place.verify(quick=True)).path == f"{MODEL}/config.json"


def test_a_flipped_bit_is_beyond_a_quick_look(place: Place) -> None:
    flip_bit(place.cache / SHARD, 4_000_000)
    assert place.verify(quick=True).exit_code == Exit.OK


def test_sizes_of_a_fingerprint_are_compared(place: Place, tmp_path: Path) -> None:
    place.checksum(output=tmp_path / "fingerprint.json")
    with (place.cache / MODEL / "README.md").open("a") as file:
        file.write("more")
    outcome = place.without_repository(quick=True, against=tmp_path / "fingerprint.json")
    assert (outcome.exit_code, only_damaged(outcome).kind) == (Exit.DAMAGE, "extended")


def test_without_any_source_the_quick_look_does_not_pretend(place: Place) -> None:
    outcome = place.without_repository(quick=True)
    assert (outcome.exit_code, outcome.data.sources) == (Exit.OK, [])
    assert len(outcome.data.unverified) == 5
    assert "nothing-to-compare" in codes(outcome)
