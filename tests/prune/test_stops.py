"""Forget, prune, undelete and repair, stopped or failing at every single storage operation.

What must hold each time: every listed snapshot is whole; every held one comes back; the same command, run
again, finishes, and nothing of the interrupted run is left over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pytest

from tests.prune.memory import MemoryStorage
from tests.prune.scene import back_up, new_storage, require_whole
from tests.storage.faults import FaultyStorage, Killed, Plan, count_operations
from zitcache.errors import CredentialsError, NoSpace, Unreachable, ZitcacheError
from zitcache.events import Session
from zitcache.repository.checks import record_verified
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots
from zitcache.storage.protocol import Storage
from zitcache.tasks import deleting
from zitcache.tasks.deleting import move_to_forgotten
from zitcache.tasks.prune import PruneRequest, prune
from zitcache.tasks.repair import RepairRequest, repair
from zitcache.tasks.undelete import UndeleteRequest, undelete

DAY = 86400
Command = Callable[[Storage], object]


@pytest.fixture(autouse=True)
def storages_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "open_repository", lambda storage, session: Repository.open(storage))
    monkeypatch.setattr("zitcache.tasks.repair.config.chosen_location", lambda flag, session: flag)
    monkeypatch.setattr("zitcache.tasks.repair.config.open_storage", lambda location: location)
    monkeypatch.setattr("zitcache.repository.locks.time.sleep", lambda seconds: None)
    monkeypatch.setattr("zitcache.tasks.undelete.time.sleep", lambda seconds: None)


def content(name: str) -> bytes:
    return f"content of {name}, ".encode() * 40


class Scene:
    """Eighteen nights. Three snapshots were forgotten long ago, one just now; one backup is unfinished."""

    def __init__(self) -> None:
        base = new_storage()
        ids = [self._night(base, night) for night in range(6)]
        orphan = Repository.open(base)
        with orphan.saver(1) as saver:
            from zitcache.codec.blob import blob_id, encode

            assert saver.claim(blob_id(content("orphan")).hex())
            saver.save(encode(content("orphan")))
            saver.finish()
        for number in (1, 2, 4):
            move_to_forgotten(Repository.open(base), ids[number])
        prune_all(base)
        assert len(base.names("marks")) == 1 and not base.names("sweeps")
        base.age(3 * DAY)
        _age_records(base, 3 * DAY)
        ids += [self._night(base, night) for night in range(6, 18)]
        move_to_forgotten(Repository.open(base), ids[9])
        self.base = base
        self.held = ids[9]
        self.listed = {each for number, each in enumerate(ids) if number not in (1, 2, 4, 9)}

    def _night(self, base: MemoryStorage, night: int) -> str:
        files = {"common": content("common"), f"only-{night}": content(f"only {night}")}
        if night % 2:
            files |= {f"pair-{night // 2}": content(f"pair {night // 2}")}
        snapshot = back_up(base, files, f"2026-01-{night + 1:02d}T02:00:00.000000Z")
        repository = Repository.open(base)
        record_verified(repository, list(repository.index.packs)[:1], 1_700_000_000 + night)
        return snapshot

    def require_sound(self, storage: MemoryStorage, *, is_back: bool | None = None) -> None:
        found = set(require_whole(storage))
        assert found - {self.held} == self.listed
        if is_back is not None:
            assert (self.held in found) == is_back


def _age_records(storage: MemoryStorage, seconds: float) -> None:
    """The notes' own times, too; their names change with them."""
    from zitcache.repository.marks import FORGOTTEN_FOLDER, MARK_FOLDER, ForgottenRecord, MarkRecord

    repository = Repository.open(storage)
    for folder, kind in ((MARK_FOLDER, MarkRecord), (FORGOTTEN_FOLDER, ForgottenRecord)):
        for name, record in repository.load_records_by_id(folder, kind):
            _, when = storage.objects[f"{folder}/{name}"]
            storage.delete(f"{folder}/{name}")
            new = repository.store_record(
                folder, msgspec.structs.replace(record, time=int(record.time - seconds))
            )
            data, _ = storage.objects[f"{folder}/{new}"]
            storage.objects[f"{folder}/{new}"] = (data, when)


def prune_all(storage: Storage) -> object:
    request = PruneRequest(repository=storage, max_unused=0)  # type: ignore[arg-type]
    return prune(request, Session()).data


@pytest.fixture(scope="module")
def scene() -> Scene:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deleting, "open_repository", lambda storage, session: Repository.open(storage))
        return Scene()


def forget_one(scene: Scene) -> Command:
    victim = min(scene.listed)
    return lambda storage: move_to_forgotten(Repository.open(storage), victim)


def undelete_one(scene: Scene) -> Command:
    request = UndeleteRequest(ids=(scene.held,))
    return lambda storage: undelete(
        UndeleteRequest(repository=storage, ids=request.ids),  # type: ignore[arg-type]
        Session(),
    )


def every_plan(run: Command, scene: Scene) -> list[Plan]:
    count = count_operations(run, scene.base.copy())  # type: ignore[arg-type]
    return [
        plan for number in range(1, count + 1) for plan in (Plan(stop_before=number), Plan(stop_after=number))
    ]


def test_a_whole_prune_does_all_of_its_work(scene: Scene) -> None:
    """So that the tests below stop it in the middle of something: it sweeps, repacks, marks and merges."""
    storage = scene.base.copy()
    report = prune(PruneRequest(repository=storage, max_unused=0), Session()).data  # type: ignore[arg-type]
    assert report.packs_deleted >= 3 and report.snapshots_gone and report.snapshots_held == 1
    assert report.packs_repacked > 8 and report.packs_marked > 8 and report.objects_merged > 8
    assert len(storage.names("index")) == 1 and len(storage.names("checks")) == 1
    scene.require_sound(storage)


@pytest.mark.slow
def test_prune_survives_kill_at_every_operation(scene: Scene) -> None:
    plans = every_plan(prune_all, scene)
    assert len(plans) > 250
    for plan in plans:
        inner = scene.base.copy()
        with contextlib.suppress(Killed):
            prune_all(FaultyStorage(inner, plan))  # type: ignore[arg-type]
        scene.require_sound(inner)
        both = inner.copy()
        undelete_one(scene)(both)
        scene.require_sound(both, is_back=True)
        prune_all(inner)
        scene.require_sound(inner, is_back=False)
        assert not inner.names("sweeps") and not inner.names("claims") and not inner.names("locks")
        undelete_one(scene)(inner)
        scene.require_sound(inner, is_back=True)


@pytest.mark.slow
@pytest.mark.parametrize("error", [NoSpace("full"), Unreachable("gone"), CredentialsError("403")], ids=str)
def test_prune_survives_an_error_at_every_operation(scene: Scene, error: ZitcacheError) -> None:
    count = count_operations(prune_all, scene.base.copy())  # type: ignore[arg-type]
    failed = 0
    for number in range(1, count + 1):
        inner = scene.base.copy()
        try:
            prune_all(FaultyStorage(inner, Plan(errors={number: error})))  # type: ignore[arg-type]
        except ZitcacheError as caught:
            failed += 1
            assert caught.exit_code == error.exit_code, caught
        scene.require_sound(inner)
        prune_all(inner)
        scene.require_sound(inner, is_back=False)
        assert not inner.names("sweeps") and not inner.names("locks")
    assert failed > count / 2


def test_forget_survives_kill_at_every_operation(scene: Scene) -> None:
    run = forget_one(scene)
    victim = min(scene.listed)
    for plan in every_plan(run, scene):
        inner = scene.base.copy()
        with contextlib.suppress(Killed):
            run(FaultyStorage(inner, plan))  # type: ignore[arg-type]
        assert scene.listed - set(require_whole(inner)) <= {victim}
        run(inner)
        assert victim not in require_whole(inner)
        prune_all(inner)
        undelete(UndeleteRequest(repository=inner, ids=(victim,)), Session())  # type: ignore[arg-type]
        scene.require_sound(inner)


def test_undelete_survives_kill_at_every_operation(scene: Scene) -> None:
    run = undelete_one(scene)
    for plan in every_plan(run, scene):
        inner = scene.base.copy()
        with contextlib.suppress(Killed):
            run(FaultyStorage(inner, plan))  # type: ignore[arg-type]
        scene.require_sound(inner)
        prune_all(inner)
        if scene.held not in require_whole(inner):
            run(inner)
        scene.require_sound(inner, is_back=True)
        prune_all(inner)
        scene.require_sound(inner, is_back=True)
        assert not inner.names("claims") or _claims_are_respected(inner)


def _claims_are_respected(storage: MemoryStorage) -> bool:
    """A claim of a writer that was killed stays until its snapshot is there, or for a week."""
    listed = {snapshot.id for snapshot in list_snapshots(Repository.open(storage))[0]}
    from zitcache.repository.marks import ClaimRecord, load_notes

    return all(
        note.record.snapshot not in listed
        for note in load_notes(Repository.open(storage), "claims", ClaimRecord)
    )


def spoil(storage: MemoryStorage, scene: Scene) -> MemoryStorage:
    """A snapshot object, an index object and the ends of two packs are broken, one index object is lost."""
    for name in (storage.names("index")[0], storage.names("index")[3]):
        data, when = storage.objects[name]
        storage.objects[name] = (data[:-1] + bytes([data[-1] ^ 1]), when)
    storage.delete(storage.names("index")[5])
    for name in storage.names("packs")[2:4]:
        data, when = storage.objects[name]
        storage.objects[name] = (data[:-20], when)
    return storage


@pytest.mark.slow
def test_repair_survives_kill_at_every_operation(scene: Scene) -> None:
    broken = spoil(scene.base.copy(), scene)

    def run(storage: Storage) -> object:
        return repair(RepairRequest(repository=storage), Session()).data  # type: ignore[arg-type]

    count = count_operations(run, broken.copy())  # type: ignore[arg-type]
    assert count > 100
    for number in range(1, count + 1):
        for plan in (Plan(stop_before=number), Plan(stop_after=number)):
            inner = broken.copy()
            with contextlib.suppress(Killed):
                run(FaultyStorage(inner, plan))  # type: ignore[arg-type]
            run(inner)
            scene.require_sound(inner)
            assert Repository.open(inner).index and not Repository.open(inner).unreadable_index
            again = run(inner)
            assert not again.set_aside and not again.packs_indexed and not again.bytes_salvaged  # type: ignore[attr-defined]
