"""A backup that is killed, or that meets a full disk, at any operation on the repository.

What must hold afterwards: the repository opens, every snapshot that was there can be restored, the next
backup succeeds, and what was already stored is not stored again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cache.builders import safetensors, write
from tests.codec.contents import make
from tests.repository.builders import back_up, bring_back, picture, read_files, temporaries, use_storage
from tests.storage.faults import FaultyStorage, Killed, Plan, count_operations
from zitcache.errors import NoSpace, Unreachable, ZitcacheError
from zitcache.repository.records import CuttingRules
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Buffer, Storage


@dataclass(frozen=True)
class World:
    """A cache, and a repository with one snapshot of it as it was before."""

    cache: Path
    base: Path
    before: dict[str, bytes]
    now: dict[str, bytes]
    first: str

    def fresh(self, place: Path) -> LocalStorage:
        """A copy of the repository to be broken."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.base, place)
        return LocalStorage(place)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("stops")
    cache = root / "cache"
    model = cache / "models--a--b" / "snapshots" / "main"
    model.mkdir(parents=True)
    (model / "link").symlink_to("config.json")
    weights = {"a": ("BF16", [3000], make("bf16", 6000, 1))}
    write(model, {"model.safetensors": safetensors(weights), "config.json": b"{}", "empty": b""})
    for path in cache.rglob("*"):
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
    base = root / "base"
    Repository.create(LocalStorage(base), cutting=CuttingRules(piece_size=16_384, merge_below=1024))
    first = back_up(base, cache).data.snapshot_id
    assert first is not None
    before = files(cache)
    weights |= {"b": ("F32", [5000], make("fp32", 20_000, 2))}
    write(model, {"model-2.safetensors": safetensors(weights), "config.json": b'{"changed": true}'})
    return World(cache, base, before, files(cache), first)


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about processes that end, not about power cuts, and there are hundreds of writes."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def files(cache: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(cache)): path.read_bytes()
        for path in cache.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def run_backup(world: World, monkeypatch: pytest.MonkeyPatch, storage: Storage) -> None:
    with monkeypatch.context() as patch:
        use_storage(patch, storage)
        back_up(storage.location, world.cache)


def assert_recovers(world: World, place: Path) -> None:
    """Everything that was promised, with a storage that works again."""
    repository = Repository.open(LocalStorage(place))
    snapshots, unreadable = list_snapshots(repository)
    assert unreadable == {}
    assert world.first in {snapshot.id for snapshot in snapshots}
    for snapshot in snapshots:
        # A snapshot that can be seen can be read, the one of the interrupted run included.
        expected = world.before if snapshot.id == world.first else world.now
        assert read_files(repository, snapshot.record) == expected
    back_up(place, world.cache)
    after = Repository.open(LocalStorage(place))
    newest = list_snapshots(after)[0][-1]
    assert read_files(after, newest.record) == world.now
    stored = Counter(
        (location.kind, each) for each in after.index for location in after.index.locations(each)
    )
    assert set(stored.values()) == {1}, "what the interrupted run had stored was used, not stored again"
    assert after.unindexed_packs == [], "and the packs of the interrupted run are in the index"


def every_operation(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> range:
    operations = count_operations(
        lambda storage: run_backup(world, monkeypatch, storage), world.fresh(tmp_path / "count")
    )
    assert operations > 20
    return range(1, operations + 1)


@pytest.mark.usefixtures("no_fsync")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_backup_survives_kill_at_every_operation(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, when: str
) -> None:
    killed = 0
    for number in every_operation(world, monkeypatch, tmp_path):
        plan = Plan(stop_before=number) if when == "before" else Plan(stop_after=number)
        inner = world.fresh(tmp_path / "repository")
        with contextlib.suppress(Killed):
            storage = FaultyStorage(inner, plan)
            run_backup(world, monkeypatch, storage)
        killed += storage.is_dead
        assert_recovers(world, tmp_path / "repository")
    assert killed > 20


@pytest.mark.usefixtures("no_fsync")
def test_a_backup_survives_an_error_at_every_operation(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed = 0
    for number in every_operation(world, monkeypatch, tmp_path):
        error = NoSpace("full") if number % 2 else Unreachable("gone")
        storage = FaultyStorage(world.fresh(tmp_path / "repository"), Plan(errors={number: error}))
        try:
            run_backup(world, monkeypatch, storage)
        except ZitcacheError as caught:
            assert caught is error, "the user is told what happened, not what followed from it"
            failed += 1
        assert temporaries(tmp_path / "repository") == []
        assert_recovers(world, tmp_path / "repository")
    assert failed > 20


def test_packs_of_a_killed_backup_are_not_encoded_again(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed between the packs and the index: the next run writes names and index, no content."""

    class KilledAtIndex(FaultyStorage):
        def store(self, name: str, data: Buffer) -> None:
            self.is_dead = self.is_dead or name.startswith("index/")
            super().store(name, data)

    with pytest.raises(Killed):
        run_backup(world, monkeypatch, KilledAtIndex(world.fresh(tmp_path / "repository")))
    packs = sorted((tmp_path / "repository" / "packs").glob("[!.]*"))
    report = back_up(tmp_path / "repository", world.cache).data
    assert report.bytes_new_stored < 5000 < 15_000 < sum(path.stat().st_size for path in packs)


def test_two_backups_at_once_leave_two_snapshots(world: World, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    place = tmp_path / "repository"
    world.fresh(place)
    with ThreadPoolExecutor(2) as pool:
        reports = [pool.submit(back_up, place, world.cache) for _ in range(2)]
        written = {report.result().data.snapshot_id for report in reports}
    assert len(written) == 2
    for snapshot_id in written:
        assert snapshot_id is not None
        bring_back(place, tmp_path / snapshot_id, snapshot_id)
        assert picture(tmp_path / snapshot_id) == picture(world.cache)
    repository = Repository.open(LocalStorage(place))
    snapshots, unreadable = list_snapshots(repository)
    assert len(snapshots) == 3
    assert unreadable == {}
