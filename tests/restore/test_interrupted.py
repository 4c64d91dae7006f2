"""Kills, signals, full disks and company: the target is what it was or restored, and the next run goes on."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
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
    describe,
    make_model,
    make_repository,
    make_sample,
    noise,
    require_no_leftovers,
    require_same,
    snapshots_in,
    unprivileged,
    zitcache,
)
from tests.restore.test_existing_target import destroy_content
from tests.storage.disks import ext4, python_environment, tmpfs, with_faults
from zitcache.errors import CredentialsError, Exit, Interrupted, Locked, NoSpace
from zitcache.events import Cancel
from zitcache.tasks.sample import SampleLayout

FileSystem: TypeAlias = Callable[..., AbstractContextManager[Path]]


@pytest.fixture
def saved(cache: Path, repository: Path) -> Path:
    """A cache with one file of 64 pieces, backed up; returns the repository."""
    make_model(cache, {"big.bin": noise(4 * MIB), "small.bin": noise(100)})
    make_repository(repository, piece_size=64 * KIB, merge_below=0)
    back_up(repository, cache)
    return repository


def stop_after(repository: Path, target: Path, byte_count: int) -> None:
    """Interrupt a restore when so many bytes are done."""
    cancel = Cancel()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done >= byte_count:
            cancel.set()
            time.sleep(0.12)  # the flag is looked at twenty times a second; no more work until then

    with pytest.raises(Interrupted):
        bring_back(repository, target, Watching(on_advance=advance), cancel)


def staged(target: Path, name: str) -> Path:
    """A file in the staging place beside the target."""
    return next(target.parent.glob(f".zitcache-restore-*/tree/**/{name}"))


def test_a_restore_goes_on_inside_a_file(saved: Path, cache: Path, target: Path) -> None:
    stop_after(saved, target, 3 * MIB)
    assert not target.exists()
    assert staged(target, "big.bin").stat().st_size == 4 * MIB
    report = bring_back(saved, target)
    assert 0.5 * MIB < report.data.bytes_written < 1.5 * MIB
    require_same(cache, target)
    require_no_leftovers(target.parent)


def test_a_restore_of_another_snapshot_uses_what_is_staged(saved: Path, cache: Path, target: Path) -> None:
    stop_after(saved, target, 3 * MIB)
    (cache / "new.bin").write_bytes(noise(500, "new"))
    (cache / "small.bin").unlink()
    back_up(saved, cache)
    assert bring_back(saved, target).data.bytes_written < 1.5 * MIB
    require_same(cache, target)
    require_no_leftovers(target.parent)


def test_holes_that_a_power_cut_left_are_filled(saved: Path, cache: Path, target: Path) -> None:
    """Blocks that were allocated and never written read as zeros; the size is right all the same."""
    stop_after(saved, target, 3 * MIB)
    half = staged(target, "big.bin")
    with half.open("r+b") as file:
        file.write(bytes(MIB))
        file.seek(2 * MIB + 77)
        file.write(b"\xff")
    os.truncate(half, 3 * MIB + 5)
    bring_back(saved, target)
    require_same(cache, target)


def test_a_staged_file_of_the_wrong_kind_or_with_a_second_name_is_never_written_to(
    saved: Path, cache: Path, target: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(4 * MIB))
    for kind in ("hard link", "symlink", "folder link", "folder", "pipe"):
        stop_after(saved, target, MIB)
        half = staged(target, "big.bin")
        half.unlink()
        if kind == "hard link":
            os.link(victim, half)
        elif kind == "symlink":
            half.symlink_to(victim)
        elif kind == "folder link":
            half.symlink_to(tmp_path)
        elif kind == "folder":
            (half / "inner").mkdir(parents=True)
        else:
            os.mkfifo(half)
        bring_back(saved, target)
        require_same(cache, target)
        assert victim.read_bytes() == bytes(4 * MIB)
        shutil.rmtree(target)


def test_what_is_staged_and_not_wanted_does_not_get_into_the_target(
    saved: Path, cache: Path, target: Path
) -> None:
    stop_after(saved, target, MIB)
    tree = staged(target, "big.bin").parent
    (tree / "stray").mkdir()
    (tree / "stray" / "file").write_text("stray")
    (tree / "link").symlink_to("/etc")
    (tree / "big.bin").chmod(0)
    bring_back(saved, target)
    require_same(cache, target)


@pytest.mark.root
def test_a_user_can_go_on_with_read_only_files_and_folders(open_place: Path) -> None:
    """Files that come back read-only are read-only when they are staged, too."""
    cache, repository, target = (open_place / name for name in ("cache", "data/zitcache", "to/cache"))
    make_model(cache, {f"folder/{number}.bin": noise(100 * KIB, str(number)) for number in range(40)})
    for path in (cache / "folder").iterdir():
        path.chmod(0o444)
    (cache / "folder").chmod(0o555)
    back_up(repository, cache)
    target.parent.mkdir()
    target.parent.chmod(0o777)
    for path in [repository, *repository.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o055 | (0o111 if path.is_dir() else 0))
    with unprivileged():
        stop_after(repository, target, MIB)
        for path in target.parent.rglob("*.bin"):
            path.chmod(0o444)
        for path in target.parent.rglob("folder"):
            path.chmod(0o555)
        bring_back(repository, target)
        require_same(cache, target)
        require_no_leftovers(target.parent)
        assert bring_back(repository, target).data.action == "nothing to do"
        (target / "folder").chmod(0o755)
        (target / "folder" / "1.bin").unlink()
        bring_back(repository, target)
        require_same(cache, target)


def test_kill_at_any_moment(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache, {f"{number}.bin": noise(8 * MIB, str(number)) for number in range(6)})
    back_up(repository, cache)
    moments = random.Random(3)
    for _ in range(5):
        process = subprocess.Popen(
            command("restore", "-r", repository, "--to", target),
            env=python_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.15, 0.45))
        process.kill()
        process.wait()
        if target.exists():
            require_same(cache, target)
    bring_back(repository, target)
    require_same(cache, target)
    require_no_leftovers(target.parent)


NO_EXCHANGE = "renameat2:error=EINVAL"


@pytest.mark.parametrize("target_is", ["absent", "old"])
@pytest.mark.parametrize("layout", [SampleLayout.HUGGINGFACE_SHARED, SampleLayout.PLAIN], ids=str)
def test_a_kill_at_every_rename_leaves_each_file_old_or_new(
    layout: SampleLayout, target_is: str, cache: Path, repository: Path, target: Path, tmp_path: Path
) -> None:
    make_sample(cache, layout)
    back_up(repository, cache)
    old = tmp_path / "old"
    shutil.copytree(cache, old, symlinks=True)
    files = sorted(path for path in old.rglob("*") if path.is_file() and not path.is_symlink())
    for path in [*files[-2:], *sorted(old.glob("blobs/*/*"))[:3]]:
        path.chmod(0o600)
        path.write_bytes(b"old")
    wanted, before = _contents(cache), _contents(old)
    kills, killed = 0, False
    for call, number in [(call, n) for call in ("rename", "renameat2") for n in range(1, 30)]:
        if number > 1 and not killed:
            continue
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        if target_is == "old":
            shutil.copytree(old, target, symlinks=True)
        arguments = command("restore", "-q", "-r", repository, "--to", target)[1:]
        done = with_faults(arguments, [f"{call}:signal=SIGKILL:when={number}"], tmp_path / "trace")
        killed = "SIGKILL" in (tmp_path / "trace").read_text()
        kills += killed
        assert killed or done.returncode == 0, done.stderr
        _require_each_file_old_or_new(target, wanted, before if target_is == "old" else None)
        bring_back(repository, target)
        require_same(cache, target)
        require_no_leftovers(target.parent)
    assert kills >= (5 if target_is == "old" and layout is SampleLayout.HUGGINGFACE_SHARED else 2)


def _contents(root: Path) -> dict[str, object]:
    return {name: what[0] for name, what in describe(root).items()}


def _require_each_file_old_or_new(
    target: Path, wanted: dict[str, object], before: dict[str, object] | None
) -> None:
    if before is None:
        assert not target.exists() or _contents(target) == wanted
        return
    for name, what in _contents(target).items():
        assert what in (wanted.get(name), before.get(name)), name
    assert set(_contents(target)) == set(before)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_file_system_that_cannot_swap_recovers_from_a_kill_between_the_two_renames(
    number: int, cache: Path, repository: Path, target: Path, tmp_path: Path
) -> None:
    make_sample(cache, SampleLayout.SEED)
    back_up(repository, cache)
    shutil.copytree(cache, target, symlinks=True)
    blob = max(target.rglob("blobs/*"), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"old")
    (blob.parent / "mine").write_bytes(b"mine")
    faults = [NO_EXCHANGE, f"rename:signal=SIGKILL:when={number}"]
    done = with_faults(command("restore", "-q", "-r", repository, "--to", target)[1:], faults, tmp_path / "t")
    killed = done.returncode != 0
    if not killed:
        assert blob.read_bytes() != b"old"
    report = bring_back(repository, target)
    assert report.exit_code is Exit.OK
    assert (blob.parent / "mine").read_bytes() == b"mine"
    (blob.parent / "mine").unlink()
    assert _contents(target) == _contents(cache)
    require_no_leftovers(target.parent)
    assert killed or number > 2


def test_two_restores_to_one_target(saved: Path, cache: Path, target: Path) -> None:
    errors: list[Locked] = []
    (cache / "more.bin").write_bytes(b"more")
    back_up(saved, cache)

    def again(_: object) -> None:
        if errors:
            return
        for snapshot in ("latest", _oldest(saved)):
            with pytest.raises(Locked) as caught:
                bring_back(saved, target, snapshot=snapshot)
            errors.append(caught.value)
        done = zitcache("restore", "-r", saved, "--to", target)
        assert done.returncode == 7, done.stderr

    bring_back(saved, target, Watching(on_advance=again))
    assert errors[0].exit_code is Exit.LOCKED
    assert str(target) in errors[0].message
    require_same(cache, target)
    require_no_leftovers(target.parent)


def _oldest(repository: Path) -> str:
    return snapshots_in(repository)[0].id


def test_many_restores_to_one_target_in_turn(saved: Path, cache: Path, target: Path) -> None:
    """Whoever comes while another one removes its staging place gets the lock, or is told."""
    processes = [
        subprocess.Popen(
            command("restore", "-q", "-r", saved, "--to", target),
            env=python_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    results = [(process.communicate()[1], process.returncode) for process in processes]
    assert {code for _, code in results} <= {0, 7}, results
    assert any(code == 0 for _, code in results)
    require_same(cache, target)
    require_no_leftovers(target.parent)


def test_a_lock_on_a_staging_place_that_was_removed_meanwhile_does_not_count(
    saved: Path, cache: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the lock and taking it, the restore that held it may finish."""
    real, calls = fcntl.flock, 0

    def flock(fd: int, how: int) -> None:
        nonlocal calls
        calls += 1
        real(fd, how)
        if calls == 1:
            place = target.parent / f".zitcache-restore-{target.name}"
            shutil.rmtree(place)
            place.mkdir()
            (place / "lock").touch()  # by a third one, who is at work now

    monkeypatch.setattr(fcntl, "flock", flock)
    bring_back(saved, target)
    assert calls == 2
    require_same(cache, target)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)]
)
def test_signals_stop_the_program(
    number: signal.Signals, code: Exit, cache: Path, repository: Path, target: Path
) -> None:
    make_model(cache)
    with (cache / "big.bin").open("wb") as file:
        for part in range(24):
            file.write(noise(4 * MIB, str(part)))
    back_up(repository, cache)
    process = subprocess.Popen(
        command("restore", "-r", repository, "--to", target),
        env=python_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not any(target.parent.glob(".zitcache-restore-*/tree/big.bin")):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code, said
    assert "zitcache restore" in said
    assert not target.exists()
    bring_back(repository, target)
    require_same(cache, target)


# -- full disks -------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("file_system", [tmpfs, ext4])
@pytest.mark.parametrize("exists", [False, True], ids=["new target", "existing target"])
def test_a_disk_too_small_is_said_before_anything_is_written(
    file_system: FileSystem, exists: bool, saved: Path, cache: Path, tmp_path: Path
) -> None:
    with file_system(tmp_path / "disk", size=7 * MIB) as disk:
        (disk / "ballast").write_bytes(bytes(5 * MIB))
        target = disk / "new" / "cache"
        if exists:
            make_model(target, {"mine.bin": b"mine"})
        before = _listing(disk)
        with pytest.raises(NoSpace) as caught:
            bring_back(saved, target)
        assert caught.value.exit_code is Exit.NO_SPACE
        assert "4.19 MB more" in caught.value.message
        assert "Nothing was written" in caught.value.message
        assert _listing(disk) == before
        done = zitcache("restore", "-r", saved, "--to", target)
        assert done.returncode == 5
        (disk / "ballast").unlink()
        done = zitcache("restore", "-r", saved, "--to", target)
        assert done.returncode == 0, done.stderr
        assert (target / "big.bin").read_bytes() == (cache / "big.bin").read_bytes()


def _listing(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in root.rglob("*") if path.name != "lost+found"}


@pytest.mark.root
@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_a_disk_that_fills_up_on_the_way_leaves_the_target_and_can_be_gone_on_from(
    file_system: FileSystem, cache: Path, repository: Path, tmp_path: Path
) -> None:
    make_model(cache, {f"{number}.bin": noise(MIB, str(number)) for number in range(6)})
    back_up(repository, cache)
    with file_system(tmp_path / "disk", size=12 * MIB) as disk:
        target = make_model(disk / "cache", {"0.bin": b"old", "mine.bin": b"mine"})
        before = describe(target)

        def fill(path: str) -> None:
            if path.endswith("3.bin"):
                with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(64 * KIB))

        with pytest.raises(NoSpace) as caught:
            bring_back(repository, target, Watching(on_file=fill))
        assert caught.value.exit_code is Exit.NO_SPACE
        assert describe(target) == before
        (disk / "ballast").unlink()
        report = bring_back(repository, target)
        assert report.data.bytes_written < 5 * MIB
        (target / "mine.bin").unlink()
        assert _contents(target) == _contents(cache)


@pytest.mark.root
@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_a_disk_without_inodes(
    file_system: FileSystem, cache: Path, repository: Path, tmp_path: Path
) -> None:
    make_model(cache, {f"{number}.bin": noise(10, str(number)) for number in range(40)})
    back_up(repository, cache)
    with file_system(tmp_path / "disk", size=8 * MIB, inodes=64) as disk:
        ballast = 0
        with suppress(OSError):
            for ballast in range(200):
                (disk / f"ballast{ballast}").touch()
        for free in (0, 20):
            for number in range(free):
                (disk / f"ballast{ballast - 1 - number}").unlink()
            before = _listing(disk)
            with pytest.raises(NoSpace) as caught:
                bring_back(repository, disk / "cache")
            assert "df -i" in (caught.value.hint or "")
            assert _listing(disk) == before
        for path in disk.glob("ballast*"):
            path.unlink()
        bring_back(repository, disk / "cache")
        require_same(cache, disk / "cache")


@pytest.mark.root
def test_a_disk_with_just_enough_inodes_can_be_gone_on_with(
    cache: Path, repository: Path, tmp_path: Path
) -> None:
    """What is staged already does not count twice."""
    make_model(cache, {f"{number:02}.bin": noise(1000, str(number)) for number in range(40)})
    back_up(repository, cache)
    with tmpfs(tmp_path / "disk", size=8 * MIB, inodes=64) as disk:
        stop_after(repository, disk / "cache", 30_000)
        assert len(list(disk.glob(".zitcache-*/tree/*.bin"))) > 25
        bring_back(repository, disk / "cache")
        require_same(cache, disk / "cache")


@pytest.mark.root
def test_a_target_that_cannot_be_written(saved: Path, cache: Path, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", size=8 * MIB) as disk:
        target = make_model(disk / "cache", {"big.bin": b"old"})
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        before = describe(disk)
        for place in (target, disk / "new" / "cache", disk):
            with pytest.raises(CredentialsError) as caught:
                bring_back(saved, place)
            assert caught.value.exit_code is Exit.CREDENTIALS
            assert str(disk) in caught.value.message
        assert describe(disk) == before
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        bring_back(saved, target)
        require_same(cache, target)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        destroy_content(saved, "big.bin")
        assert bring_back(saved, target).data.action == "nothing to do"
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


@pytest.mark.parametrize(
    "injection", ["fsync:error=EIO:when=1", "renameat2:error=EIO:when=1", "fallocate:error=ENOSPC:when=1"]
)
def test_a_failing_disk_ends_the_restore_and_leaves_the_target(
    injection: str, saved: Path, cache: Path, target: Path, tmp_path: Path
) -> None:
    make_model(target, {"big.bin": b"old", "mine.bin": b"mine"})
    before = describe(target)
    arguments = command("restore", "-q", "-r", saved, "--to", target)[1:]
    done = with_faults(arguments, [injection], tmp_path / "trace")
    assert done.returncode == (Exit.NO_SPACE if "ENOSPC" in injection else Exit.UNREACHABLE), done.stderr
    assert describe(target) == before
    bring_back(saved, target)
    (target / "mine.bin").unlink()
    assert _contents(target) == _contents(cache)
    require_no_leftovers(target.parent)


def test_an_error_in_whoever_listens_ends_the_run_and_leaks_nothing(
    saved: Path, cache: Path, target: Path
) -> None:
    import gc

    def count_open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def crash(*anything: object) -> None:
        raise RuntimeError("crash")

    bring_back(saved, target.with_name("first"))
    before = count_open_files()
    for kind in ("on_advance", "on_file", "on_stage"):
        with pytest.raises(RuntimeError):
            bring_back(saved, target, Watching(**{kind: crash}))
    assert not target.exists()
    for _ in range(3):
        stop_after(saved, target, 200 * KIB)
    assert count_open_files() <= before
    bring_back(saved, target)
    require_same(cache, target)
    assert count_open_files() <= before
