"""Reflinks, renames, and old places that cannot be renamed: layers of containers, mount points."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.backup.world import codes, noise
from tests.migrate.world import MIB, Disks, look, make_cache, make_small_cache, move, require_moved
from tests.storage.disks import btrfs, ext4, mounted, overlay, xfs
from zitcache.cache.marker import read_marker
from zitcache.errors import Exit
from zitcache.machine import clone
from zitcache.tasks.migrate.names import old_place

pytestmark = pytest.mark.root
FileSystem = Callable[..., AbstractContextManager[Path]]


def on_one_disk(disk: Path) -> Disks:
    for name in ("system", "data"):
        (disk / name).mkdir()
    return Disks(disk / "system", disk / "data")


@pytest.mark.parametrize("file_system", [xfs, btrfs])
def test_on_one_disk_blocks_are_shared(file_system: FileSystem, tmp_path: Path) -> None:
    with file_system(tmp_path / "disk") as disk:
        disks = on_one_disk(disk)
        make_cache(disks.cache, big=40 * MIB)
        before = look(disks.cache)
        os.sync()
        free = os.statvfs(disk).f_bfree * os.statvfs(disk).f_frsize
        started = time.monotonic()
        done = move(disks.target, disks.cache)
        assert time.monotonic() - started < 5
        os.sync()
        assert free - os.statvfs(disk).f_bfree * os.statvfs(disk).f_frsize < 10 * MIB
        assert (done.data.method, done.data.files_verified) == ("reflink", 0)
        require_moved(disks, before, old_copy=True)
        name = "models/owner--name/snapshots/master/big.bin"
        with (disks.target / name).open("r+b") as file:
            file.write(b"new")
        assert (old_place(disks.cache) / name).read_bytes() == noise(40 * MIB, "big"), "they are two files"
        (disks.target / "later.bin").write_bytes(b"later")
        after = look(disks.target)
        undone = move(None, disks.cache, undo=True)
        assert undone.data.method == "reflink" and look(disks.cache) == after


def test_a_file_that_cannot_be_cloned_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with xfs(tmp_path / "disk") as disk:
        disks = on_one_disk(disk)
        make_cache(disks.cache)
        before = look(disks.cache)

        def only_small(source: int, target: int) -> bool:
            return os.fstat(source).st_size < MIB and clone.clone_file(source, target)

        monkeypatch.setattr("zitcache.tasks.migrate.transfer.clone_file", only_small)
        done = move(disks.target, disks.cache)
        assert (done.data.method, done.data.files_verified) == ("reflink", 2)
        require_moved(disks, before, old_copy=True)


@pytest.mark.parametrize("file_system", [ext4, xfs])
@pytest.mark.parametrize("exists", [False, True])
def test_on_one_disk_without_the_old_copy_it_is_renamed(
    file_system: FileSystem, exists: bool, tmp_path: Path
) -> None:
    options = {"size": 64 * MIB} if file_system is ext4 else {}
    with file_system(tmp_path / "disk", **options) as disk:
        disks = on_one_disk(disk)
        if exists:
            disks.target.mkdir()
        make_cache(disks.cache)
        before, inode = look(disks.cache), disks.cache.stat().st_ino
        done = move(disks.target, disks.cache, delete_source=True)
        assert (done.data.method, done.data.source_deleted, done.data.linked) == ("rename", True, True)
        assert done.data.files == 11 and disks.target.stat().st_ino == inode
        require_moved(disks, before, old_copy=False)
        assert move(disks.target, disks.cache).data.action == "nothing to do"
        move(None, disks.cache, undo=True, delete_source=True)
        assert look(disks.cache) == before and not disks.target.exists()


def test_a_rename_that_turns_out_impossible_becomes_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ext4(tmp_path / "disk", size=64 * MIB) as disk:
        disks = on_one_disk(disk)
        make_cache(disks.cache)
        before = look(disks.cache)
        monkeypatch.setattr("zitcache.tasks.migrate.switch.exchange", lambda a, b: False)
        done = move(disks.target, disks.cache, delete_source=True)
        assert (done.data.method, done.data.source_deleted) == ("copy", True)
        assert [step.name for step in done.data.steps][:2] == ["prepare", "copy"]
        require_moved(disks, before, old_copy=False)


# -- places that cannot be renamed ------------------------------------------------------------------


def test_a_cache_that_came_with_the_image(disks: Disks, tmp_path: Path) -> None:
    """An overlay's lower layer: its directories cannot be renamed, so the old path stays until it may go."""
    lower = disks.system / "lower"
    make_small_cache(lower / "work" / "model_cache")
    with overlay(
        tmp_path / "root", lower=lower, upper=disks.system / "upper", work=disks.system / "workdir"
    ) as root:
        box = Disks(root, disks.data)
        before = look(box.cache)
        done = move(box.target, box.cache)
        assert codes(done) == ["not-linked"] and done.exit_code is Exit.OK
        assert (done.data.linked, done.data.old_copy) == (False, str(box.cache))
        assert "image" in done.warnings[0].message
        assert look(box.cache) == before == look(box.target) and not box.cache.is_symlink()
        marker = read_marker(box.target)
        assert marker is not None and not marker.linked
        assert move(box.target, box.cache).data.action == "nothing to do"
        later = move(box.target, box.cache, delete_source=True)
        assert (later.data.source_deleted, later.data.linked) == (True, True)
        assert look(box.cache) == before and os.readlink(box.cache) == str(box.target)
        marker = read_marker(box.target)
        assert marker is not None and marker.linked
        move(None, box.cache, undo=True, delete_source=True)
        assert look(box.cache) == before and not box.cache.is_symlink()


def test_every_path_works_while_a_layer_is_emptied(
    disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zitcache.tasks.migrate import removal

    lower = disks.system / "lower"
    make_small_cache(lower / "work" / "model_cache")
    looks: list[object] = []
    with overlay(
        tmp_path / "root", lower=lower, upper=disks.system / "upper", work=disks.system / "workdir"
    ) as root:
        box = Disks(root, disks.data)

        def contents() -> dict[str, bytes]:
            return {
                str(path.relative_to(box.cache)): path.read_bytes()
                for path in sorted(box.cache.rglob("*"))
                if path.is_file() and ".zitcache-" not in str(path.relative_to(box.cache))
            }

        before = contents()
        real = removal.replace_by_symlink

        def watched(path: Path, text: str) -> None:
            looks.append(contents())
            real(path, text)
            looks.append(contents())

        monkeypatch.setattr(removal, "replace_by_symlink", watched)
        move(box.target, box.cache, delete_source=True)
        assert len(looks) >= 6 and all(seen == before for seen in looks)
        assert box.cache.is_symlink() and contents() == before


def test_a_mount_point_cannot_become_a_link(disks: Disks, tmp_path: Path) -> None:
    with ext4(tmp_path / "old", size=64 * MIB) as old:
        make_cache(old)
        before = look(old)
        done = move(disks.target, old)
        assert codes(done) == ["not-linked"] and "mount point" in done.warnings[0].message
        assert not done.data.linked and look(disks.target) == before == look(old)
        free = os.statvfs(old).f_bfree
        gone = move(disks.target, old, delete_source=True)
        assert gone.data.source_deleted and not gone.data.linked and codes(gone) == ["not-linked"]
        assert os.statvfs(old).f_bfree > free and (old / "lost+found").is_dir()
        name = "models/owner--name/snapshots/master/big.bin"
        assert (old / name).read_bytes() == (disks.target / name).read_bytes()
        assert os.readlink(old / "models") == str(disks.target / "models")
        again = move(disks.target, old, delete_source=True)
        assert again.data.action == "nothing to do" and again.exit_code is Exit.OK
        move(disks.target, old, undo=True)
        assert look(old) == before


def test_a_parent_that_may_not_be_written(disks: Disks) -> None:
    """A read-only bind mount above the cache: it can be read, and cannot be renamed."""
    make_small_cache(disks.cache)
    before = look(disks.cache)
    with mounted(["--bind", str(disks.system)], disks.data / "view") as view:
        import subprocess

        subprocess.run(["mount", "-o", "remount,bind,ro", view], check=True)
        cache = view / "work" / "model_cache"
        done = move(disks.target, cache)
        assert codes(done) == ["not-linked"] and "read-only" in done.warnings[0].message
        assert look(disks.target) == before == look(cache)
