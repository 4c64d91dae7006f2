"""Where a snapshot is restored to: links, mounts, layers, and places that are refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.backup.world import (
    MIB,
    back_up,
    bring_back,
    describe,
    flip,
    make_model,
    make_sample,
    noise,
    require_no_leftovers,
    require_same,
    unprivileged,
)
from tests.storage.disks import ext4, mounted, tmpfs
from zitcache.errors import CredentialsError, Exit, UsageError
from zitcache.tasks.sample import SampleLayout


def contents(root: Path) -> dict[str, object]:
    return {name: what[0] for name, what in describe(root).items() if name != "lost+found"}


def spoil(target: Path) -> None:
    """Damage the largest file, remove another, leave one of the user's."""
    files = sorted(
        (path for path in target.rglob("*") if path.is_file() and not path.is_symlink()),
        key=lambda path: path.stat().st_size,
    )
    flip(files[-1])
    files[-2].unlink()
    (files[-2].parent / "mine").write_bytes(b"mine")


def require_restored(cache: Path, target: Path) -> None:
    """As the snapshot, and the user's file is still there."""
    mine = next(target.rglob("mine"))
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    assert contents(target) == contents(cache)


@pytest.mark.parametrize("state", ["good", "spoiled", "empty", "gone"])
def test_a_target_that_is_a_link_to_another_place(
    state: str, cache: Path, repository: Path, tmp_path: Path
) -> None:
    """The cache was moved to a data disk, and a link left in its place."""
    make_sample(cache)
    back_up(repository, cache)
    place = tmp_path / "disk" / "moved"
    place.parent.mkdir()
    if state in {"good", "spoiled"}:
        shutil.copytree(cache, place)
    elif state == "empty":
        place.mkdir()
    if state == "spoiled":
        spoil(place)
    link = tmp_path / "link"
    link.symlink_to(place)
    report = bring_back(repository, link)
    assert report.data.target == str(place)
    assert link.is_symlink()
    if state == "spoiled":
        require_restored(cache, place)
    assert contents(place) == contents(cache)
    require_no_leftovers(tmp_path)


@pytest.mark.root
@pytest.mark.parametrize("layout", [SampleLayout.HUGGINGFACE_SHARED, SampleLayout.PLAIN], ids=str)
@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "bind"])
def test_a_target_that_is_a_mount_point(
    kind: str, layout: SampleLayout, cache: Path, repository: Path, tmp_path: Path
) -> None:
    make_sample(cache, layout)
    back_up(repository, cache)
    target = tmp_path / "mount" / "cache"
    target.parent.mkdir()
    source = tmp_path / "bound"
    source.mkdir()
    place = {
        "tmpfs": lambda: tmpfs(target, size=32 * MIB),
        "ext4": lambda: ext4(target, size=32 * MIB),
        "bind": lambda: mounted(["--bind", str(source)], target),
    }[kind]
    with place():
        bring_back(repository, target)
        if kind != "ext4":
            require_same(cache, target)
        assert contents(target) == contents(cache)
        spoil(target)
        bring_back(repository, target)
        require_restored(cache, target)
        assert bring_back(repository, target).data.action == "nothing to do"
        require_no_leftovers(target.parent)


@pytest.mark.root
def test_a_mount_point_inside_the_target(cache: Path, repository: Path, target: Path) -> None:
    """What lies on another file system cannot be renamed into place; what does not, can."""
    make_sample(cache, SampleLayout.SEED)
    make_model(cache / "models" / "owner" / "name", {"x.bin": noise(100)})
    back_up(repository, cache)
    shutil.copytree(cache, target, symlinks=True)
    inner = next(target.glob("models--*"))
    with tmpfs(inner, size=32 * MIB):
        (inner / "mine").write_bytes(b"mine")
        before = describe(target)
        with pytest.raises(UsageError) as caught:
            bring_back(repository, target)
        assert str(inner) in caught.value.message
        assert "--to" in (caught.value.hint or "")
        assert describe(target) == before
        require_no_leftovers(target.parent)
        (target / "models/owner/name/x.bin").unlink()
        report = bring_back(repository, target, only=("models/owner/*",))
        assert report.data.files == 1
        assert (inner / "mine").read_bytes() == b"mine"
    with tmpfs(target / "models/owner/name/scratch", size=MIB):
        (target / "models/owner/name/scratch/mine").write_bytes(b"mine")
        (target / "models/owner/name/x.bin").write_bytes(b"bad")
        bring_back(repository, target)
        assert (target / "models/owner/name/x.bin").read_bytes() == noise(100)
        assert os.path.ismount(target / "models/owner/name/scratch")
        assert (target / "models/owner/name/scratch/mine").read_bytes() == b"mine"
    require_no_leftovers(target.parent)


@pytest.mark.root
@pytest.mark.parametrize("layout", [SampleLayout.HUGGINGFACE_SHARED, SampleLayout.MODELSCOPE], ids=str)
def test_a_target_on_overlayfs(layout: SampleLayout, cache: Path, repository: Path, tmp_path: Path) -> None:
    """A container's own file system: the cache came with the image and lies in a lower layer."""
    make_sample(cache, layout)
    back_up(repository, cache)
    with tmpfs(tmp_path / "layers", size=64 * MIB) as layers:
        for name in ("lower", "upper", "work"):
            (layers / name).mkdir()
        shutil.copytree(cache, layers / "lower" / "root" / "cache", symlinks=True)
        spoil(layers / "lower" / "root" / "cache")
        options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
        with mounted(["-t", "overlay", "-o", options, "overlay"], tmp_path / "merged") as merged:
            target = merged / "root" / "cache"
            report = bring_back(repository, target)
            assert report.data.files == 2
            require_restored(cache, target)
            new = merged / "root" / "new"
            bring_back(repository, new)
            require_same(cache, new)
            shutil.rmtree(target)
            bring_back(repository, target)
            assert contents(target) == contents(cache)
            require_no_leftovers(merged)


@pytest.mark.root
def test_a_parent_that_one_may_not_write_to(open_place: Path) -> None:
    """The cache belongs to the user, the directory it lies in to root."""
    cache, repository = open_place / "cache", open_place / "data" / "zitcache"
    target = open_place / "closed" / "cache"
    make_sample(cache)
    back_up(repository, cache)
    target.mkdir(parents=True)
    os.chown(target, 65534, 65534)
    with unprivileged():
        bring_back(repository, target)
        require_same(cache, target)
        spoil(target)
        bring_back(repository, target)
        require_restored(cache, target)
        require_no_leftovers(target.parent)
        with pytest.raises(CredentialsError) as caught:
            bring_back(repository, target.with_name("other"))
    assert caught.value.exit_code is Exit.CREDENTIALS


def test_places_that_are_refused(cache: Path, repository: Path, tmp_path: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to-root").symlink_to("/")
    before = describe(tmp_path)
    for place, says in {
        "/": "root of the file system",
        str(tmp_path / "to-root"): "root of the file system",
        str(tmp_path / "file"): "is a file",
        str(tmp_path / "file" / "below"): "is a file",
        str(tmp_path / "loop"): "",
        "": "empty",
        "a\0b": "",
        str(repository): "overlap",
        str(repository / "inside"): "overlap",
        str(repository.parent): "overlap",
    }.items():
        with pytest.raises(UsageError) as caught:
            bring_back(repository, place)
        assert says in caught.value.message, place
        assert "--to" in (caught.value.hint or "")
    assert describe(tmp_path) == before


def test_a_relative_place_and_one_with_a_tilde(
    cache: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sample(cache)
    back_up(repository, cache)
    monkeypatch.chdir(tmp_path)
    assert bring_back(repository, Path("here/it is")).data.target == str(tmp_path / "here" / "it is")
    require_same(cache, tmp_path / "here" / "it is")
    assert bring_back(repository, Path("~/models")).data.target == str(tmp_path / "home" / "models")
    require_same(cache, tmp_path / "home" / "models")


@pytest.mark.parametrize("name", [b"x" * 255, "ä".encode() * 120, b"not utf-8 \xff", b"new\nline", b"-rf *"])
def test_a_target_with_a_name_of_every_kind(
    name: bytes, cache: Path, repository: Path, tmp_path: Path
) -> None:
    make_sample(cache)
    back_up(repository, cache)
    target = tmp_path / "to" / os.fsdecode(name)
    bring_back(repository, target)
    spoil(target)
    bring_back(repository, target)
    require_restored(cache, target)
    require_no_leftovers(target.parent)


def test_a_cache_whose_own_path_is_not_utf8(repository: Path, tmp_path: Path) -> None:
    cache = make_sample(tmp_path / os.fsdecode(b"cache \xff"))
    back_up(repository, cache)
    kept = cache.rename(tmp_path / "kept")
    assert bring_back(repository).data.target == str(cache)
    require_same(kept, cache)


def test_something_in_the_place_of_the_staging_place(
    cache: Path, repository: Path, target: Path, tmp_path: Path
) -> None:
    make_sample(cache)
    back_up(repository, cache)
    target.parent.mkdir()
    place = target.parent / f".zitcache-restore-{target.name}"
    outside = tmp_path / "outside"
    outside.mkdir()
    place.symlink_to(outside)
    with pytest.raises(UsageError) as caught:
        bring_back(repository, target)
    assert str(place) in caught.value.message
    assert list(outside.iterdir()) == []
    place.unlink()
    place.write_text("mine")
    with pytest.raises(UsageError):
        bring_back(repository, target)
    assert place.read_text() == "mine"


def test_a_dry_run_writes_nothing_at_all(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    plan = bring_back(repository, target, dry_run=True)
    assert (plan.data.dry_run, plan.data.action) == (True, "restored")
    assert plan.data.bytes_written == sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert not target.parent.exists()
    shutil.copytree(cache, target)
    spoil(target)
    parked = target.parent / f".zitcache-restore-{target.name}" / "old"
    parked.mkdir(parents=True)
    before = {path: path.lstat().st_mtime_ns for path in target.parent.rglob("*")}
    plan = bring_back(repository, target, dry_run=True)
    assert plan.data.files == 2
    assert {path: path.lstat().st_mtime_ns for path in target.parent.rglob("*")} == before
