"""Nothing changes for the user but the disk."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.backup.world import LAYOUTS, codes, make_sample, noise
from tests.migrate.world import MIB, Disks, look, make_cache, move, require_moved, require_tidy, root_facts
from tests.storage.disks import ext4
from zitcache.cache.inventory import inventory
from zitcache.cache.marker import read_marker
from zitcache.errors import Exit
from zitcache.tasks.migrate import copying
from zitcache.tasks.migrate.names import LEFTOVERS_NAME, old_place
from zitcache.tasks.sample import SampleLayout

pytestmark = pytest.mark.root


def test_everything_moves_and_the_old_path_keeps_working(disks: Disks) -> None:
    make_cache(disks.cache)
    before, root = look(disks.cache), root_facts(disks.cache)
    done = move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)
    assert root_facts(disks.cache)[:3] == root[:3]
    assert look(old_place(disks.cache)) == before
    report = done.data
    assert (report.action, report.method, report.linked, report.source_deleted) == (
        "migrated", "copy", True, False,
    )  # fmt: skip
    assert (report.source, report.target) == (str(disks.cache), str(disks.target))
    assert report.files == report.files_verified + 1  # one of them has two names
    assert report.bytes == sum(
        entry.stat().st_size
        for entry in disks.target.rglob("*")
        if entry.is_file() and not entry.is_symlink() and entry.name != "second name"
        and not entry.name.startswith(".zitcache-")
    )  # fmt: skip
    assert done.exit_code is Exit.OK and not done.warnings
    marker = read_marker(disks.target)
    assert marker is not None and marker.linked
    assert (marker.real_source, marker.real_target) == (str(disks.cache), str(disks.target))


def test_a_large_file_is_read_back_while_it_is_written(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "FOLLOWED_FROM_BYTES", 5 * MIB)
    make_cache(disks.cache, big=21 * MIB + 4097)
    before = look(disks.cache)
    assert move(disks.target, disks.cache).data.files_verified == 10
    require_moved(disks, before, old_copy=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found_again(disks: Disks, layout: SampleLayout) -> None:
    make_sample(disks.cache, layout)
    before, models = look(disks.cache), [model.id for model in inventory(disks.cache).models]
    move(disks.target, disks.cache)
    require_moved(disks, before, old_copy=True)
    found = inventory(Path(os.path.realpath(disks.cache))).models
    assert all(model.complete for model in found)
    if layout is not SampleLayout.PLAIN:  # its model is called what its directory is called
        assert [model.id for model in found] == models


def test_both_sdks_in_one_root(disks: Disks, monkeypatch: pytest.MonkeyPatch, system_root: Path) -> None:
    """MODELSCOPE_CACHE and HF_HOME name the same directory, as on the machines this is made for."""
    make_sample(disks.cache, SampleLayout.MODELSCOPE)
    make_sample(disks.cache / "hub", SampleLayout.HUGGINGFACE)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(disks.cache))
    monkeypatch.setenv("HF_HOME", str(disks.cache))
    before = look(disks.cache)
    report = move(disks.target, environment=True).data
    require_moved(disks, before, old_copy=True)
    assert report.variables == {"MODELSCOPE_CACHE": str(disks.target), "HF_HOME": str(disks.target)}
    assert report.environment_files
    written = (system_root / "etc" / "environment").read_text()
    assert str(disks.target) in written
    marker = read_marker(disks.target)
    assert marker is not None and dict(marker.variables) == report.variables
    undone = move(None, undo=True, environment=True).data
    assert undone.environment_files and str(disks.target) not in (
        (system_root / "etc" / "environment").read_text()
        if (system_root / "etc" / "environment").exists()
        else ""
    )
    assert look(disks.cache) == before and not disks.cache.is_symlink()


def test_a_path_that_no_settings_file_can_hold_is_a_warning(disks: Disks) -> None:
    make_cache(disks.cache)
    done = move(disks.data / "two\nlines", disks.cache, environment=True)
    assert "environment-not-set" in codes(done) and done.exit_code is Exit.OK
    assert done.data.linked and not done.data.environment_files


def test_the_kit_is_kept_at_the_target(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[Path, object]] = []
    monkeypatch.setattr(
        "zitcache.tasks.migrate.others.keep_kit",
        lambda target, variables, session: kept.append((target, variables)),
    )
    make_cache(disks.cache)
    move(disks.target, disks.cache, kit=True, environment=True)
    assert [target for target, _ in kept] == [disks.target]
    assert "MODELSCOPE_CACHE" in dict(kept[0][1])  # type: ignore[call-overload]


# -- again, and back --------------------------------------------------------------------------------


def test_the_same_line_again_has_nothing_to_do(disks: Disks) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    move(disks.target, disks.cache)
    for cache in (disks.cache, disks.target, None):
        environ = {} if cache else {"MODELSCOPE_CACHE": str(disks.cache)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            again = move(disks.target, cache).data
        assert (again.action, again.linked, again.source_deleted) == ("nothing to do", True, False)
        assert again.old_copy == str(old_place(disks.cache))
    require_moved(disks, before, old_copy=True)


def test_the_old_copy_goes_when_asked_at_once_or_later(disks: Disks) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    assert move(disks.target, disks.cache, delete_source=True).data.source_deleted
    require_moved(disks, before, old_copy=False)
    move(disks.target, undo=True, delete_source=True)
    assert not disks.target.exists() and look(disks.cache) == before
    move(disks.target, disks.cache)
    later = move(disks.target, disks.cache, delete_source=True).data
    assert (later.action, later.source_deleted, later.old_copy) == ("source deleted", True, None)
    require_moved(disks, before, old_copy=False)


@pytest.mark.parametrize("old_copy", [True, False])
@pytest.mark.parametrize("by", ["path", "target"])
def test_undo_moves_back_and_migrate_works_again(disks: Disks, old_copy: bool, by: str) -> None:
    make_cache(disks.cache)
    move(disks.target, disks.cache, delete_source=not old_copy)
    new = disks.target / "models" / "new.bin"
    new.write_bytes(noise(100_000, "new"))
    (disks.target / "token").unlink()
    (disks.target / "empty" / "inner").rmdir()
    with (disks.target / "models/owner--name/snapshots/master/big.bin").open("r+b") as big:
        big.seek(5_000_000)
        big.write(b"changed")
    after = look(disks.target)
    done = move(None, disks.cache, undo=True) if by == "path" else move(disks.target, disks.cache, undo=True)
    assert done.data.action == "undone" and done.exit_code is Exit.OK
    assert not disks.cache.is_symlink()
    assert look(disks.cache) == after
    assert not old_place(disks.cache).exists()
    assert (done.data.bytes_resumed > 0) == old_copy
    assert look(disks.target) == after, "the destination is kept"
    assert read_marker(disks.target) is None
    assert ("leftovers" in codes(done)) == old_copy, "what only the old copy had is not deleted"
    new.unlink()
    (disks.cache / "models" / "more.bin").write_bytes(b"more")
    wanted = look(disks.cache)
    again = move(disks.target, disks.cache)
    assert again.data.bytes_resumed > 9 * MIB
    require_moved(disks, wanted, old_copy=True)


def test_undo_without_a_migration_is_exit_6(disks: Disks, tmp_path: Path) -> None:
    from zitcache.errors import NotFound

    make_cache(disks.cache)
    disks.target.mkdir()
    for target in (None, disks.target):
        with pytest.raises(NotFound) as caught:
            move(target, disks.cache, undo=True)
        assert caught.value.exit_code is Exit.NOT_FOUND
    assert not disks.cache.is_symlink()


def test_a_dry_run_changes_nothing_and_shows_the_steps(disks: Disks) -> None:
    make_cache(disks.cache)
    before = look(disks.system), sorted(disks.data.rglob("*"))
    planned = move(disks.target, disks.cache, dry_run=True, environment=True, kit=True, delete_source=True)
    assert (look(disks.system), sorted(disks.data.rglob("*"))) == before
    names = [step.name for step in planned.data.steps]
    assert names == [
        "prepare", "copy", "settle", "compare", "mark", "link", "latecomers", "environment", "kit", "record",
        "delete-source", "finish",
    ]  # fmt: skip
    assert planned.data.dry_run and planned.data.steps[1].bytes == planned.data.bytes
    move(disks.target, disks.cache)
    before = look(disks.cache), look(old_place(disks.cache)), read_marker(disks.target)
    assert move(disks.target, disks.cache, dry_run=True, delete_source=True).data.action == "source deleted"
    assert move(None, disks.cache, undo=True, dry_run=True).data.steps[-1].name == "finish"
    assert (look(disks.cache), look(old_place(disks.cache)), read_marker(disks.target)) == before
    require_tidy(disks)


# -- destinations -----------------------------------------------------------------------------------


def test_the_destination_may_be_a_mount_point(disks: Disks, tmp_path: Path) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    with ext4(tmp_path / "disk", size=64 * MIB) as point:
        assert (point / "lost+found").is_dir()
        move(point, disks.cache)
        assert look(point) == before and os.path.realpath(disks.cache) == str(point)
        move(None, disks.cache, undo=True, delete_source=True)
        assert os.listdir(point) == ["lost+found"]
        assert look(disks.cache) == before


@pytest.mark.parametrize("how", ["missing parents", "trailing slash", "relative", "home", "link", "odd name"])
def test_destinations_as_people_type_them(disks: Disks, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    real, typed = disks.target, str(disks.target)
    if how == "missing parents":
        real = disks.data / "a" / "b" / "c"
        typed = str(real)
    elif how == "trailing slash":
        typed += "//"
    elif how == "relative":
        monkeypatch.chdir(disks.data)
        typed = "./modelscope_cache"
    elif how == "home":
        monkeypatch.setenv("HOME", str(disks.data))
        typed = "~/modelscope_cache"
    elif how == "link":
        real.mkdir()
        (disks.system / "way").symlink_to(real)
        typed = str(disks.system / "way")
    else:
        real = disks.data / os.fsdecode("モデル\n \xff".encode("latin-1", "ignore") + b"\xff'\"")
        typed = str(real)
    report = move(typed, disks.cache).data
    assert report.target == str(real)
    assert os.path.realpath(disks.cache) == str(real) and look(disks.cache) == before
    assert move(typed, disks.cache).data.action == "nothing to do"
    assert move(typed, disks.cache, undo=True).data.action == "undone"


def test_a_cache_behind_a_link_moves_too(disks: Disks) -> None:
    """What people did by hand before: the path is a link already. The directory behind it moves."""
    make_cache(disks.cache)
    before = look(disks.cache)
    way = disks.system / "link"
    way.symlink_to("work/model_cache")
    move(disks.target, way)
    assert os.readlink(way) == "work/model_cache" and look(way) == before
    require_moved(disks, before, old_copy=True)


def test_a_migrated_cache_moves_on_and_still_belongs_to_its_first_path(disks: Disks, tmp_path: Path) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    move(disks.target, disks.cache, delete_source=True)
    with ext4(tmp_path / "third", size=64 * MIB) as third:
        move(third / "cache", disks.cache, delete_source=True)
        assert os.readlink(disks.cache) == str(third / "cache") and look(disks.cache) == before
        assert os.readlink(disks.target) == str(third / "cache"), "who names the second place still finds it"
        marker = read_marker(third / "cache")
        assert marker is not None and marker.real_source == str(disks.cache)
        assert move(third / "cache", disks.cache).data.action == "nothing to do"
        move(None, disks.cache, undo=True)
        assert not disks.cache.is_symlink() and look(disks.cache) == before


# -- what is in the cache ---------------------------------------------------------------------------


def test_links_out_of_the_cache_are_kept_and_said(disks: Disks) -> None:
    make_cache(disks.cache)
    (disks.system / "shared").write_bytes(b"shared")
    (disks.cache / "absolute").symlink_to(disks.system / "shared")
    (disks.cache / "relative").symlink_to("../../shared")
    done = move(disks.target, disks.cache)
    assert done.exit_code is Exit.PARTIAL and codes(done) == ["escaping-symlink"] * 2
    assert os.readlink(disks.target / "absolute") == str(disks.system / "shared")
    for name in ("absolute", "relative"):
        assert (disks.cache / name).read_bytes() == b"shared", "it leads where it led"


def test_sockets_and_pipes_stay_behind_and_are_said(disks: Disks) -> None:
    make_cache(disks.cache)
    os.mkfifo(disks.cache / "pipe")
    done = move(disks.target, disks.cache, delete_source=True)
    assert done.exit_code is Exit.PARTIAL
    assert codes(done) == ["special-file", "old-copy-kept"]
    assert old_place(disks.cache).is_dir() and not done.data.source_deleted


def test_owners_and_attributes(disks: Disks) -> None:
    make_cache(disks.cache)
    os.setxattr(disks.cache / "token", "user.note", b"mine")
    os.chown(disks.cache / "token", 1234, 2345)
    os.chown(disks.cache / "hub", 1234, 2345)
    os.lchown(disks.cache / "hub/models--owner--name/snapshots/abc/nowhere", 1234, 2345)
    move(disks.target, disks.cache)
    for name in ("token", "hub", "hub/models--owner--name/snapshots/abc/nowhere"):
        status = os.lstat(disks.target / name)
        assert (status.st_uid, status.st_gid) == (1234, 2345)
    assert os.getxattr(disks.target / "token", "user.note") == b"mine"


def test_a_repository_inside_moves_along_with_a_warning(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cache(disks.cache)
    (disks.cache / "zitcache").mkdir()
    monkeypatch.setenv("ZITCACHE_REPO", str(disks.cache / "zitcache"))
    assert codes(move(disks.target, disks.cache)) == ["repository-inside"]


# -- after the reset --------------------------------------------------------------------------------


def test_the_link_comes_back_after_a_reset(disks: Disks) -> None:
    make_cache(disks.cache)
    before = look(disks.cache)
    move(disks.target, disks.cache, delete_source=True)
    disks.cache.unlink()
    disks.cache.parent.rmdir()
    assert move(disks.target).data.action == "relinked"
    require_moved(disks, before, old_copy=False)
    disks.cache.unlink()
    disks.cache.mkdir()
    assert move(disks.target).data.action == "relinked", "an empty directory is no obstacle"
    require_tidy(disks)


def test_a_model_that_the_landlord_put_back_is_compared(disks: Disks) -> None:
    from zitcache.errors import UsageError

    make_cache(disks.cache)
    before = look(disks.cache)
    move(disks.target, disks.cache, delete_source=True)
    disks.cache.unlink()
    make_cache(disks.cache)
    relinked = move(disks.target, disks.cache)
    assert relinked.data.action == "relinked" and relinked.data.old_copy == str(old_place(disks.cache))
    require_moved(disks, before, old_copy=True)
    subprocess.run(["rm", "-rf", old_place(disks.cache)], check=True)
    disks.cache.unlink()
    make_cache(disks.cache)
    (disks.cache / "token").write_bytes(b"another")
    with pytest.raises(UsageError) as caught:
        move(disks.target, disks.cache)
    assert "token" in caught.value.message and not disks.cache.is_symlink()
    assert (disks.cache / "token").read_bytes() == b"another"
    assert not (disks.target / LEFTOVERS_NAME).exists()
