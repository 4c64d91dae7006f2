"""A disk that is full to the last block: the reserve lets forget and prune make room. Real small disks."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup.world import bring_back, make_repository, noise, require_same, require_sound, zitcache
from tests.prune.world import DAY, MODEL, names, pass_time, run_forget, run_prune, snapshot, write
from tests.storage.disks import MIB, ext4, tmpfs
from zitcache.errors import NoSpace
from zitcache.repository.reserve import RESERVE_NAME, RESERVE_SIZE, has_reserve, keep_reserve
from zitcache.repository.retention import Policy
from zitcache.storage.local import LocalStorage

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with ext4(tmp_path / "disk", size=64 * MIB) as place:
        yield place


def fill(disk: Path) -> None:
    """Write until nothing goes any more: in one file, and in small ones for the last free blocks."""
    for size in (MIB, 64 << 10, 4 << 10, 1 << 10, 1):
        with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(os.urandom(size))
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (disk / f"filler-{number}").write_bytes(b"x" * 1024)


@pytest.fixture
def full(disk: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A repository of three snapshots with large differences, on a disk without a free block."""
    repository = make_repository(disk / "repository", piece_size=1 << 18, merge_below=1 << 16, pack_size=MIB)
    cache = write(tmp_path / "cache")
    for number in range(3):
        write(cache, weights_bin=noise(6 * MIB, str(number)))
        snapshot(repository, cache)
    assert has_reserve(LocalStorage(repository))
    fill(disk)
    with pytest.raises(OSError):
        (disk / "one-more").write_bytes(b"x" * 5000)
    return repository, cache


def test_prune_frees_a_disk_that_is_full_to_the_last_block(
    full: tuple[Path, Path], disk: Path, tmp_path: Path
) -> None:
    repository, cache = full
    assert run_forget(repository, policy=Policy(last=1)).data.forgotten == 2
    report = run_prune(repository, grace_seconds=0).data
    assert report.packs_deleted >= 10 and report.bytes_freed > 11 * MIB
    assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > 11 * MIB
    assert has_reserve(LocalStorage(repository)), "and there is one again for next time"
    require_sound(repository)
    bring_back(repository, tmp_path / "back")
    require_same(cache, tmp_path / "back")


def test_what_was_marked_before_is_freed_on_a_full_disk(full: tuple[Path, Path], disk: Path) -> None:
    repository, _ = full
    run_forget(repository, policy=Policy(last=1))
    report = run_prune(repository).data
    assert report.packs_marked >= 10 and report.packs_deleted == 0
    pass_time(repository, 2 * DAY, files=True, own=False)
    fill(disk)
    for note in (repository / "marks").iterdir():
        assert note.stat().st_size
    # The notes' own times cannot be changed without room; so the clock is.
    import time
    from unittest import mock

    now = time.time()
    with mock.patch.object(time, "time", lambda: now + 2 * DAY):
        assert run_prune(repository).data.packs_deleted >= 10
    require_sound(repository)


def test_the_program_says_what_to_do_when_there_is_no_reserve_either(
    full: tuple[Path, Path], disk: Path
) -> None:
    repository, _ = full
    (repository / RESERVE_NAME).unlink()
    (disk / "filler-2").touch()
    fill(disk)
    done = zitcache("prune", "-r", repository, "--grace", "0")
    assert done.returncode == 5 and "No space" in done.stderr
    require_sound(repository)


def test_a_repack_that_finds_no_room_leaves_the_rest_of_the_prune_to_be_done(
    full: tuple[Path, Path], disk: Path, tmp_path: Path
) -> None:
    repository, cache = full
    run_forget(repository, policy=Policy(last=1))
    report = run_prune(repository, grace_seconds=0, max_unused=0).data
    assert report.packs_deleted >= 10
    require_sound(repository)
    bring_back(repository, tmp_path / "back")
    require_same(cache, tmp_path / "back")


def test_no_reserve_is_made_where_it_would_not_fit(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "tiny", size=1 * MIB) as tiny:
        storage = LocalStorage(tiny / "repository")
        storage.create("config", b"{}")
        assert not keep_reserve(storage)
    with tmpfs(tmp_path / "small", size=64 * MIB) as small:
        storage = LocalStorage(small / "repository")
        storage.create("config", b"{}")
        assert keep_reserve(storage) and not keep_reserve(storage)
        assert (small / "repository" / RESERVE_NAME).stat().st_size == MIB
        assert MIB < RESERVE_SIZE


def test_a_backup_on_a_full_disk_does_not_eat_the_reserve(full: tuple[Path, Path]) -> None:
    repository, cache = full
    write(cache, weights_bin=noise(6 * MIB, "more"))
    packs = names(repository, "packs")
    with pytest.raises(NoSpace):
        snapshot(repository, cache)
    assert has_reserve(LocalStorage(repository))
    assert names(repository, "packs") == packs and (cache / MODEL).is_dir()
