"""The local cache of what a remote repository holds: never wrong, never in the way, never needed."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from tests.storage.disks import tmpfs
from tests.storage.latency import DistantStorage
from zitcache.errors import ObjectNotFound
from zitcache.storage.cached import CachedStorage
from zitcache.storage.local import LocalStorage
from zitcache.storage.metadata_cache import MAX_OBJECT_BYTES, MetadataCache, default_directory

DATA = b"what an index object says" * 100
NAME = blake3(DATA).hexdigest()
REPOSITORY = "ab" * 16


@pytest.fixture
def far(tmp_path: Path) -> DistantStorage:
    storage = DistantStorage(LocalStorage(tmp_path / "repository"))
    storage.inner.store(f"index/{NAME}", DATA)
    return storage


def cached(far: DistantStorage, place: Path | None) -> CachedStorage:
    """As another process opens it."""
    return CachedStorage(far, MetadataCache(place, REPOSITORY))


def read_all(storage: CachedStorage) -> list[bytes]:
    return [storage.load(info.name) for info in storage.list("index")]


def kept(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


def test_an_object_is_fetched_once_by_a_machine(far: DistantStorage, tmp_path: Path) -> None:
    for _ in range(3):
        assert read_all(cached(far, tmp_path / "cache")) == [DATA]
    assert far.calls["load index"] == 1
    assert far.calls["list index"] == 3, "what there is, is asked every time"


def test_and_once_by_a_process_where_nothing_can_be_kept(far: DistantStorage) -> None:
    storage = cached(far, None)
    assert read_all(storage) == read_all(storage) == [DATA]
    assert far.calls["load index"] == 1


def test_what_is_written_need_not_be_fetched(far: DistantStorage, tmp_path: Path) -> None:
    data = b"a new snapshot"
    name = f"snapshots/{blake3(data).hexdigest()}"
    storage = cached(far, tmp_path / "cache")
    storage.store(name, data)
    assert storage.load(name) == data
    again = cached(far, tmp_path / "cache")
    assert [again.load(info.name) for info in again.list("snapshots")] == [data]
    assert far.calls["load snapshots"] == 0


@pytest.mark.parametrize("damage", [b"", DATA[:-1], DATA + b"x", b"y" + DATA[1:], b"z" * 5_000_000])
def test_a_damaged_file_in_the_cache_is_fetched_anew(
    far: DistantStorage, tmp_path: Path, damage: bytes
) -> None:
    read_all(cached(far, tmp_path / "cache"))
    (file,) = kept(tmp_path / "cache")
    file.write_bytes(damage)
    assert read_all(cached(far, tmp_path / "cache")) == [DATA]
    assert file.read_bytes() == DATA


def test_what_was_deleted_elsewhere_is_gone_here(far: DistantStorage, tmp_path: Path) -> None:
    storage = cached(far, tmp_path / "cache")
    read_all(storage)
    far.inner.delete(f"index/{NAME}")
    assert read_all(storage) == []
    for process in (storage, cached(far, tmp_path / "cache")):
        with pytest.raises(ObjectNotFound):
            process.load(f"index/{NAME}")


def test_what_is_deleted_here_is_not_kept(far: DistantStorage, tmp_path: Path) -> None:
    storage = cached(far, tmp_path / "cache")
    read_all(storage)
    storage.delete(f"index/{NAME}")
    assert kept(tmp_path / "cache") == []
    with pytest.raises(ObjectNotFound):
        storage.load(f"index/{NAME}")


def test_an_object_that_is_not_what_its_name_says_is_not_kept(far: DistantStorage, tmp_path: Path) -> None:
    wrong = f"index/{blake3(b'other').hexdigest()}"
    far.inner.store(wrong, b"tampered with")
    storage = cached(far, tmp_path / "cache")
    list(storage.list("index"))
    assert storage.load(wrong) == b"tampered with"
    assert storage.load(wrong) == b"tampered with"
    assert kept(tmp_path / "cache") == []


def test_parts_come_from_the_whole(far: DistantStorage, tmp_path: Path) -> None:
    storage = cached(far, tmp_path / "cache")
    list(storage.list("index"))
    for offset, length in ((0, 10), (5, 7), (len(DATA) - 3, 100), (len(DATA) + 5, 1), (3, None)):
        end = None if length is None else offset + length
        assert storage.load(f"index/{NAME}", offset, length) == DATA[offset:end]
    assert far.calls["load index"] == 1


def test_packs_and_locks_are_never_kept(far: DistantStorage, tmp_path: Path) -> None:
    storage = cached(far, tmp_path / "cache")
    for folder in ("packs", "locks", "claims"):
        storage.store(f"{folder}/{NAME}", DATA)
        list(storage.list(folder))
        storage.load(f"{folder}/{NAME}")
    assert kept(tmp_path / "cache") == []


@pytest.mark.root
def test_a_full_disk_is_done_without(far: DistantStorage, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", size=64 << 10) as disk:
        (disk / "ballast").write_bytes(bytes(60 << 10))
        cache = MetadataCache(disk / "cache", REPOSITORY)
        large = os.urandom(1 << 20)
        cache.put("index", blake3(large).hexdigest(), large)
        assert kept(disk / "cache") == []
        assert read_all(cached(far, disk / "cache")) == [DATA]


@pytest.mark.parametrize("place", ["/proc/nothing/here", "/dev/null/cache", "/etc/hostname"])
def test_a_place_that_cannot_be_written_is_done_without(far: DistantStorage, place: str) -> None:
    assert read_all(cached(far, Path(place))) == [DATA]


def test_a_link_or_a_pipe_in_the_cache_is_not_followed(far: DistantStorage, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    folder = place / REPOSITORY / "index"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(DATA)
    (folder / NAME).symlink_to(tmp_path / "elsewhere")
    assert read_all(cached(far, place)) == [DATA]
    (folder / NAME).unlink()
    os.mkfifo(folder / NAME)
    assert read_all(cached(far, place)) == [DATA]
    assert far.calls["load index"] == 2


def test_the_cache_stays_small(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    old = MetadataCache(place, REPOSITORY)
    names = []
    for number in range(20):
        data = number.to_bytes(2, "big") * 500
        names.append(blake3(data).hexdigest())
        old.put("index", names[-1], data)
        os.utime(place / REPOSITORY / "index" / names[-1], (1000 + number, 1000 + number))
    (place / "notes").write_text("not ours")
    new = MetadataCache(place, "cd" * 16, max_bytes=10_000)
    new.put("snapshots", NAME, DATA)
    left = [name for name in names if (place / REPOSITORY / "index" / name).exists()]
    assert left == names[-7:], "what was unused for longest went first, of any repository"
    assert (place / "notes").exists()
    assert new.get("snapshots", NAME) == DATA


def test_what_is_used_is_kept_longest(tmp_path: Path) -> None:
    cache = MetadataCache(tmp_path, REPOSITORY)
    cache.put("index", NAME, DATA)
    (file,) = kept(tmp_path)
    os.utime(file, (1000, 1000))
    assert MetadataCache(tmp_path, REPOSITORY).get("index", NAME) == DATA
    assert file.stat().st_mtime > time.time() - 100


def test_an_enormous_object_is_not_kept(tmp_path: Path) -> None:
    cache = MetadataCache(tmp_path, REPOSITORY)
    data = bytes(MAX_OBJECT_BYTES + 1)
    cache.put("index", blake3(data).hexdigest(), data)
    assert kept(tmp_path) == []


def test_sealed_things_are_checked_too(tmp_path: Path) -> None:
    cache = MetadataCache(tmp_path, REPOSITORY)
    cache.put_sealed("contents", "aa", b"of pack aa")
    assert MetadataCache(tmp_path, REPOSITORY).get_sealed("contents", "aa") == b"of pack aa"
    (file,) = kept(tmp_path)
    file.rename(file.with_name("bb"))
    assert cache.get_sealed("contents", "bb") is None, "it was sealed for another pack"
    assert kept(tmp_path) == []


def test_many_at_once_share_it(far: DistantStorage, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(lambda: read_all(cached(far, tmp_path / "cache"))) for _ in range(64)]
        assert all(each.result() == [DATA] for each in work)
    assert [path.name for path in kept(tmp_path / "cache")] == [NAME], "no unfinished files are left"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/home/x"}, "/home/x/.cache/zitcache"),
        ({"HOME": "/home/x", "XDG_CACHE_HOME": "/var/cache/x"}, "/var/cache/x/zitcache"),
        ({"HOME": "/home/x", "XDG_CACHE_HOME": "relative"}, "/home/x/.cache/zitcache"),
        ({"HOME": "/home/x", "ZITCACHE_METADATA_CACHE": "~/meta"}, "/home/x/meta"),
        ({"ZITCACHE_METADATA_CACHE": "/scratch/meta"}, "/scratch/meta"),
        ({"HOME": "/home/x", "ZITCACHE_METADATA_CACHE": ""}, "/home/x/.cache/zitcache"),
        ({"HOME": "/home/x", "ZITCACHE_METADATA_CACHE": "off"}, None),
        ({"HOME": "/home/x", "ZITCACHE_METADATA_CACHE": "0"}, None),
        ({}, None),
        ({"HOME": "/home/x", "HF_HOME": "/home/x/.cache"}, None),
        ({"HOME": "/home/x", "HF_HOME": "/home/x/.cache/huggingface"}, "/home/x/.cache/zitcache"),
        ({"ZITCACHE_METADATA_CACHE": "/data/models/meta", "MODELSCOPE_CACHE": "/data/models"}, None),
    ],
)
def test_where_it_lies(environ: dict[str, str], expected: str | None) -> None:
    found = default_directory(environ)
    assert found == (None if expected is None else Path(expected))
