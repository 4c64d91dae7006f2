"""What every storage promises (``zitcache/storage/protocol.py``), shown on each of them."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from zitcache.errors import IntegrityError, ObjectNotFound, ObjectTruncated, ZitcacheError
from zitcache.storage.protocol import ObjectInfo, Storage

BIG = bytes(range(256)) * 4096  # 1 MiB


def names(storage: Storage, prefix: str) -> list[str]:
    return sorted(found.name for found in storage.list(prefix))


def test_what_was_stored_is_loaded_again(storage: Storage) -> None:
    storage.store("packs/aa", BIG)
    assert storage.load("packs/aa") == BIG


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(data)[::1]])
def test_every_kind_of_buffer_is_stored(storage: Storage, make: type) -> None:
    storage.store("packs/aa", make(BIG))
    with storage.writer() as writer:
        writer.write(make(BIG))
        writer.commit("packs/bb")
    assert storage.create("locks/cc", make(BIG))
    assert storage.load("packs/aa") == storage.load("packs/bb") == storage.load("locks/cc") == BIG


def test_an_empty_object_is_an_object(storage: Storage) -> None:
    storage.store("packs/aa", b"")
    with storage.writer() as writer:
        writer.commit("packs/bb")
    assert storage.create("packs/cc", b"")
    assert storage.load("packs/aa") == storage.load("packs/bb") == b""
    assert names(storage, "packs") == ["packs/aa", "packs/bb", "packs/cc"]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, BIG),
        (5, None, BIG[5:]),
        (5, 10, BIG[5:15]),
        (0, 0, b""),
        (len(BIG) - 3, 100, BIG[-3:]),
        (len(BIG), 10, b""),
        (len(BIG) + 10, None, b""),
        (7, 1 << 60, BIG[7:]),
    ],
)
def test_ranges(storage: Storage, offset: int, length: int | None, expected: bytes) -> None:
    storage.store("packs/aa", BIG)
    assert storage.load("packs/aa", offset, length) == expected


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1), (-5, 3)])
def test_a_negative_range_is_refused(storage: Storage, offset: int, length: int | None) -> None:
    storage.store("packs/aa", BIG)
    with pytest.raises(IntegrityError):
        storage.load("packs/aa", offset, length)


def test_loading_into_a_buffer_fills_exactly_it(storage: Storage) -> None:
    storage.store("packs/aa", BIG)
    buffer = bytearray(b"." * 1000)
    storage.load_into("packs/aa", 77, memoryview(buffer)[100:900])
    assert buffer == b"." * 100 + BIG[77:877] + b"." * 100


def test_loading_more_than_is_there_into_a_buffer_is_damage(storage: Storage) -> None:
    storage.store("packs/aa", BIG)
    with pytest.raises(ObjectTruncated) as caught:
        storage.load_into("packs/aa", len(BIG) - 9, memoryview(bytearray(10)))
    assert caught.value.exit_code == 1
    assert "packs/aa" in caught.value.message


def test_a_missing_object_is_named(storage: Storage) -> None:
    for action in (
        lambda: storage.load("packs/aa"),
        lambda: storage.load_into("packs/aa", 0, memoryview(bytearray(1))),
        lambda: storage.info("packs/aa"),
    ):
        with pytest.raises(ObjectNotFound) as caught:
            action()
        assert "packs/aa" in caught.value.message
        assert caught.value.hint


def test_info_and_list_agree(storage: Storage) -> None:
    before = time.time() - 5
    storage.store("packs/aa", BIG)
    storage.store("packs/bb", b"b")
    storage.store("index/cc", b"cc")
    found = {info.name: info for info in storage.list("packs")}
    assert set(found) == {"packs/aa", "packs/bb"}
    assert found["packs/aa"] == storage.info("packs/aa")
    assert found["packs/aa"].size == len(BIG)
    assert before < found["packs/aa"].modified < time.time() + 5


def test_listing_a_folder_that_does_not_exist_gives_nothing(storage: Storage) -> None:
    assert list(storage.list("packs")) == []
    storage.store("packs/aa", b"a")
    assert list(storage.list("snapshots")) == []


def test_storing_again_changes_nothing(storage: Storage) -> None:
    storage.store("packs/aa", b"1234")
    first = storage.info("packs/aa")
    storage.store("packs/aa", b"1234")
    assert storage.info("packs/aa") == first
    assert names(storage, "packs") == ["packs/aa"]


def test_storing_over_an_object_of_another_size_heals_it(storage: Storage) -> None:
    storage.store("packs/aa", b"12")
    storage.store("packs/aa", b"1234")
    assert storage.load("packs/aa") == b"1234"


def test_create_never_replaces(storage: Storage) -> None:
    assert storage.create("locks/aa", b"first") is True
    assert storage.create("locks/aa", b"second, longer") is False
    assert storage.load("locks/aa") == b"first"
    storage.delete("locks/aa")
    assert storage.create("locks/aa", b"third") is True
    assert storage.load("locks/aa") == b"third"


def test_of_many_that_create_one_object_exactly_one_succeeds(storage: Storage) -> None:
    attempts = 6 if storage.is_remote else 25  # a server may take a second over each
    for attempt in range(attempts):
        barrier = threading.Barrier(8)

        def create(worker: int, barrier: threading.Barrier = barrier, attempt: int = attempt) -> bool:
            barrier.wait()
            return storage.create(f"locks/n{attempt}", b"%d" % worker * 1000)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert won.count(True) == 1
        assert storage.load(f"locks/n{attempt}") == b"%d" % won.index(True) * 1000
    assert len(names(storage, "locks")) == attempts


def test_two_writers_of_the_same_object_both_succeed(storage: Storage) -> None:
    barrier = threading.Barrier(4)

    def write(worker: int) -> None:
        with storage.writer() as writer:
            writer.write(BIG)
            barrier.wait()
            if worker % 2:
                storage.store("packs/aa", BIG)
            else:
                writer.commit("packs/aa")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert names(storage, "packs") == ["packs/aa"]
    assert storage.load("packs/aa") == BIG


def test_a_writer_shows_nothing_before_its_commit(storage: Storage) -> None:
    with storage.writer() as writer:
        writer.write(BIG[:1000])
        assert names(storage, "packs") == []
        writer.write(BIG[1000:])
        writer.commit("packs/aa")
        assert names(storage, "packs") == ["packs/aa"]
    assert storage.load("packs/aa") == BIG


def test_a_writer_left_without_commit_leaves_nothing(storage: Storage) -> None:
    with storage.writer() as writer:
        writer.write(BIG)
    with pytest.raises(KeyboardInterrupt), storage.writer() as writer:
        writer.write(BIG)
        raise KeyboardInterrupt
    assert names(storage, "packs") == []


def test_committing_what_exists_keeps_the_one_that_is_there(storage: Storage) -> None:
    storage.store("packs/aa", BIG)
    before = storage.info("packs/aa")
    with storage.writer() as writer:
        writer.write(BIG)
        writer.commit("packs/aa")
    assert storage.info("packs/aa") == before
    assert names(storage, "packs") == ["packs/aa"]


def test_a_commit_can_go_to_another_folder(storage: Storage) -> None:
    with storage.writer() as writer:
        writer.write(b"x")
        writer.commit("index/aa")
    assert names(storage, "index") == ["index/aa"]
    assert names(storage, "packs") == []


def test_many_writers_at_once(storage: Storage) -> None:
    def write(worker: int) -> None:
        with storage.writer() as writer:
            for piece in range(20):
                writer.write(bytes([worker]) * (1000 + piece))
            writer.commit(f"packs/n{worker}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert len(names(storage, "packs")) == 24
    for worker in range(24):
        assert set(storage.load(f"packs/n{worker}")) == {worker}


def test_deleting_is_final_and_can_be_repeated(storage: Storage) -> None:
    storage.store("packs/aa", BIG)
    storage.delete("packs/aa")
    storage.delete("packs/aa")
    storage.delete("never/was")
    assert names(storage, "packs") == []
    with pytest.raises(ObjectNotFound):
        storage.load("packs/aa")


def test_an_object_made_anew_is_read_anew(storage: Storage) -> None:
    storage.store("packs/aa", b"a" * (9 << 20))
    assert storage.load("packs/aa", 0, 1) == b"a"
    storage.delete("packs/aa")
    storage.store("packs/aa", b"b" * (9 << 20))
    assert storage.load("packs/aa", 0, 1) == b"b"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "../../etc/passwd",
        "packs/..",
        "packs/../../x",
        "packs//aa",
        "packs/",
        "./packs",
        "packs/.tmp-1-0123456789abcdef",
        "Packs/aa",
        "packs/a a",
        "packs/aa\n",
        "packs/a\0a",
        "packs/ä",
        "a" * 256,
        "/".join("a" * 20),
    ],
)
def test_a_name_that_is_none_is_refused_by_every_verb(storage: Storage, name: str) -> None:
    for action in (
        lambda: storage.load(name),
        lambda: storage.load_into(name, 0, memoryview(bytearray(1))),
        lambda: storage.store(name, b"x"),
        lambda: storage.create(name, b"x"),
        lambda: storage.info(name),
        lambda: storage.delete(name),
        lambda: list(storage.list(name)),
    ):
        with pytest.raises(IntegrityError):
            action()
    with pytest.raises(IntegrityError), storage.writer() as writer:
        writer.commit(name)
    assert names(storage, "packs") == []


def test_readers_and_writers_at_once_see_whole_objects_or_none(storage: Storage) -> None:
    sizes = {f"packs/n{number}": 1000 * (number + 1) for number in range(16)}
    stop = threading.Event()
    wrong: list[str] = []

    def whole(found: ObjectInfo) -> bool:
        return found.size == sizes[found.name] == len(storage.load(found.name))

    def read() -> None:
        while not stop.is_set():
            wrong.extend(found.name for found in storage.list("packs") if not whole(found))

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        list(pool.map(lambda item: storage.store(item[0], b"x" * item[1]), sizes.items()))
        stop.set()
        for reader in readers:
            reader.result()
    assert wrong == []


def test_only_errors_of_zitcache_come_out(storage: Storage) -> None:
    storage.store("packs/aa", b"x")
    for write in (storage.store, storage.create):
        # Folders are an idea of file systems: in an object store, both can be.
        with contextlib.suppress(ZitcacheError):
            write(f"packs/aa/{write.__name__}", b"x")
            assert storage.load(f"packs/aa/{write.__name__}") == b"x"
    assert storage.load("packs/aa") == b"x"
    for action in (
        lambda: storage.load("packs/aa/bb"),
        lambda: storage.load("packs"),
        lambda: storage.info("packs"),
    ):
        with pytest.raises(ZitcacheError):
            action()
