"""Every reason not to begin: said before anything changes, with what to do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backup.world import codes
from tests.migrate.world import MIB, Disks, look, make_cache, make_small_cache, move
from tests.storage.disks import ext4, mounted
from zitcache.errors import CacheNotFound, Exit, Interrupted, NoSpace, UsageError, ZitcacheError
from zitcache.machine.capabilities import Capabilities
from zitcache.tasks.migrate import MigratePlan, preflight
from zitcache.tasks.migrate.names import old_place

pytestmark = pytest.mark.root


def refused(kind: type[ZitcacheError], disks: Disks, target: object, **options: object) -> ZitcacheError:
    """Must be refused, with a hint, and without a change anywhere."""
    before = look(disks.system), look(disks.data)
    with pytest.raises(kind) as caught:
        move(str(target), disks.cache, **options)
    assert (look(disks.system), look(disks.data)) == before
    assert caught.value.hint
    return caught.value


def test_destinations_that_make_no_sense(disks: Disks) -> None:
    make_small_cache(disks.cache)
    file = disks.data / "file"
    file.touch()
    for target, word in [
        ("", "empty"),
        ("s3://bucket/x", "directory"),
        ("a\0b", "empty"),
        (file, "a file"),
        (file / "below", "a file"),
        (disks.cache, "already"),
        (f"{disks.cache}/", "already"),
        (disks.cache / "models", "inside"),
        (disks.cache / "new" / "er", "inside"),
        (disks.cache.parent, "inside"),
        (disks.system, "inside"),
        ("/", "root"),
        (f"{disks.cache}/../model_cache", "already"),
    ]:
        error = refused(UsageError, disks, target)
        assert word in error.message, (target, error.message)
        assert error.exit_code is Exit.USAGE


def test_bind_mounts_do_not_hide_an_overlap(disks: Disks, tmp_path: Path) -> None:
    make_small_cache(disks.cache)
    with mounted(["--bind", str(disks.cache)], tmp_path / "same"):
        refused(UsageError, disks, tmp_path / "same")
        refused(UsageError, disks, tmp_path / "same" / "new")


def test_a_destination_with_something_in_it(disks: Disks) -> None:
    make_small_cache(disks.cache)
    disks.target.mkdir()
    (disks.target / "mine").touch()
    assert str(disks.target / "model_cache") in str(refused(UsageError, disks, disks.target).hint)


def test_a_destination_with_another_migration(disks: Disks) -> None:
    make_small_cache(disks.cache)
    move(disks.target, disks.cache)
    other = make_small_cache(disks.system / "other" / "cache")
    with pytest.raises(UsageError) as caught:
        move(disks.target, other)
    assert str(disks.cache) in caught.value.message and str(other) in caught.value.message
    assert not other.is_symlink()


def test_the_system_disk_is_refused_with_the_disks_that_survive(disks: Disks, tmp_path: Path) -> None:
    make_small_cache(disks.cache)
    error = refused(UsageError, disks, tmp_path / "cache")
    assert "system disk" in error.message and str(disks.data) in str(error.hint)
    assert not (tmp_path / "cache").exists()
    assert "does-not-survive" in codes(move(tmp_path / "cache", disks.cache, force=True))


def test_no_cache_is_exit_6(disks: Disks) -> None:
    disks.cache.mkdir(parents=True)
    assert refused(CacheNotFound, disks, disks.target).exit_code is Exit.NOT_FOUND


def test_an_old_copy_in_the_way(disks: Disks) -> None:
    make_small_cache(disks.cache)
    old_place(disks.cache).mkdir()
    (old_place(disks.cache) / "mine").touch()
    before = look(disks.cache)
    with pytest.raises(UsageError) as caught:
        move(disks.target, disks.cache)
    assert str(old_place(disks.cache)) in caught.value.message
    assert look(disks.cache) == before and (old_place(disks.cache) / "mine").exists()


def test_another_file_system_inside_the_cache(disks: Disks) -> None:
    make_small_cache(disks.cache)
    with mounted(["-t", "tmpfs", "tmpfs"], disks.cache / "mounted"):
        assert "umount" in str(refused(UsageError, disks, disks.target).hint)


ABLE = Capabilities(
    symlink=True, hard_link=True, reflink=False, exchange=True, directory_fsync=True, noexec=False,
    modes=True, locks=True, case_sensitive=True, max_file_bytes=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "kind", "word"),
    [
        ({"symlink": False}, UsageError, "symlinks"),
        ({"hard_link": False}, UsageError, "hard links"),
        ({"max_file_bytes": 10_000}, NoSpace, "0123"),
        ({"case_sensitive": False}, UsageError, "one name"),
    ],
)
def test_disks_that_cannot_hold_what_is_in_the_cache(
    disks: Disks,
    missing: dict[str, object],
    kind: type[ZitcacheError],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_small_cache(disks.cache)
    (disks.cache / "A").touch()
    (disks.cache / "a").touch()
    import dataclasses

    unable = dataclasses.replace(ABLE, **missing)  # type: ignore[arg-type]
    monkeypatch.setattr(preflight, "probe", lambda directory: unable)
    assert word in refused(kind, disks, disks.target).message


@pytest.fixture
def vfat() -> Callable[[Path], object]:
    import shutil

    mkfs = shutil.which("mkfs.vfat") or shutil.which("mkfs.vfat", path="/usr/sbin:/sbin")
    if mkfs is None:
        pytest.skip("needs mkfs.vfat (package dosfstools)")

    def make(place: Path) -> object:
        image = place.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(64 * MIB)
        subprocess.run([mkfs, str(image)], check=True, capture_output=True)
        return mounted(["-o", "loop", str(image)], place)

    return make


def test_a_fat_disk(disks: Disks, tmp_path: Path, vfat: Callable[[Path], object]) -> None:
    """No links, no modes, times in twos: refused where links are needed; else what it can keep is kept."""
    make_small_cache(disks.cache)
    with vfat(tmp_path / "fat") as fat:  # type: ignore[attr-defined]
        for force in (False, True):
            with pytest.raises(UsageError) as caught:
                move(fat / "cache", disks.cache, force=force)
        assert "symlinks" in caught.value.message
        (disks.cache / "models/owner--name/link").unlink()
        with pytest.raises(UsageError) as caught:
            move(fat / "cache", disks.cache, force=True)
        assert "hard links" in caught.value.message
        (disks.cache / "models/owner--name/second name").unlink()
        done = move(fat / "cache", disks.cache, force=True)
        assert "modes-not-kept" in codes(done) or done.exit_code is Exit.OK
        name = "models/owner--name/blobs/0123"
        assert (disks.cache / name).read_bytes() == (old_place(disks.cache) / name).read_bytes()
        assert move(fat / "cache", disks.cache).data.action == "nothing to do"
        move(None, disks.cache, undo=True)
        assert not disks.cache.is_symlink()


def test_no_is_an_answer(disks: Disks) -> None:
    make_small_cache(disks.cache)
    plans: list[MigratePlan] = []

    def no(plan: MigratePlan) -> bool:
        plans.append(plan)
        return False

    with pytest.raises(Interrupted) as caught:
        move(disks.target, disks.cache, confirm=no)
    assert "Nothing was changed" in caught.value.message
    assert not disks.target.exists() and not disks.cache.is_symlink()
    assert [step.name for step in plans[0].steps][:2] == ["prepare", "copy"]
    move(disks.target, disks.cache, confirm=lambda plan: True)
    with pytest.raises(Interrupted):
        move(None, disks.cache, undo=True, confirm=no)
    assert disks.cache.is_symlink()


def test_undo_does_not_overwrite_what_is_there_now(disks: Disks) -> None:
    make_cache(disks.cache)
    move(disks.target, disks.cache, delete_source=True)
    disks.cache.unlink()
    disks.cache.mkdir()
    (disks.cache / "mine").write_bytes(b"mine")
    with pytest.raises(UsageError):
        move(disks.target, undo=True)
    assert (disks.cache / "mine").read_bytes() == b"mine" and disks.target.is_dir()


def test_undo_to_a_disk_too_small_changes_nothing(disks: Disks, tmp_path: Path) -> None:
    with ext4(tmp_path / "tiny", size=28 * MIB) as tiny:
        cache = make_cache(tiny / "cache")
        move(disks.target, cache, delete_source=True)
        (tiny / "ballast").write_bytes(bytes(16 * MIB))
        before = look(cache)
        with pytest.raises(NoSpace):
            move(None, cache, undo=True)
        assert cache.is_symlink() and look(cache) == before
        assert sorted(os.listdir(tiny)) == ["ballast", "cache", "lost+found"]
        (tiny / "ballast").unlink()
        move(None, cache, undo=True)
        assert not cache.is_symlink() and look(cache) == before
