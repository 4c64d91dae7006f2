"""A folder that hides a complete model goes, unless something in it would be lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cache.builders import pipeline_files, write, write_legacy
from tests.clean.world import LEGACY, SNAPSHOT, items_of, only, put, require_complete, run
from zitcache.tasks.clean import Kind

SHARD = "transformer/diffusion_pytorch_model-00001-of-00003.safetensors"
STUB = {"kinds": (Kind.SHADOWING_STUB,)}


@pytest.mark.parametrize("place", [LEGACY, "hub/" + LEGACY])
def test_bookkeeping_and_equal_files_go(cache: Path, place: str) -> None:
    files = {name: pipeline_files()[name] for name in ("model_index.json", SHARD)}
    write_legacy(cache / place, {**files, "empty.txt": b"", "x.bin.incomplete": b"half"})
    shown = only(run(cache))
    assert (shown.kind, shown.path, shown.kept_because) == ("shadowing-stub", str(cache / place), None)
    assert f"instead of the complete model in {cache / SNAPSHOT}" in shown.reason
    assert only(run(cache, delete=True)).removed
    assert not (cache / place).exists()
    require_complete(cache)


def test_an_unknown_small_file_goes_only_if_the_kind_is_named(cache: Path) -> None:
    put(cache / LEGACY / "notes.txt", b"my notes")
    item = only(run(cache, delete=True))
    assert not item.removed
    assert "notes.txt" in (item.kept_because or "") and "--kind shadowing-stub" in (item.kept_because or "")
    assert only(run(cache, delete=True, **STUB)).removed
    require_complete(cache)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lora.safetensors", b"tuned"),
        (SHARD, b"another revision"),
        ("results.csv", b"r" * (2 << 20)),
    ],
)
def test_what_would_be_lost_stays_whatever_is_asked(cache: Path, name: str, content: bytes) -> None:
    kept = put(cache / LEGACY / name, content)
    item = only(run(cache, delete=True, everything=True, **STUB))
    assert not item.removed and kept.exists()
    assert name in (item.kept_because or "") and f"mv {cache / LEGACY}" in (item.kept_because or "")


def test_one_flipped_byte_in_an_otherwise_equal_shard_counts(cache: Path) -> None:
    content = bytearray(pipeline_files()[SHARD])
    content[-1] ^= 1
    kept = put(cache / LEGACY / SHARD, bytes(content))
    assert not only(run(cache, delete=True, **STUB)).removed and kept.exists()


def test_a_second_usable_copy_is_no_stub(cache: Path) -> None:
    write(cache / LEGACY, pipeline_files())
    assert run(cache, delete=True).data.items == []


def test_without_a_complete_model_behind_it_it_stays(cache: Path) -> None:
    (cache / SNAPSHOT / SHARD).unlink()
    write_legacy(cache / LEGACY, {})
    assert run(cache, delete=True).data.items == []
    assert (cache / LEGACY).exists()


def test_a_stub_whose_files_are_hard_links_of_the_model_goes(cache: Path) -> None:
    (cache / LEGACY).mkdir(parents=True)
    os.link(cache / SNAPSHOT / "model_index.json", cache / LEGACY / "model_index.json")
    item = only(run(cache, delete=True))
    assert item.removed
    require_complete(cache)


def test_a_model_that_points_into_the_stub_keeps_it(cache: Path) -> None:
    real = put(cache / LEGACY / "model_index.json", pipeline_files()["model_index.json"])
    link = cache / SNAPSHOT / "model_index.json"
    link.unlink()
    link.symlink_to(real)
    item = only(run(cache, delete=True, **STUB))
    assert not item.removed and real.exists()
    require_complete(cache)


def test_a_stub_that_is_a_link_to_elsewhere(cache: Path, tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere/notes.txt").parent
    (cache / "models/Tongyi-MAI").mkdir(parents=True)
    (cache / LEGACY).symlink_to(elsewhere)
    item = only(run(cache, delete=True, **STUB))
    assert not item.removed and (elsewhere / "notes.txt").exists() and (cache / LEGACY).is_symlink()


def test_a_download_inside_a_stub_that_must_stay_can_go(cache: Path) -> None:
    kept = put(cache / LEGACY / "lora.safetensors", b"tuned")
    half = put(cache / LEGACY / "lora2.safetensors.incomplete")
    found = items_of(run(cache, delete=True))
    assert found[str(half)].removed and not found[str(cache / LEGACY)].removed and kept.exists()
