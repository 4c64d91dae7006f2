"""Saving from many threads: every blob once, and no trace of what failed."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.cache.builders import write
from tests.codec.contents import make
from tests.repository.builders import (
    SMALL_PIECES,
    back_up,
    bring_back,
    new_repository,
    picture,
    reopened,
    temporaries,
)
from tests.storage.faults import FaultyStorage, Plan
from zitcache.codec.blob import blob_id, encode
from zitcache.codec.frame import FrameKind
from zitcache.errors import IntegrityError, NoSpace, ZitcacheError
from zitcache.repository.records import PieceList
from zitcache.repository.repository import Repository
from zitcache.repository.saver import Saver
from zitcache.storage.local import LocalStorage

BLOBS = [make("noise", 2000 + number, number) for number in range(123)]
IDS = [blob_id(data).hex() for data in BLOBS]
PACK_SIZE = 20_000


def save_all(saver: Saver, threads: int) -> None:
    """Every blob is offered by every thread, all beginning at the same moment."""
    start = threading.Barrier(threads)

    def work(number: int) -> None:
        start.wait()
        for step in range(len(BLOBS)):
            data = BLOBS[(step + 7 * number) % len(BLOBS)]
            if saver.claim(blob_id(data).hex()):
                saver.save(encode(data))

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, number) for number in range(threads)]:
            future.result()


@pytest.mark.parametrize("streams", [1, 4])
def test_every_blob_is_stored_once_however_many_threads_offer_it(tmp_path: Path, streams: int) -> None:
    repository = new_repository(tmp_path / "repository")
    with Saver(repository.storage, repository.index, PACK_SIZE, streams) as saver:
        save_all(saver, threads=8)
        packs = saver.finish()
    stored = Counter(blob.id for pack in packs for blob in pack.blobs)
    assert stored == Counter(IDS)
    assert len(packs) > 5
    assert saver.bytes_stored == sum(pack.size for pack in packs)
    fresh = reopened(repository)
    assert [fresh.load_blob(each) for each in IDS] == BLOBS
    assert temporaries(tmp_path) == []


def test_what_is_in_the_index_is_not_stored_again(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    for expected in (len(BLOBS), 0):
        fresh = reopened(repository)
        with fresh.saver(2) as saver:
            save_all(saver, threads=4)
            packs = saver.finish()
        assert sum(len(pack.blobs) for pack in packs) == expected


@pytest.mark.parametrize("verb", ["writer", "write", "commit"])
@pytest.mark.parametrize("which", [0, 3, -1])
def test_a_failing_disk_ends_the_run_and_leaves_no_temporary_file(
    tmp_path: Path, verb: str, which: int
) -> None:
    repository = new_repository(tmp_path / "repository")
    probe = FaultyStorage(LocalStorage(tmp_path / "probe"))
    with Saver(probe, new_repository(tmp_path / "other").index, PACK_SIZE, 2) as saver:
        save_all(saver, threads=1)
        saver.finish()
    operations = [operation.number for operation in probe.operations if operation.verb == verb]
    storage = FaultyStorage(
        repository.storage, Plan(errors={operations[which]: NoSpace("The disk is full.")})
    )
    with pytest.raises(NoSpace), Saver(storage, repository.index, PACK_SIZE, 2) as saver:
        save_all(saver, threads=4)
        saver.finish()
    assert temporaries(tmp_path) == []
    fresh = reopened(repository)
    kept = [each for each in IDS if each in fresh.index]
    assert [fresh.load_blob(each) for each in kept] == [BLOBS[IDS.index(each)] for each in kept]
    assert fresh.unreadable_packs == {}


def test_the_next_run_uses_the_packs_that_a_failed_one_finished(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    with pytest.raises(ZeroDivisionError), Saver(repository.storage, repository.index, PACK_SIZE, 1) as saver:
        save_all(saver, threads=1)
        raise ZeroDivisionError
    finished = sorted((tmp_path / "repository" / "packs").iterdir())
    assert finished
    assert temporaries(tmp_path) == []
    fresh = reopened(repository)
    with fresh.saver(1) as saver:
        assert sum(saver.claim(each) for each in IDS) == len(IDS) - len(fresh.index) > 0
        for each in IDS:
            if each not in fresh.index:
                saver.save(encode(BLOBS[IDS.index(each)]))
        fresh.write_index([*fresh.unindexed_packs, *saver.finish()])
    everything = Counter(each for each in reopened(repository).index)
    assert everything == Counter(IDS)


def test_a_claimed_blob_that_was_never_saved_is_a_bug_that_is_told(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    with pytest.raises(IntegrityError, match="bug"), repository.saver(1) as saver:
        saver.claim(IDS[0])
        saver.finish()


def test_nothing_to_save_writes_no_pack(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    with repository.saver(3) as saver:
        assert saver.finish() == []
    assert not list((tmp_path / "repository").rglob("packs/*"))


@pytest.mark.parametrize("order", [["weights", "text"], ["text", "weights"], ["both"]])
@pytest.mark.parametrize(
    "name", ["a.json", "z.json"]
)  # before and behind the weights in the order of reading
def test_a_file_that_holds_the_text_of_another_files_piece_list_is_restored(
    tmp_path: Path, order: list[str], name: str
) -> None:
    """Blobs are looked up by kind as well: equal bytes in two roles do not hide each other."""
    weights = make("noise", 10_000, 1)
    pieces = [weights[start : start + 4096] for start in range(0, len(weights), 4096)]
    record = PieceList(size=len(weights), pieces=[(len(piece), blob_id(piece).hex()) for piece in pieces])
    files = {"weights": ("weights.bin", weights), "text": (name, msgspec.json.encode(record))}
    Repository.create(LocalStorage(tmp_path / "repository"), cutting=SMALL_PIECES)
    cache = tmp_path / "cache" / "models--a--b" / "snapshots" / "main"
    for step in order:
        for role in files if step == "both" else [step]:
            write(cache, dict([files[role]]))
        back_up(tmp_path / "repository", tmp_path / "cache")
    kinds = [
        location.kind
        for location in reopened(Repository.open(LocalStorage(tmp_path / "repository"))).index.locations(
            blob_id(files["text"][1]).hex()
        )
    ]
    assert sorted(kinds) == [FrameKind.DATA, FrameKind.PIECES]
    bring_back(tmp_path / "repository", tmp_path / "back")
    assert picture(tmp_path / "back") == picture(tmp_path / "cache")


def test_an_error_of_the_storage_is_the_one_that_is_raised(tmp_path: Path) -> None:
    """Not a later one of the threads that it stopped."""
    repository = new_repository(tmp_path / "repository")
    storage = FaultyStorage(repository.storage, Plan(errors={5: ZitcacheError("the first")}))
    with pytest.raises(ZitcacheError, match="the first"), Saver(storage, repository.index, 100, 1) as saver:
        save_all(saver, threads=4)
        saver.finish()
