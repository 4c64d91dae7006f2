"""A copy that is killed, stopped or meets an error: nothing half is seen, and the next run goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.backup.world import KIB, MIB, Watching, command, make_model, make_repository, noise, require_sound
from tests.backup.world import back_up as back_up_cache
from tests.copy.world import ids, make_source, opened, require_restorable, run_copy, stored_copies
from tests.repository.builders import temporaries
from tests.storage.disks import python_environment
from tests.storage.faults import FaultyStorage, Killed, Plan, count_operations
from zitcache.errors import Exit, Interrupted, NoSpace, Unreachable, ZitcacheError
from zitcache.events import Cancel
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Storage


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about processes that end, not about power cuts, and there are hundreds of writes."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


class World:
    """A source with two snapshots, and a target that has the first; each run gets a fresh target."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.cache = make_model(root / "cache", {"a.bin": noise(700 * KIB, "a")})
        self.source = make_repository(
            root / "source", piece_size=128 * KIB, merge_below=32 * KIB, pack_size=MIB
        )
        back_up_cache(self.source, self.cache)
        self.base = root / "base"
        run_copy(self.source, self.base)
        (self.cache / "b.bin").write_bytes(noise(500 * KIB, "b"))
        back_up_cache(self.source, self.cache)
        self._monkeypatch = monkeypatch

    def fresh(self) -> LocalStorage:
        target = self.root / "target"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.base, target)
        return LocalStorage(target)

    def copy(self, source: Storage, target: Storage) -> None:
        """Copy between these storages."""
        storages = {"from": source, "to": target}
        with self._monkeypatch.context() as patch:
            patch.setattr("zitcache.tasks.copy.ends.open_storage", storages.__getitem__)
            run_copy("from", "to", init=False)

    def require_recovery(self, tmp_path: Path) -> None:
        """What was promised, with storages that work again."""
        target = self.root / "target"
        require_sound(target)
        for snapshot in ids(target):
            assert snapshot in ids(self.source)
        run_copy(self.source, target)
        assert ids(target) == ids(self.source)
        assert set(stored_copies(target).values()) == {1}, "what had arrived was used, not sent again"
        assert opened(target).index and not opened(target).unindexed_packs
        require_sound(target)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.mark.usefixtures("no_fsync")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_copy_survives_kill_at_every_operation_on_the_target(
    world: World, when: str, tmp_path: Path
) -> None:
    source = LocalStorage(world.source)
    count = count_operations(lambda target: world.copy(source, target), world.fresh())
    assert count > 20
    for number in range(1, count + 1):
        plan = Plan(stop_before=number) if when == "before" else Plan(stop_after=number)
        with contextlib.suppress(Killed):
            world.copy(source, FaultyStorage(world.fresh(), plan))
        world.require_recovery(tmp_path)


@pytest.mark.usefixtures("no_fsync")
def test_a_copy_survives_kill_at_every_operation_on_the_source(world: World, tmp_path: Path) -> None:
    source = LocalStorage(world.source)
    count = count_operations(lambda faulty: world.copy(faulty, world.fresh()), source)
    assert count > 15
    for number in range(1, count + 1):
        with contextlib.suppress(Killed):
            world.copy(FaultyStorage(source, Plan(stop_before=number)), world.fresh())
        world.require_recovery(tmp_path)


@pytest.mark.usefixtures("no_fsync")
@pytest.mark.parametrize("error", [NoSpace("full"), Unreachable("gone")])
def test_an_error_at_every_operation_on_the_target_is_told_as_it_is(
    world: World, error: ZitcacheError, tmp_path: Path
) -> None:
    source = LocalStorage(world.source)
    count = count_operations(lambda target: world.copy(source, target), world.fresh())
    failed = 0
    for number in range(1, count + 1):
        try:
            world.copy(source, FaultyStorage(world.fresh(), Plan(errors={number: error})))
        except ZitcacheError as caught:
            assert caught is error
            failed += 1
        assert temporaries(world.root / "target") == []
        world.require_recovery(tmp_path)
    assert failed > 15


@pytest.mark.usefixtures("no_fsync")
def test_a_bit_that_turns_over_while_reading_is_never_passed_on(world: World, tmp_path: Path) -> None:
    source = LocalStorage(world.source)
    count = count_operations(lambda faulty: world.copy(faulty, world.fresh()), source)
    for number in range(1, count + 1):
        for bit in (3, 100_003):
            with contextlib.suppress(ZitcacheError):
                world.copy(FaultyStorage(source, Plan(flips={number: bit})), world.fresh())
            require_sound(world.root / "target")
        world.require_recovery(tmp_path)


def test_packs_that_arrived_before_a_kill_are_not_sent_again(tmp_path: Path) -> None:
    cache, source = make_source(tmp_path)
    target = make_repository(tmp_path / "copy", piece_size=256 * KIB, merge_below=64 * KIB, pack_size=MIB)
    total = sum(path.stat().st_size for path in (source / "packs").iterdir())
    process = subprocess.Popen(
        command("copy", source, target), env=python_environment(), stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list((target / "packs").glob("[!.]*")):
        time.sleep(0.002)
    process.kill()
    process.wait()
    arrived = sum(path.stat().st_size for path in (target / "packs").glob("[!.]*"))
    require_sound(target)
    report = run_copy(source, target).data
    assert report.bytes_copied <= total - arrived + 32 * KIB
    assert set(stored_copies(target).values()) == {1}
    require_restorable(target, cache, tmp_path / "restored")


def test_a_stop_that_is_asked_for_ends_it_and_it_goes_on(tmp_path: Path) -> None:
    cache, source = make_source(tmp_path)
    cancel = Cancel()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done > MIB:
            cancel.set()

    with pytest.raises(Interrupted):
        run_copy(source, tmp_path / "copy", progress=Watching(on_advance=advance), cancel=cancel)
    assert ids(tmp_path / "copy") == set()
    assert temporaries(tmp_path / "copy") == []
    run_copy(source, tmp_path / "copy")
    require_restorable(tmp_path / "copy", cache, tmp_path / "restored")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)]
)
def test_signals_stop_the_program_within_two_seconds(
    number: signal.Signals, code: Exit, tmp_path: Path
) -> None:
    cache = make_model(tmp_path / "cache")
    with (cache / "big.bin").open("wb") as file:
        for part in range(40):
            file.write(noise(8 * MIB, str(part)))
    source = make_repository(tmp_path / "source")
    back_up_cache(source, cache)
    target = make_repository(tmp_path / "copy", pack_size=8 * MIB)
    process = subprocess.Popen(
        command("copy", source, target),
        env=python_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list((target / "packs").glob("[!.]*")):
        time.sleep(0.005)
    started = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code, said
    assert time.monotonic() - started < 3  # two, and what a busy machine adds
    assert ids(target) == set()
    require_sound(target)
    require_restorable_after(source, target, cache, tmp_path)


def require_restorable_after(source: Path, target: Path, cache: Path, tmp_path: Path) -> None:
    run_copy(source, target)
    require_restorable(target, cache, tmp_path / "restored")


def test_two_copies_at_once_into_one_repository(tmp_path: Path) -> None:
    _, source = make_source(tmp_path, nights=2)
    (tmp_path / "other").mkdir()
    other_cache, other = make_source(tmp_path / "other", nights=1)
    target = make_repository(tmp_path / "copy", piece_size=256 * KIB, merge_below=64 * KIB, pack_size=MIB)
    processes = [
        subprocess.Popen(
            command("copy", place, target), env=python_environment(), stderr=subprocess.PIPE, text=True
        )
        for place in (source, other, source)
    ]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert ids(target) == ids(source) | ids(other)
    require_sound(target)
    for snapshot in opened(other).snapshot_ids():
        require_restorable(target, other_cache, tmp_path / "restored", snapshot)
