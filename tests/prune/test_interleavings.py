"""No order of operations of writers and sweepers leaves a listed snapshot without one of its blobs.

The actors are the real commit, sweep, prune, forget and undelete; ``explorer`` says what "every order" means.
The lock is left out wherever it could hide something: nothing may rest on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.prune import scene
from tests.prune.explorer import Run, explore, switches
from tests.prune.memory import MemoryStorage
from tests.prune.scene import back_up, new_storage, packs_with, require_whole, sweep_packs
from zitcache.codec.blob import blob_id
from zitcache.errors import BlobDamaged, Locked, SnapshotNotFound
from zitcache.events import Session
from zitcache.repository import committing
from zitcache.repository.repository import Repository
from zitcache.storage.protocol import Storage
from zitcache.tasks import deleting
from zitcache.tasks.deleting import move_to_forgotten
from zitcache.tasks.prune import PruneRequest, knowledge, prune, sweeping
from zitcache.tasks.undelete import UndeleteRequest, undelete

OLD, SHARED, NEW = b"old" * 100, b"shared" * 100, b"new" * 100
FIRST, SECOND = "2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"


@pytest.fixture(autouse=True)
def storages_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks get a storage in the place of a repository's name, and nobody waits for a clock."""
    monkeypatch.setattr(deleting, "open_repository", lambda storage, session: Repository.open(storage))
    monkeypatch.setattr("zitcache.repository.locks.time.sleep", lambda seconds: None)
    monkeypatch.setattr("zitcache.tasks.undelete.time.sleep", lambda seconds: None)
    monkeypatch.setattr("zitcache.tasks.undelete._PATIENCE_SECONDS", 0.0)


def orphaned() -> tuple[MemoryStorage, set[str]]:
    """Packs that no snapshot needs any more, marked long ago: a sweep may begin at any moment."""
    base = new_storage()
    snapshot = back_up(base, {"a": SHARED, "b": OLD}, FIRST)
    base.delete(f"snapshots/{snapshot}")
    return base, packs_with(base, SHARED)


def writer(*contents: bytes) -> Callable[[Storage], object]:
    return lambda storage: back_up(storage, {str(n): each for n, each in enumerate(contents)}, SECOND)


def packs_left(run: Run) -> set[str]:
    return {name.rpartition("/")[2] for name in run.storage.names("packs")}


def require_no_notes_left(run: Run) -> None:
    assert run.storage.names("sweeps") == [] and run.storage.names("claims") == []


def test_a_backup_that_uses_what_a_sweep_deletes() -> None:
    base, packs = orphaned()
    ends: Counter[bool] = Counter()
    for run in explore(base, [writer(SHARED, NEW), lambda storage: sweep_packs(storage, packs)]):
        assert run.errors == [None, None]
        assert len(require_whole(run.storage)) == 1
        require_no_notes_left(run)
        ends[packs <= packs_left(run)] += 1
    assert min(ends[True], ends[False]) > 0, "sometimes the pack is kept, sometimes it is stored anew"


@pytest.mark.slow
def test_two_backups_and_a_sweep() -> None:
    base, packs = orphaned()
    for number, run in enumerate(
        switches(base, [writer(SHARED), lambda s: sweep_packs(s, packs), writer(SHARED, OLD)], 3, stride=2)
    ):
        assert run.errors == [None, None, None]
        assert len(require_whole(run.storage)) == 2, number


def test_a_backup_and_two_sweepers_without_a_lock() -> None:
    """Either believes that the other copy stays: each must see what the other is about to delete."""
    base = new_storage()
    back_up(base, {"a": SHARED}, FIRST)
    twin = base.copy()
    other = new_storage()
    back_up(other, {"a": SHARED}, FIRST)
    for name in other.names("packs"):
        twin.objects[name] = other.objects[name]
    one, two = sorted(packs_with(twin, SHARED))
    ends: Counter[int] = Counter()
    for run in explore(twin, [lambda s: sweep_packs(s, {one}), lambda s: sweep_packs(s, {two})]):
        assert run.errors == [None, None]
        assert len(require_whole(run.storage)) == 1
        ends[len(packs_left(run))] += 1
    assert ends[1] > 0 and ends[2] > 0 and not ends[0]


def test_undelete_against_a_sweep_that_counts_it_as_gone() -> None:
    base = new_storage()
    snapshot = back_up(base, {"a": SHARED}, FIRST)
    back_up(base, {"b": NEW}, SECOND)
    packs = packs_with(base, SHARED)
    move_to_forgotten(Repository.open(base), snapshot)
    ends: Counter[bool] = Counter()

    def bring_back(storage: Storage) -> None:
        undelete(UndeleteRequest(repository=storage, ids=(snapshot,)), Session())  # type: ignore[arg-type]

    for run in explore(base, [bring_back, lambda storage: sweep_packs(storage, packs)]):
        failed, sweeper = run.errors
        assert sweeper is None
        assert failed is None or isinstance(failed, SnapshotNotFound), failed
        is_back = snapshot in require_whole(run.storage)
        assert is_back == (failed is None), "what it says is what is"
        ends[is_back] += 1
    assert min(ends[True], ends[False]) > 0


def test_forgetting_while_a_sweep_looks() -> None:
    """A snapshot that moves aside while the sweeper reads is seen in one place or the other, and is held."""
    base = new_storage()
    snapshot = back_up(base, {"a": SHARED}, FIRST)
    back_up(base, {"b": NEW}, SECOND)
    packs = packs_with(base, SHARED)

    def sweeper(storage: Storage) -> None:
        repository = Repository.open(storage)
        clock = knowledge.Clock(*[__import__("time").time()] * 2)
        sweeping.sweep(repository, packs, clock, 3600, scene.NoLock(), Session())  # type: ignore[arg-type]

    for run in explore(base, [lambda s: move_to_forgotten(Repository.open(s), snapshot), sweeper]):
        assert run.errors == [None, None]
        assert packs <= packs_left(run)
        undelete(UndeleteRequest(repository=run.storage, ids=(snapshot,)), Session())  # type: ignore[arg-type]
        assert snapshot in require_whole(run.storage)


def pruner(**options: object) -> Callable[[Storage], object]:
    def run(storage: Storage) -> None:
        request = PruneRequest(repository=storage, grace_seconds=0, max_unused=0, **options)  # type: ignore[arg-type]
        prune(request, Session())

    return run


def half_used() -> MemoryStorage:
    """One snapshot is forgotten and over; its pack is half used by the other, so that it is repacked."""
    base = new_storage()
    first = back_up(base, {"a": SHARED, "b": OLD}, FIRST)
    back_up(base, {"a": SHARED, "c": NEW}, SECOND)
    move_to_forgotten(Repository.open(base), first)
    return base


@pytest.mark.slow
def test_a_backup_against_a_whole_prune_that_repacks() -> None:
    base = half_used()
    freed = 0
    for run in switches(base, [writer(SHARED, OLD), pruner()], 2):
        assert run.errors == [None, None]
        assert len(require_whole(run.storage)) == 2
        require_no_notes_left(run)
        freed += not packs_with(base, OLD) <= packs_left(run)
    assert freed > 10


@pytest.mark.slow
def test_a_backup_against_a_whole_prune_with_three_changes() -> None:
    for run in switches(half_used(), [writer(SHARED, OLD), pruner()], 3, stride=3):
        assert run.errors == [None, None]
        assert len(require_whole(run.storage)) == 2


def test_a_reader_that_lists_while_a_prune_repacks() -> None:
    """A restore that has begun finds every blob, at whatever moment the packs and the index are replaced."""
    base = half_used()
    read: list[int] = []

    def reader(storage: Storage) -> None:
        repository = Repository.open(storage)
        for snapshot_id in repository.snapshot_ids():
            for item in repository.tree(repository.load_snapshot(snapshot_id)):
                for _, blob in repository.piece_list(item):
                    read.append(len(repository.load_blob(blob)))

    for run in switches(base, [reader, pruner()], 2):
        assert run.errors == [None, None]
    assert read


def test_two_prunes_and_a_backup() -> None:
    base = half_used()
    locked = 0
    for run in switches(base, [pruner(), writer(SHARED, OLD), pruner()], 3, stride=9):
        assert run.errors[1] is None
        assert all(error is None or isinstance(error, Locked) for error in run.errors), run.errors
        locked += any(run.errors)
        assert len(require_whole(run.storage)) == 2
    assert locked > 0


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "stride"), [(2, 2), (3, 7)])
def test_two_prunes_whose_locks_do_not_hold(
    monkeypatch: pytest.MonkeyPatch, changes: int, stride: int
) -> None:
    """One slept for so long that its lock was taken away, and goes on where it was."""
    monkeypatch.setattr("zitcache.repository.locks.PruneLock._other_holder", lambda self: None)
    for run in switches(half_used(), [pruner(), pruner()], changes, stride=stride):
        assert run.errors == [None, None]
        assert len(require_whole(run.storage)) == 1


def test_what_a_killed_sweep_left_is_finished_without_loss() -> None:
    """The sweep published and died. A backup then needs such a pack again, and the next prune comes."""
    base, packs = orphaned()
    back_up(base, {"x": NEW}, FIRST)
    sweep_packs(base.copy(), packs)
    for run in explore(base, [lambda storage: _publish_only(storage, packs), writer(SHARED)]):
        assert run.errors == [None, None]
        for after in switches(run.storage, [pruner(), writer(SHARED, OLD)], 1, stride=4):
            assert after.errors == [None, None]
            assert len(require_whole(after.storage)) == 3
            pruner()(after.storage)
            assert len(require_whole(after.storage)) == 3
            require_no_notes_left(after)


def _publish_only(storage: Storage, packs: set[str]) -> None:
    from zitcache.repository.marks import SWEEP_FOLDER, SweepRecord, nonce

    record = SweepRecord(time=0, host="box", nonce=nonce(), packs=sorted(packs))
    Repository.open(storage).store_record(SWEEP_FOLDER, record)


# -- the explorer itself, and what it finds when one half of the argument is taken away -----------------


def finds_a_loss(base: MemoryStorage, packs: set[str]) -> bool:
    for run in explore(base, [writer(SHARED), lambda storage: sweep_packs(storage, packs)]):
        if run.errors == [None, None] and lost_something(run):
            return True
    return False


def lost_something(run: Run) -> bool:
    try:
        require_whole(run.storage)
    except BlobDamaged:
        return True
    return False


def test_a_writer_that_does_not_claim_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    base, packs = orphaned()
    assert not finds_a_loss(base, packs)
    monkeypatch.setattr(committing, "_claim", lambda repository, snapshot_id, chosen: "claims/none")
    assert finds_a_loss(base, packs)


def test_a_writer_that_does_not_look_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    base, packs = orphaned()
    monkeypatch.setattr(committing, "_going_or_gone", lambda repository, chosen: set())
    assert finds_a_loss(base, packs)


def test_a_writer_that_looks_at_packs_before_sweeps_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_order(repository: Repository, chosen: dict[str, int]) -> set[str]:
        present = repository.pack_sizes()
        condemned = committing.condemned_packs(repository)
        return {pack for pack, size in chosen.items() if pack in condemned or present.get(pack) != size}

    base, packs = orphaned()
    monkeypatch.setattr(committing, "_going_or_gone", wrong_order)
    assert finds_a_loss(base, packs)


def test_a_sweeper_that_reads_claims_after_snapshots_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    right = knowledge._read_notes

    def wrong_order(repository: Repository, clock: knowledge.Clock, grace: float) -> knowledge.Knowledge:
        found = right(repository, clock, grace)
        found.claims = knowledge.load_notes(repository, "claims", knowledge.ClaimRecord)
        return found

    base, packs = orphaned()
    monkeypatch.setattr(knowledge, "_read_notes", wrong_order)
    assert finds_a_loss(base, packs)


def test_a_sweeper_that_publishes_too_late_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    right = sweeping.gather
    early: dict[int, knowledge.Knowledge] = {}

    def stale(repository: Repository, *rest: object) -> knowledge.Knowledge:
        return early[id(repository)]

    def sweeper(storage: Storage) -> None:
        repository = Repository.open(storage)
        clock = knowledge.Clock(2e9, 1.0)
        early[id(repository)] = right(repository, clock, 0, Session())
        sweeping.sweep(repository, packs, clock, 0, scene.NoLock(), Session())  # type: ignore[arg-type]

    base, packs = orphaned()
    monkeypatch.setattr(sweeping, "gather", stale)
    assert any(lost_something(run) for run in explore(base, [writer(SHARED), sweeper]))


def test_the_explorer_runs_every_class_of_orders_once() -> None:
    """Two writers of one object each, and one that lists: 3 operations that touch each other, 3! orders."""
    base = MemoryStorage()
    actors = [
        lambda s: s.store("a/1", b"1"),
        lambda s: s.delete("a/1"),
        lambda s: list(s.list("a")),
        lambda s: s.store("b/1", b"1"),
    ]
    seen = Counter(tuple(number for number, _ in run.steps if number != 3) for run in explore(base, actors))
    assert len(seen) == 6 and set(seen.values()) == {1}


def test_content_ids_are_what_the_scene_says() -> None:
    base, packs = orphaned()
    assert packs and blob_id(SHARED).hex() in Repository.open(base).index
