"""The scan for what a bare machine has: bounded, off to no other disk, and trusting nobody else's files."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tests.backup.world import make_repository, make_sample
from tests.storage.disks import MIB, tmpfs
from zitcache.cache.marker import MARKER_NAME, MigrationMarker, marker_paths, write_marker
from zitcache.errors import Interrupted
from zitcache.events import Cancel, Session
from zitcache.machine.mounts import Mount
from zitcache.machine.ownership import distrust
from zitcache.tasks import discovery
from zitcache.tasks.discovery import migrated_caches, repositories, scan


def make_marker(path: Path, *, time: str = "2026-01-01T00:00:00Z", source: str = "/root/cache") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    marker = MigrationMarker(
        id="a" * 32,
        host="box",
        time=time,
        program="zitcache test",
        method="copy",
        files=1,
        bytes=1,
        linked=True,
        **marker_paths(source, str(path)),  # type: ignore[arg-type]
    )
    write_marker(path, marker)
    return path


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as the one data disk."""
    place = tmp_path / "disk"
    place.mkdir()
    use(monkeypatch, place)
    return place


def use(monkeypatch: pytest.MonkeyPatch, *places: Path) -> None:
    mounts = tuple(Mount(str(place), 1, "ext4", (), is_network=False, is_memory=False) for place in places)
    monkeypatch.setattr(discovery, "data_mounts", lambda: mounts)


def test_caches_and_repositories_wherever_they_lie(disk: Path) -> None:
    for name in ("zitcache", "a/b/c/snapshots", "backups/2026/box"):
        make_repository(disk / name)
    for name in ("model_cache", "x/.cache/modelscope"):
        make_marker(make_sample(disk / name))
    (disk / "restic").mkdir()
    (disk / "restic/config").write_text("encrypted")
    assert sorted(repositories(Session())) == [
        str(disk / "a/b/c/snapshots"), str(disk / "backups/2026/box"), str(disk / "zitcache"),
    ]  # fmt: skip
    found = migrated_caches(Session())
    assert sorted(cache.path for cache in found) == [disk / "model_cache", disk / "x/.cache/modelscope"]
    assert all(cache.alive and cache.trusted and cache.problem is None for cache in found)
    assert found[0].models == ("Tongyi-MAI/Z-Image-Turbo",)


def test_the_root_of_a_disk_may_be_the_cache_or_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_marker(make_sample(tmp_path / "one"))
    make_repository(tmp_path / "two")
    use(monkeypatch, tmp_path / "one", tmp_path / "two")
    assert [cache.path for cache in migrated_caches(Session())] == [tmp_path / "one"]
    assert repositories(Session()) == [str(tmp_path / "two")]


def test_the_newest_migration_comes_first(disk: Path) -> None:
    make_marker(make_sample(disk / "old"), time="2026-01-01T00:00:00Z")
    make_marker(make_sample(disk / "new"), time="2026-03-01T00:00:00Z")
    assert [cache.path.name for cache in migrated_caches(Session())] == ["new", "old"]


def test_what_is_not_alive_says_why(disk: Path) -> None:
    make_marker(disk / "empty")
    broken = make_marker(make_sample(disk / "broken"))
    next(broken.rglob("*.safetensors")).unlink()
    found = {cache.path.name: cache for cache in migrated_caches(Session())}
    assert not found["empty"].alive and found["empty"].problem == "there is no model in it"
    assert not found["broken"].alive and "not complete" in (found["broken"].problem or "")


def test_one_broken_model_beside_a_whole_one_is_still_a_cache(disk: Path) -> None:
    cache = make_marker(make_sample(disk / "cache"))
    other = cache / "models/someone--else/snapshots/master"
    other.mkdir(parents=True)
    (other / "model_index.json").write_text('{"_class_name": "X", "unet": ["diffusers", "Y"]}')
    (other / "unet").mkdir()
    (other / "unet/model.safetensors").write_bytes(b"<html>")
    [found] = migrated_caches(Session())
    assert found.alive and found.models == ("Tongyi-MAI/Z-Image-Turbo",)
    assert "someone/else is not complete" in (found.problem or "") and found.incomplete == ("someone/else",)


def test_links_are_not_followed_and_hidden_folders_not_entered(disk: Path, tmp_path: Path) -> None:
    make_repository(tmp_path / "elsewhere/zitcache")
    (disk / "link").symlink_to(tmp_path / "elsewhere")
    (disk / "loop").symlink_to(disk)
    make_repository(disk / ".Trash-0/zitcache")
    make_repository(disk / "lost+found/zitcache")
    make_repository(disk / "models--x--y/zitcache")
    assert repositories(Session()) == []


def test_a_scan_is_bounded_in_depth_and_number(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = disk.joinpath(*"abcdefgh")
    make_repository(deep)
    assert repositories(Session()) == []
    assert repositories(Session(), [disk / "a/b/c"]) == [str(deep)], "named, it is near enough"
    monkeypatch.setattr(discovery, "MAX_DIRECTORIES", 50)
    for number in range(60):
        (disk / f"dataset-{number:03}").mkdir()
    make_repository(disk / "zitcache")
    assert repositories(Session()) == []
    monkeypatch.undo()


def test_another_disk_mounted_below_is_not_entered_twice(tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "disk"
    with tmpfs(place / "inner", size=4 * MIB) as inner:
        make_repository(inner / "zitcache")
        use(monkeypatch, place)
        assert repositories(Session()) == []
        use(monkeypatch, place, inner)
        assert repositories(Session()) == [str(inner / "zitcache")]


def test_a_disk_that_does_not_answer_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dead", "good"):
        make_repository(tmp_path / name / "zitcache")
    use(monkeypatch, tmp_path / "dead", tmp_path / "good")
    monkeypatch.setattr(discovery, "MAX_SECONDS", 0.5)
    forever = threading.Event()
    look = discovery._look

    def hang(root: Path, *rest: object) -> None:
        if root.name == "dead":
            forever.wait()
        look(root, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(discovery, "_look", hang)
    session, started = Session(), time.monotonic()
    try:
        assert repositories(session) == [str(tmp_path / "good/zitcache")]
        assert time.monotonic() - started < 10
        assert [notice.code for notice in session.warnings] == ["disk-not-answering"]
    finally:
        forever.set()


def test_a_stop_ends_the_scan(disk: Path) -> None:
    cancel = Cancel()
    cancel.set()
    make_marker(make_sample(disk / "cache"))
    with pytest.raises(Interrupted):
        migrated_caches(Session(cancel=cancel))


def test_places_that_make_no_sense(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "missing", Path("/proc/1/fd"), tmp_path / "x\ny"):
        assert scan(Session(), [place]).repositories == []


def test_unreadable_markers_are_warned_about_and_passed_over(disk: Path) -> None:
    for number, content in enumerate([b"{", b"\0" * 10, b"[]", b"x" * (2 << 20), b'{"format": "other"}']):
        (disk / str(number)).mkdir()
        (disk / str(number) / MARKER_NAME).write_bytes(content)
    session = Session()
    assert migrated_caches(session) == []
    assert [notice.code for notice in session.warnings] == ["marker-unreadable"] * 5


@pytest.mark.root
@pytest.mark.parametrize("change", ["owner", "marker-owner", "open", "marker-open"])
def test_what_others_could_write_is_only_used_when_named(disk: Path, change: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    cache = make_marker(make_sample(disk / "cache"))
    path = cache / MARKER_NAME if change.startswith("marker") else cache
    if change.endswith("owner"):
        os.chown(path, 1234, 1234)
    else:
        path.chmod(0o777)
    [found] = migrated_caches(Session())
    assert not found.trusted and not found.alive and "not used without being named" in (found.problem or "")
    [found] = migrated_caches(Session(), [cache])
    assert found.trusted and found.alive
    assert distrust(path) is not None and distrust(disk) is None


def test_the_sticky_bit_makes_up_for_an_open_directory(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert "everybody may write" in (distrust(tmp_path / "open") or "")
    (tmp_path / "open").chmod(0o1777)
    assert distrust(tmp_path / "open") is None
    assert "cannot be looked at" in (distrust(tmp_path / "missing") or "")
