"""Trees that were made to be dangerous, or that grew odd by themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.clean.world import SNAPSHOT, items_of, only, put, require_complete, run
from tests.storage.disks import mounted, tmpfs
from zitcache.machine.trees import remove_tree


def test_symlinks_are_never_followed_out(cache: Path, tmp_path: Path) -> None:
    treasure = put(tmp_path / "treasure/only.copy.incomplete")
    (cache / SNAPSHOT / "away").symlink_to(treasure.parent)
    (cache / SNAPSHOT / "file.bin.incomplete").symlink_to(treasure)
    inside = put(cache / SNAPSHOT / "._____temp/x").parent
    (inside / "away").symlink_to(treasure.parent)
    (cache / SNAPSHOT / ".zitcache-tmp-1-ab").symlink_to(treasure.parent)
    run(cache, delete=True)
    assert treasure.exists() and not inside.exists()


def test_loops_end(cache: Path) -> None:
    (cache / SNAPSHOT / "loop").symlink_to(".")
    (cache / SNAPSHOT / "self").symlink_to("self")
    temporary = put(cache / SNAPSHOT / "._____temp/x").parent
    (temporary / "up").symlink_to("..")
    assert only(run(cache, delete=True)).removed
    assert not temporary.exists() and (cache / SNAPSHOT / "model_index.json").exists()


def test_a_temporary_folder_that_is_a_link_is_no_folder(cache: Path, tmp_path: Path) -> None:
    treasure = put(tmp_path / "treasure/x")
    (cache / SNAPSHOT / "._____temp").symlink_to(treasure.parent)
    run(cache, delete=True)
    assert treasure.exists()


def test_special_files_are_not_opened(cache: Path) -> None:
    os.mkfifo(cache / SNAPSHOT / "pipe.bin.incomplete")
    (cache / ".lock").mkdir()
    os.mkfifo(cache / ".lock/pipe")
    put(cache / SNAPSHOT / "x.bin.incomplete")
    assert only(run(cache, delete=True)).removed


def test_a_folder_too_deep_to_look_into_stays(cache: Path) -> None:
    top = cache / SNAPSHOT / "._____temp"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    item = only(run(cache, delete=True))
    assert not item.removed and "File name too long" in (item.kept_because or "")
    remove_tree(top)
    require_complete(cache)


@pytest.mark.root
def test_what_is_mounted_inside_stays(cache: Path) -> None:
    temporary = put(cache / SNAPSHOT / "._____temp/x").parent
    with tmpfs(temporary / "disk"):
        kept = put(temporary / "disk/only.copy")
        item = only(run(cache, delete=True))
        assert not item.removed and "mounted in it" in (item.kept_because or "") and kept.exists()


@pytest.mark.root
def test_a_bind_mount_of_the_same_disk_inside_stays(cache: Path, tmp_path: Path) -> None:
    treasure = put(tmp_path / "treasure/only.copy")
    temporary = put(cache / SNAPSHOT / "._____temp/x").parent
    with mounted(["--bind", str(treasure.parent)], temporary / "bound"):
        item = only(run(cache, delete=True))
        assert not item.removed and "mounted" in (item.kept_because or "") and treasure.exists()


@pytest.mark.root
def test_what_is_mounted_in_a_model_is_not_walked(cache: Path) -> None:
    with tmpfs(cache / SNAPSHOT / "other-disk"):
        kept = put(cache / SNAPSHOT / "other-disk/x.bin.incomplete")
        assert run(cache, delete=True).data.items == [] and kept.exists()


def test_thousands_of_leftovers(cache: Path) -> None:
    for number in range(1000):
        put(cache / SNAPSHOT / f"parts/big.safetensors_{number * 10}_{number * 10 + 9}", b"0123456789")
    found = items_of(run(cache))
    assert len(found) == 1000 and all(item.kept_because is None for item in found.values())
