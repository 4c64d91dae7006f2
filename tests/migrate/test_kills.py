"""Kill -9 anywhere: the old path shows every byte, and the same line goes on to the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.migrate.world import (
    Disks,
    count_changes,
    look,
    make_small_cache,
    move,
    require_moved,
    run_forked,
    run_killed_at,
)
from tests.storage.disks import ext4, xfs
from zitcache.cache.marker import read_marker
from zitcache.errors import NotFound
from zitcache.tasks.migrate import MigrateReport, steps
from zitcache.tasks.migrate.names import old_place

pytestmark = [pytest.mark.root, pytest.mark.slow]


def fresh(disks: Disks) -> dict[str, tuple[object, ...]]:
    """A small cache on empty disks; what it looks like."""
    from zitcache.machine.files import remove_tree

    for place in (disks.system / "work", disks.target):
        if place.is_symlink():
            place.unlink()
        remove_tree(place)
    make_small_cache(disks.cache)
    return look(disks.cache)


def planned_steps(disks: Disks, *, undo: bool = False, **options: bool) -> list[str]:
    """The step list comes from the plan."""
    fresh(disks)
    if undo:
        move(disks.target, disks.cache)
    done = move(disks.target, disks.cache, undo=undo, dry_run=True, environment=True, **options)
    return [step.name for step in done.data.steps] + ["end"]


def kill_at_step(name: str, action: Callable[[], object]) -> None:
    def arm() -> None:
        def observe(step: str) -> None:
            if step == name:
                os.kill(os.getpid(), signal.SIGKILL)

        steps.observe = observe

    assert run_forked(action, arm) == -signal.SIGKILL, f"step {name} was never reached"


@pytest.mark.parametrize("delete_source", [False, True])
def test_killed_at_every_step_of_the_plan(disks: Disks, delete_source: bool) -> None:
    names = planned_steps(disks, delete_source=delete_source)
    assert len(names) > 10

    def run() -> object:
        return move(disks.target, disks.cache, delete_source=delete_source, environment=True)

    for name in names:
        before = fresh(disks)
        kill_at_step(name, run)
        assert look(disks.cache) == before, name
        run()
        require_moved(disks, before, old_copy=not delete_source)


@pytest.mark.parametrize("delete_source", [False, True])
def test_an_undo_killed_at_every_step_of_its_plan(disks: Disks, delete_source: bool) -> None:
    def run() -> object:
        return move(disks.target, disks.cache, undo=True, delete_source=delete_source, environment=True)

    for name in planned_steps(disks, undo=True, delete_source=delete_source):
        before = fresh(disks)
        move(disks.target, disks.cache)
        kill_at_step(name, run)
        assert look(disks.cache) == before, name
        if name != "end":
            run()
        require_back(disks, before, deleted=delete_source)


def require_back(disks: Disks, before: object, *, deleted: bool) -> None:
    assert not disks.cache.is_symlink() and look(disks.cache) == before
    assert not os.path.lexists(old_place(disks.cache))
    assert disks.target.exists() != deleted
    assert read_marker(disks.target) is None


def test_a_migration_killed_at_every_change_of_the_disk(disks: Disks) -> None:
    def run() -> object:
        return move(disks.target, disks.cache, delete_source=True)

    fresh(disks)
    changes = count_changes(run)
    assert changes > 60
    for operation in range(1, changes + 1):
        before = fresh(disks)
        assert run_killed_at(operation, run)
        assert look(disks.cache) == before, operation
        run()
        require_moved(disks, before, old_copy=False)


def test_an_undo_killed_at_every_second_change_of_the_disk(disks: Disks) -> None:
    def run() -> object:
        return move(disks.target, disks.cache, undo=True)

    fresh(disks)
    move(disks.target, disks.cache)
    changes = count_changes(run)
    assert changes > 40
    for operation in range(1, changes + 1, 2):
        before = fresh(disks)
        move(disks.target, disks.cache)
        assert run_killed_at(operation, run)
        assert look(disks.cache) == before, operation
        go_on_with_undo(disks)
        require_back(disks, before, deleted=False)


def go_on_with_undo(disks: Disks) -> None:
    """The same line again. All may be done already, but for a last empty folder."""
    try:
        move(disks.target, undo=True)
    except NotFound:
        assert not disks.cache.is_symlink()
        assert not (disks.cache / ".zitcache-migrating" / "plan.json").exists()


@pytest.mark.parametrize("undo", [False, True])
def test_killed_between_two_renames_where_names_cannot_be_swapped(
    disks: Disks, undo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment nothing is at the old path; the same line again puts that right."""
    monkeypatch.setattr("zitcache.tasks.migrate.switch.exchange", lambda a, b: False)

    def run() -> object:
        return move(disks.target, disks.cache, undo=undo)

    def begin() -> object:
        before = fresh(disks)
        if undo:
            move(disks.target, disks.cache)
        return before

    begin()
    changes = count_changes(run)
    missing = 0
    for operation in range(changes - 45, changes + 1):
        before = begin()
        assert run_killed_at(operation, run)
        if not os.path.lexists(disks.cache):
            missing += 1
            assert before in (look(old_place(disks.cache)), look(disks.target))
        else:
            assert look(disks.cache) == before, operation
        if undo:
            go_on_with_undo(disks)
        else:
            move(disks.target)
        assert look(disks.cache) == before, operation
        assert disks.cache.is_symlink() != undo
    assert missing == 1


def test_a_rename_killed_at_every_change_of_the_disk(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk", size=64 << 20) as disk:
        disks = Disks(disk / "system", disk / "data")
        disks.system.mkdir()
        disks.data.mkdir()

        def run() -> MigrateReport:
            return move(disks.target, disks.cache, delete_source=True, force=True).data

        fresh(disks)
        changes = count_changes(run)
        for operation in range(1, changes + 1):
            before = fresh(disks)
            assert run_killed_at(operation, run)
            assert look(disks.cache) == before, operation
            report = run()
            assert report.source_deleted and report.method == "rename"
            require_moved(disks, before, old_copy=False)


def test_reflinks_killed_at_every_change_of_the_disk(tmp_path: Path) -> None:
    with xfs(tmp_path / "disk") as disk:
        disks = Disks(disk / "system", disk / "data")
        disks.system.mkdir()
        disks.data.mkdir()

        def run() -> MigrateReport:
            return move(disks.target, disks.cache, force=True).data

        fresh(disks)
        changes = count_changes(run)
        for operation in range(1, changes + 1):
            before = fresh(disks)
            assert run_killed_at(operation, run)
            assert look(disks.cache) == before, operation
            assert run().method == "reflink"
            require_moved(disks, before, old_copy=True)
