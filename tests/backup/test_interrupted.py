"""Kills, signals, full disks and company: the repository stays sound, and the next run goes on."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.backup.world import (
    KIB,
    MIB,
    Watching,
    back_up,
    bring_back,
    command,
    make_model,
    make_repository,
    make_sample,
    noise,
    require_same,
    require_sound,
    snapshots_in,
    weights,
    zitcache,
)
from tests.storage.disks import ext4, names_under, python_environment, tmpfs, with_faults
from tests.storage.faults import FaultyStorage, Killed, every_stop
from zitcache.errors import Exit, Interrupted, NoSpace, ZitcacheError
from zitcache.events import Cancel
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Storage

ALL = None
METADATA = 16 * KIB
FileSystem: TypeAlias = Callable[..., AbstractContextManager[Path]]


def make_big_model(directory: Path) -> Path:
    """Six packs of a repository with small packs."""
    return make_model(
        directory,
        {
            "a.safetensors": weights({f"layer{number}": 500 * KIB for number in range(6)}),
            "b.bin": noise(3 * MIB + 5, "b"),
        },
    )


def make_small_packs(repository: Path) -> Path:
    return make_repository(repository, piece_size=256 * KIB, merge_below=64 * KIB, pack_size=MIB)


def no_temporaries(repository: Path) -> bool:
    return not [name for name in names_under(repository) if ".zitcache-tmp-" in name]


@pytest.mark.parametrize(
    ("injection", "finished_packs"),
    [
        # strace counts in each thread: packs are finished by one thread, index and snapshot by another.
        ("renameat2:signal=SIGKILL:when=1", 0),
        ("renameat2:signal=SIGKILL:when=4", 3),
        ("fsync:signal=SIGKILL:when=4", 1),
        ("fallocate:signal=SIGKILL:when=1", ALL),  # about to write the index
        ("fallocate:signal=SIGKILL:when=2", ALL),  # about to write the snapshot
    ],
)
def test_a_kill_loses_at_most_the_unfinished_packs(
    injection: str, finished_packs: int | None, cache: Path, repository: Path, target: Path, tmp_path: Path
) -> None:
    make_big_model(cache)
    make_small_packs(repository)
    arguments = command("backup", "-r", repository, "--cache", cache)[1:]
    done = with_faults(arguments, [injection], tmp_path / "trace")
    assert done.returncode != 0
    assert "SIGKILL" in (tmp_path / "trace").read_text()
    assert snapshots_in(repository) == []
    packs = [path for path in (repository / "packs").iterdir() if not path.name.startswith(".")]
    assert len(packs) >= (5 if finished_packs is ALL else finished_packs)
    require_sound(repository)
    saved = sum(path.stat().st_size for path in packs)
    report = back_up(repository, cache)
    assert report.exit_code is Exit.OK
    assert report.data.bytes_new_stored <= report.data.size_bytes - saved + METADATA
    if finished_packs is ALL:
        assert report.data.bytes_new_stored <= METADATA
    bring_back(repository, target)
    require_same(cache, target)
    require_sound(repository)


def test_kills_at_any_moment(cache: Path, repository: Path, target: Path) -> None:
    make_big_model(cache)
    make_small_packs(repository)
    moments = random.Random(7)
    for _ in range(6):
        process = subprocess.Popen(
            command("backup", "-r", repository, "--cache", cache),
            env=python_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.15, 0.5))
        process.kill()
        process.wait()
        require_sound(repository)
    assert back_up(repository, cache).exit_code is Exit.OK
    bring_back(repository, target)
    require_same(cache, target)


def test_a_stop_at_every_operation_on_the_repository(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(cache, {"a.safetensors": weights({"a": 900 * KIB, "b": 700 * KIB}), "b.bin": noise(50)})
    count = 0

    def fresh() -> Storage:
        nonlocal count
        count += 1
        return LocalStorage(make_small_packs(tmp_path / f"repository{count}"))

    def run(storage: Storage) -> None:
        monkeypatch.setattr("zitcache.tasks.backup.opening.open_storage", lambda location: storage)
        back_up(Path(storage.location), cache)

    for plan in every_stop(run, fresh):
        inner = fresh()
        with suppress(Killed):
            run(FaultyStorage(inner, plan))
        repository = Path(inner.location)
        committed = len(snapshots_in(repository))
        require_sound(repository)
        run(inner)
        assert len(snapshots_in(repository)) == committed + 1
        require_sound(repository)
    assert count > 20


def test_two_backups_at_once(cache: Path, repository: Path, target: Path) -> None:
    make_big_model(cache)
    other = make_sample(cache.with_name("other"))
    twin = make_big_model(cache.with_name("twin"))
    processes = [
        subprocess.Popen(
            command("backup", "--init", "-r", repository, "--cache", place),
            env=python_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in (cache, other, twin, cache)
    ]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said
    found = snapshots_in(repository)
    assert len(found) == 4
    require_sound(repository)
    for number, snapshot in enumerate(found):
        place = target.with_name(f"restored{number}")
        bring_back(repository, place, snapshot=snapshot.id)
        require_same(Path(snapshot.record.cache), place)
    assert no_temporaries(repository)


def test_a_stop_that_was_asked_for_leaves_no_snapshot_and_is_gone_on_from(
    cache: Path, repository: Path
) -> None:
    make_big_model(cache)
    make_small_packs(repository)
    cancel = Cancel()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done > 4 * MIB:
            cancel.set()

    with pytest.raises(Interrupted):
        back_up(repository, cache, Watching(on_advance=advance), cancel)
    assert done < 6 * MIB
    assert snapshots_in(repository) == []
    assert no_temporaries(repository)
    report = back_up(repository, cache)
    assert report.data.bytes_new_stored < report.data.size_bytes - MIB


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)]
)
def test_signals_stop_the_program(number: signal.Signals, code: Exit, cache: Path, repository: Path) -> None:
    make_model(cache)
    with (cache / "big.bin").open("wb") as file:
        for part in range(24):
            file.write(noise(8 * MIB, str(part)))
    make_repository(repository)
    process = subprocess.Popen(
        command("backup", "-r", repository, "--cache", cache),
        env=python_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    packs = repository / "packs"
    while process.poll() is None and not (packs.is_dir() and any(packs.iterdir())):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code, said
    assert "zitcache backup" in said
    assert snapshots_in(repository) == []
    require_sound(repository)


@pytest.mark.root
@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_a_full_repository_disk(file_system: FileSystem, cache: Path, tmp_path: Path, target: Path) -> None:
    make_big_model(cache)
    with file_system(tmp_path / "disk", size=20 * MIB) as disk:
        repository = make_small_packs(disk / "zitcache")
        small = make_sample(tmp_path / "small")
        back_up(repository, small)
        before = snapshots_in(repository)
        (disk / "ballast").write_bytes(noise(1000) * 7000)
        with pytest.raises(NoSpace) as caught:
            back_up(repository, cache)
        assert caught.value.exit_code is Exit.NO_SPACE
        assert str(repository) in caught.value.message
        assert "df -h" in (caught.value.hint or "")
        assert snapshots_in(repository) == before
        assert no_temporaries(repository)
        require_sound(repository)
        done = zitcache("backup", "-r", repository, "--cache", cache)
        assert done.returncode == 5, done.stderr
        bring_back(repository, target, snapshot=before[0].id)
        require_same(small, target)
        (disk / "ballast").unlink()
        assert zitcache("backup", "-r", repository, "--cache", cache).returncode == 0
        bring_back(repository, target.with_name("again"), snapshot=snapshots_in(repository)[-1].id)
        require_same(cache, target.with_name("again"))


@pytest.mark.root
@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_a_repository_disk_without_inodes(
    file_system: FileSystem, cache: Path, tmp_path: Path, target: Path
) -> None:
    make_big_model(cache)
    with file_system(tmp_path / "disk", size=16 * MIB, inodes=64) as disk:
        repository = make_small_packs(disk / "zitcache")
        ballast = 0
        with suppress(OSError):
            for ballast in range(100):
                (disk / f"ballast{ballast}").touch()
        for number in range(7):
            (disk / f"ballast{ballast - 1 - number}").unlink()
        with pytest.raises(NoSpace):
            back_up(repository, cache)
        assert snapshots_in(repository) == []
        assert no_temporaries(repository)
        require_sound(repository)
        for path in disk.glob("ballast*"):
            path.unlink()
        assert back_up(repository, cache).exit_code is Exit.OK
        bring_back(repository, target)
        require_same(cache, target)


@pytest.mark.parametrize(
    "injection",
    [
        "fsync:error=EIO:when=3",
        "renameat2:error=EIO:when=2",
        "fsync:error=ENOSPC:when=6",
        "fallocate:error=ENOSPC:when=2",
    ],
)
def test_a_failing_disk_ends_the_backup_and_leaves_the_repository_sound(
    injection: str, cache: Path, repository: Path, target: Path, tmp_path: Path
) -> None:
    make_big_model(cache)
    make_small_packs(repository)
    arguments = command("backup", "-q", "-r", repository, "--cache", cache)[1:]
    done = with_faults(arguments, [injection], tmp_path / "trace")
    assert done.returncode == (Exit.NO_SPACE if "ENOSPC" in injection else Exit.UNREACHABLE), done.stderr
    assert snapshots_in(repository) == []
    assert no_temporaries(repository)
    require_sound(repository)
    assert back_up(repository, cache).exit_code is Exit.OK
    bring_back(repository, target)
    require_same(cache, target)


def test_an_error_in_whoever_listens_ends_the_run_and_leaks_nothing(cache: Path, repository: Path) -> None:
    """A display that crashes must not hang a pipeline, keep files open, or leave half a pack."""
    import gc
    import os

    make_big_model(cache)
    make_small_packs(repository)

    def count_open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def crash(*anything: object) -> None:
        raise RuntimeError("crash")

    back_up(make_small_packs(repository.with_name("other")), cache)
    before = count_open_files()
    for number in range(12):
        calls = 0

        def crash_later(*anything: object, after: int = number) -> None:
            nonlocal calls
            calls += 1
            if calls > after:
                raise RuntimeError("crash")

        kind = ("on_advance", "on_file", "on_stage")[number % 3]
        if kind != "on_stage" or number < 2:
            with pytest.raises(RuntimeError):
                back_up(repository, cache, Watching(**{kind: crash_later if kind == "on_advance" else crash}))
    assert count_open_files() <= before
    assert no_temporaries(repository)
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Interrupted):
        back_up(repository, cache, cancel=cancel)
    assert count_open_files() <= before
    assert back_up(repository, cache).exit_code is Exit.OK
    assert count_open_files() <= before
    assert issubclass(NoSpace, ZitcacheError)
