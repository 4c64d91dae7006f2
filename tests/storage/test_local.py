"""A repository in a directory: what only this storage promises."""

from __future__ import annotations

import gc
import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.disks import names_under, tmpfs
from zitcache.errors import Exit, ObjectNotFound, RepositoryNotFound, Unreachable, UsageError
from zitcache.machine.files import drop_cached, is_resident
from zitcache.storage.descriptors import LARGE_BYTES, Descriptors
from zitcache.storage.local import LocalStorage
from zitcache.storage.opening import open_storage

LARGE = os.urandom(4096) * (LARGE_BYTES // 4096 + 256)


def test_nothing_is_written_before_it_is_asked_for(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "deep" / "repository")
    assert not storage.exists()
    assert list(storage.list("packs")) == []
    with pytest.raises(ObjectNotFound):
        storage.load("config")
    with pytest.raises(RepositoryNotFound) as caught:
        storage.require()
    assert "zitcache init" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []
    storage.store("config", b"x")
    assert storage.exists()
    storage.require()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError) as caught:
            open_storage(str(place))
        assert "is a file" in caught.value.message
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_the_location_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("repository")
    monkeypatch.chdir("/")
    storage.store("config", b"x")
    assert storage.location == str(tmp_path / "repository")
    assert (tmp_path / "repository" / "config").read_bytes() == b"x"


def test_places_that_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_storage("~/a").location == str(tmp_path / "a")
    assert open_storage(f"file://{tmp_path}/a%20b").location == str(tmp_path / "a b")
    assert open_storage(f"file://localhost{tmp_path}/a").location == str(tmp_path / "a")
    assert os.fsencode(open_storage("file:///tmp/%ff").location) == b"/tmp/\xff"


@pytest.mark.parametrize("place", ["", "file://server/share", "file://", "https://x/y"])
def test_places_that_cannot_be_opened(place: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_storage(place)
    assert caught.value.exit_code is Exit.USAGE


def test_objects_and_folders_obey_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        storage = LocalStorage(tmp_path / "repository")
        storage.store("packs/aa", b"x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "repository/packs/aa").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "repository/packs").stat().st_mode) == 0o750


def test_foreign_files_and_unfinished_writes_are_not_objects(local: LocalStorage) -> None:
    local.store("packs/aa", b"x")
    folder = local.directory / "packs"
    for name in (".tmp-12-0123456789abcdef", ".DS_Store", "Thumbs.db", "aa~", "lost+found"):
        (folder / name).write_bytes(b"?")
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to("nowhere")
    assert [info.name for info in local.list("packs")] == ["packs/aa"]


def test_leftovers_are_listed_by_age_and_removed(local: LocalStorage) -> None:
    local.store("packs/aa", b"x")
    local.store("config", b"x")
    leftovers = {"packs/.tmp-12-0123456789abcdef": 100, ".tmp-7-aaaaaaaaaaaaaaaa": 5000}
    others = ["packs/.tmp-12-xyz", "packs/tmp-1-0123456789abcdef", ".hidden"]
    for name in (*leftovers, *others):
        (local.directory / name).write_bytes(b"half")
    for name, age in leftovers.items():
        os.utime(local.directory / name, times=(time.time() - age,) * 2)
    assert local.stale_temporaries(0) == (".tmp-7-aaaaaaaaaaaaaaaa", "packs/.tmp-12-0123456789abcdef")
    assert local.stale_temporaries(1000) == (".tmp-7-aaaaaaaaaaaaaaaa",)
    for name in (*leftovers, *leftovers):
        local.remove_temporary(name)
    assert names_under(local.directory) == sorted([*others, "packs/aa", "config"])
    with local.writer() as writer:
        writer.write(b"living")
        assert local.stale_temporaries(3600) == ()
        assert len(local.stale_temporaries(0)) == 1


@pytest.mark.parametrize("name", ["packs/aa", "../.tmp-7-aaaaaaaaaaaaaaaa", "config", "", "/etc/passwd"])
def test_only_leftovers_are_removed_as_leftovers(local: LocalStorage, name: str) -> None:
    local.store("packs/aa", b"x")
    outside = local.directory.parent / ".tmp-7-aaaaaaaaaaaaaaaa"
    outside.write_bytes(b"somebody's")
    with pytest.raises(UsageError):
        local.remove_temporary(name)
    assert outside.exists()
    assert local.load("packs/aa") == b"x"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_call_leaves_a_file_open(local: LocalStorage) -> None:
    before = open_files()
    for number in range(50):
        local.store(f"packs/n{number}", b"x")
        local.create(f"locks/n{number}", b"x")
        local.load(f"packs/n{number}")
        list(local.list("packs"))
    with local.writer() as writer:
        writer.write(b"x")
        writer.commit("packs/aa")
    local.writer()  # forgotten without a with
    gc.collect()
    assert open_files() == before


def test_a_pack_stays_open_between_reads_but_not_too_many_do(tmp_path: Path) -> None:
    descriptors = Descriptors(limit=3)
    paths = [tmp_path / str(number) for number in range(6)]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(LARGE_BYTES)
    before = open_files()
    with descriptors.reading(paths[0]) as first:
        for path in paths[1:]:
            with descriptors.reading(path):
                pass
        os.pread(first.fd, 1, 0)  # taken out of the set, yet open while it is used
        assert open_files() == before + 4
    assert open_files() == before + 3
    with descriptors.reading(paths[5]) as one, descriptors.reading(paths[5]) as other:
        assert one is other
    descriptors.close()
    assert open_files() == before


def test_many_threads_read_many_packs(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "repository")
    storage._descriptors = Descriptors(limit=2)
    for number in range(5):
        storage.store(f"packs/n{number}", bytes([number]) * LARGE_BYTES)
    before = open_files()
    barrier = threading.Barrier(6)

    def read(worker: int) -> None:
        barrier.wait()
        buffer = bytearray(1000)
        for step in range(300):
            number = (worker * 7 + step) % 5
            storage.load_into(f"packs/n{number}", step * 1000, memoryview(buffer))
            assert buffer == bytes([number]) * 1000

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(read, range(6)))
    storage.close()
    assert open_files() == before


def test_a_replaced_pack_is_read_anew(local: LocalStorage) -> None:
    local.store("packs/aa", LARGE[:-2])
    assert local.load("packs/aa", len(LARGE) - 2, 10) == b""
    local.store("packs/aa", LARGE[:-1])
    assert local.load("packs/aa", len(LARGE) - 2, 10) == LARGE[-2:-1]
    with local.writer() as writer:
        writer.write(LARGE)
        writer.commit("packs/aa")
    assert local.load("packs/aa", len(LARGE) - 1, 10) == LARGE[-1:]


@pytest.fixture
def on_disk(local: LocalStorage) -> LocalStorage:
    """A storage with a large pack, on a file system that has a page cache of its own."""
    with local.writer() as writer:
        writer.write(LARGE)
        writer.commit("packs/aa")
    path = local.directory / "packs/aa"
    with path.open("rb") as file:
        drop_cached(file.fileno(), 0, 0)
        if is_resident(file.fileno(), len(LARGE)):
            pytest.skip("the temporary directory is in memory: its pages cannot be dropped")
    return local


def resident(storage: LocalStorage) -> bool:
    with (storage.directory / "packs/aa").open("rb") as file:
        return is_resident(file.fileno(), len(LARGE))


def load_all(storage: LocalStorage) -> None:
    for offset in range(0, len(LARGE), 1 << 20):
        storage.load("packs/aa", offset, 1 << 20)


def load_all_into(storage: LocalStorage) -> None:
    buffer = memoryview(bytearray(1 << 20))
    for offset in range(0, len(LARGE), 1 << 20):
        storage.load_into("packs/aa", offset, buffer[: len(LARGE) - offset])


@pytest.mark.parametrize("read_all", [load_all, load_all_into])
def test_reading_a_cold_pack_leaves_the_page_cache_as_it_was(
    on_disk: LocalStorage, read_all: Callable[[LocalStorage], None]
) -> None:
    read_all(on_disk)
    assert not resident(on_disk)


@pytest.mark.parametrize("read_all", [load_all, load_all_into])
def test_reading_a_warm_pack_leaves_it_warm(
    on_disk: LocalStorage, read_all: Callable[[LocalStorage], None]
) -> None:
    (on_disk.directory / "packs/aa").read_bytes()
    assert resident(on_disk)
    read_all(on_disk)
    assert resident(on_disk)


def test_a_written_pack_does_not_stay_in_the_page_cache(on_disk: LocalStorage) -> None:
    on_disk.delete("packs/aa")
    with on_disk.writer() as writer:
        writer.write(LARGE)
        writer.commit("packs/aa")
    assert not resident(on_disk)


@pytest.mark.root
def test_an_unmounted_disk_is_not_replaced_by_a_folder_on_the_system_disk(tmp_path: Path) -> None:
    mount_point = tmp_path / "disk"
    with tmpfs(mount_point) as disk:
        inside, root_itself = LocalStorage(disk / "repository"), LocalStorage(disk)
        inside.store("packs/aa", b"x")
    for storage in (inside, root_itself):
        with pytest.raises(Unreachable) as caught:
            storage.store("packs/bb", b"x")
        assert "Mount it again" in (caught.value.hint or "")
    assert list(mount_point.iterdir()) == []


def test_a_folder_that_was_deleted_is_made_again(local: LocalStorage) -> None:
    with local.writer() as writer:
        writer.write(b"x")
        writer.commit("packs/aa")
    local.delete("packs/aa")
    (local.directory / "packs").rmdir()
    local.store("packs/bb", b"x")
    assert local.load("packs/bb") == b"x"
