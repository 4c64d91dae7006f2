"""What commands ask of a repository that is far away: few requests, large ones, many at once.

The repository is a local one behind a storage that counts, and says that it is remote.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.backup.world import (
    KIB,
    MIB,
    back_up,
    bring_back,
    make_model,
    make_repository,
    noise,
    require_same,
    settle,
    weights,
)
from tests.repository.builders import use_storage
from tests.storage.latency import DistantStorage
from zitcache.errors import Exit
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Buffer
from zitcache.tasks.check import CheckReport, CheckRequest, check
from zitcache.tasks.restore.order import in_loading_order

SIZE = 6 * 2 * MIB


@pytest.fixture(autouse=True)
def metadata_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "metadata-cache"
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(place))
    return place


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    made = make_model(
        tmp_path / "cache",
        {
            "model.safetensors": weights({f"layer{number}": 2 * MIB for number in range(6)}),
            "tokenizer.json": noise(30 * KIB, "tokenizer"),
        },
    )
    return settle(made)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DistantStorage:
    """An empty repository with pieces of 256 KiB and packs of 2 MiB, behind the counting storage."""
    place = make_repository(tmp_path / "repository", piece_size=256 * KIB, pack_size=2 * MIB)
    storage = DistantStorage(LocalStorage(place))
    import zitcache.tasks.restore
    import zitcache.tasks.verify  # noqa: F401  (so that all of them get the storage)

    use_storage(monkeypatch, storage)
    return storage


def checked(**options: object) -> CheckReport:
    outcome = check(CheckRequest(repository="far", **options), Session())  # type: ignore[arg-type]
    assert outcome.exit_code is Exit.OK, outcome.data.damaged
    return outcome.data


def test_a_nightly_backup_of_an_unchanged_cache_fetches_no_object_twice(
    far: DistantStorage, cache: Path
) -> None:
    back_up(far.location, cache)  # type: ignore[arg-type]
    back_up(far.location, cache)  # type: ignore[arg-type]
    far.reset()
    assert back_up(far.location, cache).data.bytes_read == 0  # type: ignore[arg-type]
    assert far.calls["load packs"] == far.calls["load index"] == far.calls["load snapshots"] == 0
    assert far.calls["commit packs"] <= 1
    assert sum(far.calls.values()) <= 30, far.calls


def test_a_check_of_an_unchanged_repository_reads_nothing_again(far: DistantStorage, cache: Path) -> None:
    back_up(far.location, cache)  # type: ignore[arg-type]
    checked()
    far.reset()
    report = checked()
    assert report.blobs > 40 and report.packs >= 6
    assert {call for call in far.calls if not call.startswith("list")} == {"load config"}, far.calls
    assert far.bytes_read < KIB


def test_a_first_check_reads_only_the_ends_of_packs(
    far: DistantStorage, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    back_up(far.location, cache)  # type: ignore[arg-type]
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "another-machine"))
    far.reset()
    packs = checked().packs
    assert far.calls["load packs"] <= packs + 3, "one request a pack, and those for trees and piece lists"
    assert far.bytes_read < SIZE / 8
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", "off")
    far.reset()
    checked()
    assert far.calls["load packs"] <= packs + 3, "without a cache as well"
    assert far.calls["load index"] == far.calls["load snapshots"] == 1


def test_reading_all_data_takes_large_requests(far: DistantStorage, cache: Path) -> None:
    back_up(far.location, cache)  # type: ignore[arg-type]
    checked()
    far.reset()
    report = checked(read_data=True)
    assert report.blobs_checked == report.blobs
    assert report.packs_checked == report.packs
    # SHA-256 digests that the backup left out, if it did, are another read of each piece.
    per_piece = report.blobs if report.sha256_filled_in else 0
    assert far.calls["load packs"] <= report.packs + per_piece
    assert far.largest_read > MIB


def test_a_restore_reads_large_ranges_many_at_once(
    far: DistantStorage, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(far.location, cache)  # type: ignore[arg-type]
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", "off")
    far.reset()
    far.seconds = 0.05
    report = bring_back(far.location, tmp_path / "restored").data  # type: ignore[arg-type]
    require_same(cache, tmp_path / "restored")
    assert far.calls["load packs"] <= 20, "of some fifty pieces"
    assert far.largest_read > MIB
    assert far.most_at_once >= 4
    assert report.seconds_to_first_byte is not None and report.seconds_to_first_byte < report.seconds
    assert report.bytes_from_repository >= SIZE


def test_a_restore_that_was_cut_off_fetches_only_the_rest(
    far: DistantStorage, cache: Path, tmp_path: Path
) -> None:
    back_up(far.location, cache)  # type: ignore[arg-type]
    target = tmp_path / "restored"
    staged = tmp_path / ".zitcache-restore-restored" / "tree"
    staged.mkdir(parents=True)
    half = (cache / "model.safetensors").read_bytes()[: SIZE // 2]
    (staged / "model.safetensors").write_bytes(half + bytes(SIZE))
    report = bring_back(far.location, target).data  # type: ignore[arg-type]
    require_same(cache, target)
    assert report.bytes_from_repository < SIZE * 0.6
    # And from a damaged live file only what is wrong in it.
    file = target / "model.safetensors"
    with file.open("r+b") as opened:
        opened.seek(SIZE // 3)
        opened.write(b"damage")
    far.reset()
    report = bring_back(far.location, target).data  # type: ignore[arg-type]
    require_same(cache, target)
    assert report.bytes_from_repository < MIB


class _SlowIndex(DistantStorage):
    """One index object comes only when the test lets it."""

    def __init__(self, inner: LocalStorage) -> None:
        super().__init__(inner)
        self.slow = ""
        self.released = threading.Event()
        self.asked = threading.Event()

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        if name == self.slow:
            self.asked.set()
            assert self.released.wait(20)
        return super().load(name, offset, length)


def test_the_first_bytes_are_there_before_the_last_index_object(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_repository(tmp_path / "repository", piece_size=256 * KIB, pack_size=2 * MIB)
    back_up(place, cache)
    known = {path.name for path in (place / "index").iterdir()}
    other = make_model(tmp_path / "other", {"other.bin": noise(300 * KIB, "other")})
    back_up(place, other)
    (late,) = {path.name for path in (place / "index").iterdir()} - known
    storage = _SlowIndex(LocalStorage(place))
    storage.slow = f"index/{late}"
    use_storage(monkeypatch, storage)
    restored = tmp_path / "restored"
    staged = tmp_path / ".zitcache-restore-restored" / "tree" / "tokenizer.json"
    work = threading.Thread(
        target=lambda: bring_back(storage.location, restored, cache=str(cache))  # type: ignore[arg-type]
    )
    work.start()
    try:
        assert storage.asked.wait(10)
        end = time.monotonic() + 10
        while time.monotonic() < end and not (staged.exists() and staged.stat().st_size):
            time.sleep(0.01)
        assert staged.stat().st_size == 30 * KIB
        assert not storage.released.is_set()
    finally:
        storage.released.set()
        work.join(20)
    require_same(cache, restored)


class _Flipping(DistantStorage):
    """Turns a bit over in the middle of what is read first of every object."""

    def __init__(self, inner: LocalStorage) -> None:
        super().__init__(inner)
        self.seen = {"config"}

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        data = bytearray(super().load(name, offset, length))
        if self._is_first(name) and data:
            data[len(data) // 2] ^= 4
        return bytes(data)

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        super().load_into(name, offset, buffer)
        if self._is_first(name):
            buffer[len(buffer) // 2] ^= 4

    def _is_first(self, name: str) -> bool:
        with self._lock:
            first = name not in self.seen
            self.seen.add(name)
        return first


def test_bytes_that_come_wrong_are_asked_for_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_repository(tmp_path / "repository", piece_size=256 * KIB, pack_size=2 * MIB)
    back_up(place, cache)
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", "off")
    storage = _Flipping(LocalStorage(place))
    use_storage(monkeypatch, storage)
    outcome = bring_back(storage.location, tmp_path / "restored")  # type: ignore[arg-type]
    assert outcome.exit_code is Exit.OK, outcome.data.failed
    require_same(cache, tmp_path / "restored")
    assert len(storage.seen) > 8
    storage.seen = {"config"}
    report = checked(read_data=True)
    assert report.packs_checked == report.packs


def test_a_piece_that_is_wrong_in_the_repository_fails_its_file_alone(
    far: DistantStorage, cache: Path, tmp_path: Path
) -> None:
    back_up(far.location, cache)  # type: ignore[arg-type]
    repository = Repository.open(LocalStorage(far.location))
    from tests.backup.world import entries_in

    entry = entries_in(Path(far.location))["model.safetensors"]
    _, blob = repository.piece_list(entry)[3]
    location = repository.index.locations(blob)[0]
    pack = Path(far.location) / "packs" / location.pack
    with pack.open("r+b") as opened:
        opened.seek(location.offset + location.length // 2)
        byte = opened.read(1)[0]
        opened.seek(-1, 1)
        opened.write(bytes([byte ^ 1]))
    outcome = bring_back(far.location, tmp_path / "restored")  # type: ignore[arg-type]
    assert outcome.exit_code is Exit.DAMAGE
    assert outcome.data.failed == ["model.safetensors"]
    assert (tmp_path / "restored" / "tokenizer.json").read_bytes() == noise(30 * KIB, "tokenizer")


def test_several_packs_are_sent_at_once_and_no_more(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(DistantStorage):
        sending = most = 0

        def store_pack(self, change: int) -> None:
            with self._lock:
                self.sending += change
                self.most = max(self.most, self.sending)

        def writer(self):  # type: ignore[no-untyped-def]
            storage, inner = self, super().writer()

            class Writer:
                def write(self, data: Buffer) -> None:
                    inner.write(data)

                def commit(self, name: str) -> None:
                    storage.store_pack(1)
                    time.sleep(0.3)
                    inner.commit(name)
                    storage.store_pack(-1)

                def __enter__(self) -> Writer:
                    return self

                def __exit__(self, *error: object) -> None:
                    inner.__exit__(*error)

            return Writer()

    place = make_repository(tmp_path / "repository", piece_size=256 * KIB, pack_size=MIB)
    storage = Counting(LocalStorage(place), concurrency=5)
    use_storage(monkeypatch, storage)
    back_up(storage.location, cache)  # type: ignore[arg-type]
    assert 3 <= storage.most <= 5
    require_same_backup(place, cache, tmp_path)


def require_same_backup(place: Path, cache: Path, tmp_path: Path) -> None:
    repository = Repository.open(LocalStorage(place))
    assert len(repository.snapshot_ids()) == 1
    assert not repository.unreadable_packs


# -- in which order files come ------------------------------------------------------------------------


def test_files_come_in_the_order_in_which_a_pipeline_loads_them(tmp_path: Path) -> None:
    from tests.backup.world import entries_in, make_sample, snapshots_in
    from zitcache.tasks.sample import SampleLayout

    for layout in (SampleLayout.MODELSCOPE, SampleLayout.HUGGINGFACE):
        cache = make_sample(tmp_path / layout.value, layout)
        place = make_repository(tmp_path / f"repository-{layout.value}")
        back_up(place, cache)
        entries = list(entries_in(place).values())
        files = [entry for entry in entries if entry.kind == "file"]
        models = snapshots_in(place)[-1].record.models
        ordered = in_loading_order(files, entries, models)
        assert sorted(entry.path for entry in ordered) == sorted(entry.path for entry in files)
        names = [_name_of(cache, entry.path) for entry in ordered]
        assert names[0].endswith("model_index.json")
        assert [name for name in names if name.endswith(".safetensors")] == sorted(
            name for name in names if name.endswith(".safetensors")
        )
        first_weight = next(number for number, name in enumerate(names) if name.endswith(".safetensors"))
        last_small = max(number for number, name in enumerate(names) if name.endswith(".json"))
        assert last_small < first_weight


def _name_of(cache: Path, path: str) -> str:
    """The name under which a model knows a file: in a Hugging Face cache, that of the link to it."""
    for link in cache.rglob("*"):
        if link.is_symlink() and link.resolve() == (cache / path).resolve():
            return str(link.relative_to(cache)).partition("/snapshots/")[2].partition("/")[2]
    return path.rpartition("/snapshots/master/")[2] or path
