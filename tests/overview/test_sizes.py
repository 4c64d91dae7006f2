"""Sizes per dtype and per model are told from the repository alone, and add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cache.builders import safetensors
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot, list_snapshots
from zitcache.storage.local import LocalStorage
from zitcache.tasks.backup import BackupRequest, backup
from zitcache.tasks.overview.sizes import OTHER, sizes_by_dtype, sizes_by_model, totals

MIB = 1 << 20


def weights(seed: int, elements: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, elements).astype(np.float32)


def upcast(values: np.ndarray) -> bytes:
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).tobytes()


def bf16(values: np.ndarray) -> bytes:
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, Snapshot]:
    base = tmp_path_factory.mktemp("sizes")
    one, two = base / "cache/models/a--one/snapshots/master", base / "cache/models/a--two/snapshots/master"
    for folder in (one, two):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    shared = weights(1, MIB)
    mixed = {"x": ("F32", [MIB], upcast(shared)), "y": ("BF16", [MIB], bf16(weights(2, MIB)))}
    (one / "model.safetensors").write_bytes(safetensors(mixed))
    (two / "model.safetensors").write_bytes(safetensors({"x": ("F32", [MIB], upcast(shared))}))
    (two / "notes.bin").write_bytes(np.random.default_rng(3).bytes(2 * MIB))
    place = str(base / "repository")
    backup(BackupRequest(repository=place, cache=str(base / "cache"), init=True), Session())
    opened = Repository.open(LocalStorage(Path(place)))
    (snapshot,), _ = list_snapshots(opened)
    return opened, snapshot


def test_each_dtype_has_its_size_and_its_ratio(repository: tuple[Repository, Snapshot]) -> None:
    opened, snapshot = repository
    found = {sizes.name: sizes for sizes in sizes_by_dtype(opened, opened.tree(snapshot.record))}
    assert found["F32"].size_bytes == 8 * MIB
    assert found["BF16"].size_bytes == 2 * MIB
    assert found[OTHER].size_bytes > 2 * MIB
    assert sum(sizes.size_bytes for sizes in found.values()) == snapshot.record.size_bytes
    # The two equal tensors are stored once: half of an upcast tensor's third.
    assert 0.15 < found["F32"].stored_bytes / found["F32"].size_bytes < 0.19
    assert 0.6 < found["BF16"].stored_bytes / found["BF16"].size_bytes < 0.7


def test_each_model_has_its_size(repository: tuple[Repository, Snapshot]) -> None:
    opened, snapshot = repository
    one, two = sizes_by_model(opened, opened.tree(snapshot.record), snapshot.record.models)
    assert {one.name, two.name} == {"a/one", "a/two"}
    assert one.size_bytes > 6 * MIB and two.size_bytes > 6 * MIB
    assert 0 < one.stored_bytes < one.size_bytes


def test_the_totals_show_what_is_shared(repository: tuple[Repository, Snapshot]) -> None:
    opened, snapshot = repository
    found = totals(opened, [snapshot, snapshot])
    assert found.size_bytes == 2 * snapshot.record.size_bytes
    assert found.stored_bytes < found.unique_bytes < snapshot.record.size_bytes


def test_a_lost_pack_loses_no_report(repository: tuple[Repository, Snapshot]) -> None:
    opened, snapshot = repository
    entries = opened.tree(snapshot.record)
    opened.index.forget_packs(list(opened.index.packs))
    assert all(sizes.stored_bytes == 0 for sizes in sizes_by_dtype(opened, entries))
