"""Many machines and one bucket: two that back up, one that prunes, one that restores, all at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backup.world import KIB, back_up, bring_back, make_model, noise, require_same
from tests.copy.world import opened
from zitcache.errors import Exit, Locked, ZitcacheError
from zitcache.events import Session
from zitcache.repository.selection import list_snapshots
from zitcache.tasks.check import CheckRequest, check
from zitcache.tasks.forget import ForgetRequest, forget
from zitcache.tasks.prune import PruneRequest, prune

SECONDS = 12.0


@pytest.mark.slow
def test_two_writers_one_pruner_and_one_restorer_at_once(
    s3_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "metadata-cache"))
    caches = [make_model(tmp_path / f"cache{number}", {"a.bin": noise(300 * KIB)}) for number in (0, 1)]
    back_up(s3_location, caches[0])  # type: ignore[arg-type]
    back_up(s3_location, caches[1])  # type: ignore[arg-type]
    steady = make_model(tmp_path / "steady", {"steady.bin": noise(900 * KIB, "steady")})
    kept = back_up(s3_location, steady, tags=("keep",)).data.snapshot_id  # type: ignore[arg-type]
    assert kept is not None
    end = time.monotonic() + SECONDS
    failures: list[BaseException] = []
    counts = {"backup": 0, "prune": 0, "deleted": 0, "restore": 0}

    def write(number: int) -> None:
        """Every night another file, and the one of the night before is gone."""
        night = counts["backup"]
        name = caches[number] / "changing.bin"
        name.write_bytes(noise(200 * KIB, f"{number}-{night % 3}"))
        outcome = back_up(s3_location, caches[number])  # type: ignore[arg-type]
        assert outcome.exit_code is Exit.OK, outcome.warnings
        counts["backup"] += 1

    def sweep() -> None:
        try:
            repository = opened(s3_location)
            found, _ = list_snapshots(repository)
            for number in (0, 1):
                own = [each for each in found if each.record.cache == str(caches[number])]
                for old in own[:-1]:
                    forget(ForgetRequest(repository=s3_location, ids=(old.id,)), Session())
            report = prune(
                PruneRequest(repository=s3_location, grace_seconds=0, max_unused=0.0), Session()
            ).data
        except Locked:
            return
        counts["prune"] += 1
        counts["deleted"] += report.packs_deleted

    def restore() -> None:
        target = tmp_path / f"restored{counts['restore']}"
        outcome = bring_back(s3_location, target, snapshot=kept)  # type: ignore[arg-type]
        assert outcome.exit_code is Exit.OK, outcome.data.failed
        require_same(steady, target)
        counts["restore"] += 1

    def repeatedly(work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < end and not failures:
                work()
        except BaseException as error:
            failures.append(error)

    bodies: list[Callable[[], None]] = [lambda: write(0), lambda: write(1), sweep, restore]
    threads = [threading.Thread(target=repeatedly, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not failures, failures
    assert min(counts["backup"], counts["prune"], counts["restore"]) >= 2, counts
    assert counts["deleted"] > 0, "the pruner had something to do"

    checked = check(CheckRequest(repository=s3_location, read_data=True), Session())
    assert checked.exit_code is Exit.OK, checked.data.damaged
    found, unreadable = list_snapshots(opened(s3_location))
    assert not unreadable
    for number, snapshot in enumerate(found):
        target = tmp_path / f"final{number}"
        outcome = bring_back(s3_location, target, snapshot=snapshot.id)  # type: ignore[arg-type]
        assert outcome.exit_code is Exit.OK
    for number, cache in enumerate((*caches, steady)):
        newest = [each for each in found if each.record.cache == str(cache)][-1]
        target = tmp_path / f"newest{number}"
        bring_back(s3_location, target, snapshot=newest.id)  # type: ignore[arg-type]
        require_same(cache, target)


def test_a_copy_into_a_bucket_that_is_pruned_meanwhile(
    s3_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that the copy counts on goes away under it, or it is copied anew."""
    from tests.copy.world import ids, make_source, run_copy

    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "metadata-cache"))
    cache, source = make_source(tmp_path, nights=3)
    run_copy(source, s3_location, "latest")
    stop = threading.Event()
    failures: list[BaseException] = []

    def sweep_once() -> None:
        with contextlib.suppress(Locked):
            prune(PruneRequest(repository=s3_location, grace_seconds=0, max_unused=0.0), Session())

    def sweep() -> None:
        try:
            while not stop.is_set():
                sweep_once()
        except ZitcacheError as error:
            failures.append(error)

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        outcome = run_copy(source, s3_location)
    finally:
        stop.set()
        thread.join(60)
    assert not failures
    assert outcome.exit_code is Exit.OK
    assert ids(s3_location) == ids(source)
    bring_back(s3_location, tmp_path / "restored")  # type: ignore[arg-type]
    require_same(cache, tmp_path / "restored")
    assert check(CheckRequest(repository=s3_location, read_data=True), Session()).exit_code is Exit.OK
