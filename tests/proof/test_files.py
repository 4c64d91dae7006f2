"""While ``verify`` reads, components become ready to be loaded one after the other."""

from __future__ import annotations

import pytest

from tests.proof.conftest import World
from zitcache.cache.fingerprint import FileFingerprint
from zitcache.events import Session
from zitcache.proof.errors import DrawingFailed
from zitcache.tasks.prove.files import ProvedFiles


def test_a_component_is_ready_when_all_but_a_quarter_of_it_was_read(world: World) -> None:
    ready: list[str] = []
    files = ProvedFiles(world.model, world.cache, ready.append)
    shards = sorted((world.model_path / "transformer").iterdir(), key=lambda path: -path.stat().st_size)
    total = sum(path.stat().st_size for path in shards)
    left = total
    for shard in shards:
        files.read(shard, "a" * 64)
        left -= shard.stat().st_size
        assert (ready == ["transformer"]) == (left <= total / 4), shard.name
    assert ready == ["transformer"], "told once"


def test_files_of_other_models_do_not_count(world: World) -> None:
    ready: list[str] = []
    files = ProvedFiles(world.model, world.cache, ready.append)
    (world.cache / "other.bin").write_bytes(b"x" * 10_000_000)
    files.read(world.cache / "other.bin", "a" * 64)
    assert ready == []


def test_what_nobody_has_read_is_read_for_the_fingerprint(world: World) -> None:
    ready: list[str] = []
    files = ProvedFiles(world.model, world.cache, ready.append)
    told = world.model_path / "model_index.json"
    files.read(told, "a" * 64)
    found = {file.path: file for file in files.fingerprints(Session())}
    assert len(found) == len(world.model.files)
    assert found["model_index.json"] == FileFingerprint("model_index.json", told.stat().st_size, "a" * 64)
    assert {"text_encoder", "transformer", "vae"} <= set(ready)


def test_a_file_that_was_repaired_is_read_again(world: World) -> None:
    files = ProvedFiles(world.model, world.cache, lambda component: None)
    files.read(world.model_path / "model_index.json", "a" * 64)
    files.forget(world.model_path / "model_index.json")
    found = {file.path: file.blake3 for file in files.fingerprints(Session())}
    assert found["model_index.json"] != "a" * 64


def test_a_file_that_is_gone_fails_the_proof(world: World) -> None:
    files = ProvedFiles(world.model, world.cache, lambda component: None)
    (world.model_path / "model_index.json").unlink()
    with pytest.raises(DrawingFailed, match=r"model_index\.json cannot be read"):
        files.fingerprints(Session())
