"""Disks that fill up, fail, vanish or lie; programs that write; caches that change; two at once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import Watching, codes, command, noise, zitcache
from tests.migrate.world import MIB, Disks, look, make_cache, move, require_moved, require_tidy, two_disks
from tests.storage.disks import ext4, python_environment, tmpfs, with_faults
from zitcache.errors import CredentialsError, Exit, Locked, NoSpace, Unreachable, UsageError
from zitcache.events import Cancel
from zitcache.tasks.migrate import copying, parts, switch, transfer
from zitcache.tasks.migrate.names import JOURNAL_NAME, PART_PREFIX, old_place

pytestmark = pytest.mark.root


# -- space ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_disk_too_small_is_said_before_anything_is_written(disks: Disks, tmp_path: Path, what: str) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    size, inodes = (8 * MIB, None) if what == "bytes" else (64 * MIB, 24)
    with ext4(tmp_path / "small", size=size, inodes=inodes) as small:
        with pytest.raises(NoSpace) as caught:
            move(small / "cache", disks.cache)
        assert caught.value.exit_code is Exit.NO_SPACE and "Nothing was changed" in caught.value.message
        assert os.listdir(small) == ["lost+found"]
    assert look(disks.cache) == before and not disks.cache.is_symlink()


def test_a_disk_that_fills_up_on_the_way_can_be_gone_on_from(disks: Disks, tmp_path: Path) -> None:
    for number in range(6):
        path = disks.cache / "model" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(3 * MIB, str(number)))
    (disks.cache / "model" / "config.json").write_bytes(b"{}")
    before = look(disks.cache)
    with ext4(tmp_path / "small", size=48 * MIB) as small:
        ballast = small / "ballast"

        def fill(path: str) -> None:
            if path.endswith("3.bin") and not ballast.exists():
                with ballast.open("wb", buffering=0) as file:
                    try:
                        while True:
                            file.write(bytes(MIB))
                    except OSError:
                        pass

        with pytest.raises(NoSpace):
            move(small / "cache", disks.cache, Watching(on_file=fill))
        assert look(disks.cache) == before and not disks.cache.is_symlink()
        ballast.unlink()
        assert move(small / "cache", disks.cache).data.action == "migrated"
        assert look(disks.cache) == before and disks.cache.is_symlink()


# -- disks that fail --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "injection",
    [
        "fsync:error=EIO:when=1+",
        "syncfs:error=EIO:when=1",
        "fdatasync:error=EIO:when=1",
        "pwrite64:error=EIO:when=1",
        "renameat2:error=EIO:when=2+",
        "fallocate:error=ENOSPC:when=2+",
    ],
)
def test_a_failing_disk_ends_the_migration_and_the_old_path_works(
    injection: str, disks: Disks, tmp_path: Path
) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    line = ["migrate", str(disks.target), "--cache", str(disks.cache), "--no-env", "--no-kit", "-q"]
    done = with_faults(command(*line)[1:], [injection], tmp_path / "trace")
    expected = Exit.NO_SPACE if "ENOSPC" in injection else Exit.UNREACHABLE
    assert done.returncode == expected, done.stderr
    assert "INJECTED" in (tmp_path / "trace").read_text()
    assert look(disks.cache) == before and not disks.cache.is_symlink()
    assert move(disks.target, disks.cache).exit_code is Exit.OK
    require_moved(disks, before, old_copy=True)


def test_a_failed_fsync_is_not_tried_again_but_written_anew(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "FOLLOWED_FROM_BYTES", 5 * MIB)
    make_cache(disks.cache)
    before = look(disks.cache)

    def fail(fd: int) -> None:
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as patch:
        patch.setattr(parts.os, "fsync", fail)
        with pytest.raises(Unreachable):
            move(disks.target, disks.cache)
    assert not [path for path in disks.target.rglob(f"{PART_PREFIX}*") if path.stat().st_size > 5 * MIB]
    move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)


def test_a_disk_that_returns_other_bytes_is_caught(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back wrong once: copied once more, with a warning. Wrong twice: exit 1, nothing switched."""
    make_cache(disks.cache)
    before = look(disks.cache)
    real = copying._digest_from_disk
    wrong = {"left": 1}

    def lie(path: Path, size: int, buffer: memoryview) -> tuple[str, bool]:
        digest, from_memory = real(path, size, buffer)
        if size > 8 * MIB and wrong["left"]:
            wrong["left"] -= 1
            return "0" * 64, from_memory
        return digest, from_memory

    monkeypatch.setattr(copying, "_digest_from_disk", lie)
    wrong["left"] = 99
    with pytest.raises(transfer.ReadBackDiffers) as caught:
        move(disks.target, disks.cache)
    assert caught.value.exit_code is Exit.DAMAGE and "big.bin" in caught.value.message
    assert look(disks.cache) == before and not disks.cache.is_symlink()
    assert not (disks.target / ".zitcache-migrated.json").exists()
    wrong["left"] = 1
    assert codes(move(disks.target, disks.cache)) == ["read-back-differs"]
    require_moved(disks, before, old_copy=True)


def test_bytes_that_changed_on_the_disk_are_found(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk itself is written to between the sync and the reading back: memory would not show it."""
    make_cache(disks.cache)
    real = copying.Destination.sync
    flipped = []

    def sync(self: copying.Destination) -> None:
        real(self)
        for path in disks.target.rglob(f"{PART_PREFIX}*"):
            if path.stat().st_size == 70 * 1024 and not flipped:
                fd = os.open(path, os.O_RDWR | os.O_DIRECT)
                flipped.append(path)
                import mmap

                page = mmap.mmap(-1, 4096)
                os.preadv(fd, [page], 4096)
                page[7] ^= 1
                os.pwrite(fd, page, 4096)
                os.close(fd)

    monkeypatch.setattr(copying.Destination, "sync", sync)
    before = look(disks.cache)
    assert codes(move(disks.target, disks.cache)) == ["read-back-differs"]
    assert flipped
    require_moved(disks, before, old_copy=True)


def test_a_followed_file_is_really_read_from_the_disk(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece that was never written differs: what is read back does not come from the writer's memory."""
    monkeypatch.setattr(copying, "FOLLOWED_FROM_BYTES", 5 * MIB)
    make_cache(disks.cache)
    before = look(disks.cache)
    real = parts.pwrite_all
    skipped: list[int] = []

    def skip_one(fd: int, data: memoryview, offset: int) -> None:
        if offset == 4 * MIB and not skipped:
            skipped.append(offset)
            return
        real(fd, data, offset)

    monkeypatch.setattr(parts, "pwrite_all", skip_one)
    assert codes(move(disks.target, disks.cache)) == ["read-back-differs"]
    assert skipped
    require_moved(disks, before, old_copy=True)


def test_a_read_only_target(disks: Disks) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    subprocess.run(["mount", "-o", "remount,ro", disks.data], check=True)
    with pytest.raises(CredentialsError) as caught:
        move(disks.target, disks.cache)
    assert caught.value.exit_code is Exit.CREDENTIALS
    assert look(disks.cache) == before and not disks.cache.is_symlink()
    subprocess.run(["mount", "-o", "remount,rw", disks.data], check=True)
    move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)


@pytest.mark.parametrize("moment", ["copying", "switching"])
def test_a_target_that_vanishes(
    disks: Disks, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``umount -l`` in the middle: the path then names an empty directory on the system disk."""
    make_cache(disks.cache)
    before = look(disks.cache)
    image = subprocess.run(
        ["findmnt", "-no", "SOURCE", disks.data], capture_output=True, text=True, check=True
    ).stdout.strip()
    keep = tmp_path / "keep"
    keep.mkdir()
    subprocess.run(["mount", image, keep], check=True)  # keeps the loop device alive
    gone = []

    def vanish(*anything: object) -> None:
        if not gone:
            gone.append(True)
            subprocess.run(["umount", "-l", disks.data], check=True)

    if moment == "copying":
        progress = Watching(on_file=lambda path: vanish() if path.endswith("config.json") else None)
        with pytest.raises((Unreachable, UsageError)) as caught:
            move(disks.target, disks.cache, progress)
    else:
        monkeypatch.setattr(
            "zitcache.tasks.migrate.steps.observe", lambda name: vanish() if name == "link" else None
        )
        with pytest.raises(Unreachable) as caught:
            move(disks.target, disks.cache)
    assert "went away" in caught.value.message or caught.value.exit_code is Exit.UNREACHABLE
    assert gone and not disks.target.exists(), "nothing was written to the disk below"
    assert look(disks.cache) == before and not disks.cache.is_symlink()
    subprocess.run(["mount", image, disks.data], check=True)
    subprocess.run(["umount", keep], check=True)
    monkeypatch.setattr("zitcache.tasks.migrate.steps.observe", lambda name: None)
    move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)


# -- programs that write ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["file", "mapping"])
def test_a_writer_that_holds_the_source_open_is_named(disks: Disks, how: str) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    path = disks.cache / "token"
    code = (
        "import mmap, sys, time\n"
        f"file = open({str(path)!r}, 'r+b')\n"
        + ("held = mmap.mmap(file.fileno(), 0); file.close()\n" if how == "mapping" else "")
        + "print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with pytest.raises(Locked) as caught:
            move(disks.target, disks.cache)
        assert caught.value.exit_code is Exit.LOCKED
        assert str(process.pid) in caught.value.message and "python" in caught.value.message
        assert str(path) in caught.value.message
        assert not disks.target.exists()
        assert look(disks.cache) == before
    finally:
        process.kill()
        process.wait()
    move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)


def on_step(monkeypatch: pytest.MonkeyPatch, step: str, action: Any) -> None:
    monkeypatch.setattr(
        "zitcache.tasks.migrate.steps.observe", lambda name: action() if name == step else None
    )


def test_what_changes_meanwhile_is_caught_up_with(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cache(disks.cache)
    model = disks.cache / "models/owner--name/snapshots/master"

    def change() -> None:
        (model / "new.bin").write_bytes(noise(100_000, "new"))
        (model / "model.safetensors").write_bytes(b"changed")
        (model / "big.bin.incomplete").rename(model / "finished.bin")
        (disks.cache / "token").unlink()
        (disks.cache / "hub/models--owner--name/snapshots/abc/nowhere").unlink()
        (disks.cache / "new folder").mkdir()
        (disks.cache / ".lock" / "owner--name").chmod(0o600)

    on_step(monkeypatch, "compare", change)
    done = move(disks.target, disks.cache)
    assert done.exit_code is Exit.OK and not done.warnings
    after = look(old_place(disks.cache))
    assert "new folder" in after and "token" not in after
    require_moved(disks, after, old_copy=True)


def test_a_cache_that_never_rests_is_refused(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cache(disks.cache)
    count = iter(range(1000))
    real = transfer.list_everything

    def restless(root: Path) -> Any:
        (disks.cache / "growing.bin").write_bytes(b"x" * next(count))
        return real(root)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "list_everything", restless)
        with pytest.raises(Locked) as caught:
            move(disks.target, disks.cache)
    assert "growing.bin" in caught.value.message
    assert not disks.cache.is_symlink() and not (disks.target / ".zitcache-migrated.json").exists()
    before = look(disks.cache)
    move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)


@pytest.mark.parametrize("delete_source", [False, True])
def test_latecomers_are_carried_over(
    disks: Disks, delete_source: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with the old directory open writes there between the last look and the switch."""
    make_cache(disks.cache)
    folder = os.open(disks.cache / "models", os.O_RDONLY | os.O_DIRECTORY)

    def write(name: str, data: bytes) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)
        os.write(fd, data)
        os.close(fd)

    def late() -> None:
        write("late.bin", b"late")
        write("owner--name/snapshots/master/config.json", b"changed late")
        os.mkdir("late folder", dir_fd=folder)
        os.symlink("late.bin", "late link", dir_fd=folder)

    on_step(monkeypatch, "latecomers", late)
    done = move(disks.target, disks.cache, delete_source=delete_source)
    os.close(folder)
    assert done.exit_code is Exit.OK
    models = disks.cache / "models"
    assert (models / "late.bin").read_bytes() == b"late" == (models / "late link").read_bytes()
    assert (models / "owner--name/snapshots/master/config.json").read_bytes() == b"changed late"
    assert (models / "late folder").is_dir()
    assert old_place(disks.cache).exists() != delete_source


def test_what_changed_on_both_sides_is_kept_on_both(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cache(disks.cache)
    old = os.open(disks.cache / "token", os.O_WRONLY)

    def late() -> None:
        os.pwrite(old, b"OLD", 0)
        (disks.cache / "token").write_bytes(b"new side")

    monkeypatch.setattr("zitcache.tasks.migrate.preflight.writers_below", lambda place: [])
    on_step(monkeypatch, "latecomers", late)
    done = move(disks.target, disks.cache, delete_source=True)
    os.close(old)
    assert done.exit_code is Exit.PARTIAL and "changed-on-both-sides" in codes(done)
    assert (disks.cache / "token").read_bytes() == b"new side"
    assert (old_place(disks.cache) / "token").read_bytes() == b"OLDsecret"[:0] + b"OLD" + b"hf_secret"[3:]


def test_the_old_copy_is_not_deleted_with_what_only_it_has(disks: Disks) -> None:
    make_cache(disks.cache)
    move(disks.target, disks.cache)
    (old_place(disks.cache) / "written days later.bin").write_bytes(b"precious")
    done = move(disks.target, disks.cache, delete_source=True)
    assert done.exit_code is Exit.PARTIAL and codes(done) == ["old-copy-kept"]
    assert (old_place(disks.cache) / "written days later.bin").read_bytes() == b"precious"
    assert not done.data.source_deleted and done.data.old_copy


def test_the_last_copy_of_a_large_file_is_not_deleted(disks: Disks) -> None:
    """The weights at the new place were removed, perhaps by mistake: the old copy is the only one."""
    make_cache(disks.cache)
    move(disks.target, disks.cache)
    name = "models/owner--name/snapshots/master/big.bin"
    (disks.target / name).unlink()
    (disks.target / "token").unlink()
    done = move(disks.target, disks.cache, delete_source=True)
    assert done.exit_code is Exit.PARTIAL and name in done.warnings[0].message
    assert (old_place(disks.cache) / name).stat().st_size > 9 * MIB


# -- interrupted, resumed, at once ------------------------------------------------------------------


@pytest.mark.parametrize("followed", [True, False])
def test_a_resumed_file_is_not_written_again(
    disks: Disks, followed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zitcache.errors import Interrupted

    monkeypatch.setattr(copying, "FOLLOWED_FROM_BYTES", 5 * MIB if followed else 1 << 40)
    make_cache(disks.cache, big=60 * MIB)
    before = look(disks.cache)
    cancel, read = Cancel(), [0]

    def stop(count: int) -> None:
        read[0] += count
        if read[0] > 40 * MIB:
            cancel.set()

    with pytest.raises(Interrupted):
        move(disks.target, disks.cache, Watching(on_advance=stop), cancel)
    assert (disks.target / JOURNAL_NAME / "plan.json").exists()
    (part,) = [path for path in disks.target.rglob(f"{PART_PREFIX}*") if path.stat().st_size == 60 * MIB]
    with part.open("r+b") as file:  # what lies there is believed of no piece without looking
        file.seek(9 * MIB)
        file.write(b"damaged by something")
    written: list[int] = []
    real = parts.pwrite_all
    monkeypatch.setattr(
        parts, "pwrite_all", lambda fd, data, offset: (written.append(len(data)), real(fd, data, offset))[1]
    )
    done = move(disks.target, disks.cache)
    assert 24 * MIB < done.data.bytes_resumed < 60 * MIB
    assert sum(written) < 40 * MIB
    require_moved(disks, before, old_copy=True)


def test_finished_files_are_not_read_again(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        on_step(patch, "settle", stop)
        with pytest.raises(KeyboardInterrupt):
            move(disks.target, disks.cache)
    copied: list[object] = []
    real = copying.Copier.run
    monkeypatch.setattr(
        copying.Copier, "run", lambda self, entries: (copied.extend(entries), real(self, entries))[1]
    )
    done = move(disks.target, disks.cache)
    assert copied == [] and done.data.bytes_resumed == done.data.bytes
    require_moved(disks, before, old_copy=True)


@pytest.mark.parametrize("garbage", [b"", b"{", b'["x"]\n\xff\xfe\n[1,2]\n', b"\0" * 5000])
def test_a_journal_that_makes_no_sense_costs_time_only(
    disks: Disks, garbage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        on_step(patch, "settle", stop)
        with pytest.raises(KeyboardInterrupt):
            move(disks.target, disks.cache)
    (disks.target / JOURNAL_NAME / "done.jsonl").write_bytes(garbage)
    (disks.target / "token").write_bytes(b"another!!")  # and a finished file is not what it was
    move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)


def test_a_plan_that_makes_no_sense_is_refused(disks: Disks) -> None:
    from zitcache.errors import IntegrityError

    make_cache(disks.cache)
    (disks.target / JOURNAL_NAME).mkdir(parents=True)
    (disks.target / JOURNAL_NAME / "plan.json").write_bytes(b"\x80\x04pickle")
    with pytest.raises(IntegrityError) as caught:
        move(disks.target, disks.cache)
    assert str(disks.target) in caught.value.message and not disks.cache.is_symlink()


def test_two_at_once(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    """To one destination, or from one source: the second is told, the first is not disturbed."""
    make_cache(disks.cache)
    before = look(disks.cache)
    seen: list[tuple[str, int, str]] = []

    def second() -> None:
        for place in (disks.target, disks.data / "other"):
            line = ["migrate", place, "--cache", disks.cache, "--no-env", "--no-kit"]
            done = zitcache(*line)
            seen.append((str(place), done.returncode, done.stderr))

    on_step(monkeypatch, "compare", second)
    move(disks.target, disks.cache)
    assert [code for _, code, _ in seen] == [Exit.LOCKED] * 2, seen
    assert all("Another migration works on" in said for _, _, said in seen)
    require_moved(disks, before, old_copy=True)


def test_locks_that_a_disk_does_not_know_are_done_without(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    make_cache(disks.cache)
    before = look(disks.cache)
    move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)


def test_threads_and_descriptors_are_given_back(disks: Disks) -> None:
    make_cache(disks.cache)
    move(disks.target, disks.cache)
    move(None, disks.cache, undo=True, delete_source=True)
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for number in range(3):
        move(disks.data / str(number), disks.cache)
        move(None, disks.cache, undo=True)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) <= before


def test_ctrl_c_ends_within_two_seconds_and_the_same_line_goes_on(tmp_path: Path) -> None:
    import signal

    with two_disks(tmp_path, system_size=400 * MIB, data_size=512 * MIB) as disks:
        make_cache(disks.cache, big=1 * MIB)
        with (disks.cache / "huge.bin").open("wb") as file:
            for _ in range(150):
                file.write(os.urandom(2 * MIB))
        line = command("migrate", disks.target, "--cache", disks.cache, "--no-env", "--no-kit")
        process = subprocess.Popen(
            line, env=python_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 30
        while not list(disks.target.glob(f"{PART_PREFIX}*")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode in (130, 0), said
        assert time.monotonic() - started < 2.5
        before = look(disks.cache)
        done = zitcache(*line[3:])
        assert done.returncode == 0, done.stderr
        assert look(disks.cache) == before and disks.cache.is_symlink()
        require_tidy(disks)


def test_memory_is_no_place_for_a_cache(disks: Disks, tmp_path: Path) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    with tmpfs(tmp_path / "memory", size=64 * MIB) as memory:
        with pytest.raises(UsageError) as caught:
            move(memory / "cache", disks.cache)
        assert "memory" in caught.value.message and str(disks.data) in (caught.value.hint or "")
        done = move(memory / "cache", disks.cache, force=True)
        assert "does-not-survive" in codes(done)
        assert look(disks.cache) == before
        move(None, disks.cache, undo=True)
        assert look(disks.cache) == before and switch is not None
