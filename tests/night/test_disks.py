"""Disks that are full, or not there: nothing is written where it must not be, and room is made."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from tests.backup.world import MIB, noise, require_sound, snapshots_in
from tests.night.world import World, steps
from tests.storage.disks import tmpfs
from zitcache.errors import Exit
from zitcache.events import Session
from zitcache.repository.marks import FORGOTTEN_FOLDER, MARK_FOLDER, ForgottenRecord, MarkRecord
from zitcache.repository.repository import Repository
from zitcache.schedule.history import recent_runs, state_directory
from zitcache.storage.local import LocalStorage
from zitcache.tasks.forget import ForgetRequest, forget
from zitcache.tasks.prune import PruneRequest, prune


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.root
def test_an_empty_mount_point_stays_empty(world: World, tmp_path: Path) -> None:
    mount_point = tmp_path / "disk"
    with tmpfs(mount_point, size=64 * MIB):
        world.place = mount_point / "zitcache"
        Repository.create(LocalStorage(world.place))
        assert world.night(skip=("proof",))[1] == 0
        assert contents(mount_point)
    # The disk is gone, as after a start of the machine without it.
    for _ in range(2):
        report, code, _ = world.night(force=True)
        assert code == Exit.NOT_FOUND and list(steps(report)) == ["backup"]
    assert contents(mount_point) == []
    assert not Path(f"{world.place}-drill").exists() and not Path(f"{world.place}-proofs").exists()
    waiting = recent_runs(None, state_directory())
    assert [run.record.exit_code for run in waiting] == [Exit.NOT_FOUND] * 2, "but it is remembered"


@pytest.mark.root
def test_what_is_configured_for_another_disk_does_not_go_to_its_mount_point(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    etc = tmp_path / "system/etc"
    etc.mkdir(parents=True)
    (etc / "fstab").write_text(f"/dev/vdz {other} ext4 nofail 0 2\n")
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(tmp_path / "system"))
    world.configure(
        f'[night]\nscratch = "{other}/drill"\nreport = "{other}/report.html"\n'
        f'[metrics]\ntextfile = "{other}/zitcache.prom"\n'
    )
    report, code, session = world.night(skip=("proof",))
    assert contents(other) == []
    assert steps(report)["backup"] == 0, "what is safe goes on"
    assert {name: exit_code for name, exit_code in steps(report).items() if exit_code} == {
        "drill": Exit.NOT_FOUND,
        "report": Exit.NOT_FOUND,
    }
    assert code == Exit.NOT_FOUND
    messages = [step.message for step in report.steps if step.exit_code]
    assert all(f"{other} is not mounted" in message for message in messages)
    assert any(notice.code == "metrics-not-written" for notice in session.warnings)
    with tmpfs(other, size=160 * MIB):
        _, code, session = world.night(skip=("proof",), force=True)
        assert code == 0
        assert {path.name for path in other.iterdir()} == {"report.html", "zitcache.prom"}


def test_a_repository_on_a_disk_that_is_not_mounted_is_named_by_the_disk(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc = tmp_path / "system/etc"
    etc.mkdir(parents=True)
    (etc / "fstab").write_text(f"UUID=1 {world.place.parent} xfs defaults 0 2\n")
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(tmp_path / "system"))
    shutil.rmtree(world.place)
    report, code, _ = world.night()
    assert code == Exit.NOT_FOUND
    message = next(step.message for step in report.steps if step.exit_code)
    assert message == f"{world.place.parent} is not mounted, and the repository is on it."
    assert contents(world.place.parent) == []


@pytest.mark.root
def test_a_full_disk_is_pruned_at_once_and_the_backup_tried_again(world: World, tmp_path: Path) -> None:
    """Old snapshots were forgotten long ago; the prune that would free them is not due for days."""
    mount_point = tmp_path / "disk"
    with tmpfs(mount_point, size=40 * MIB):
        world.place = mount_point / "zitcache"
        Repository.create(LocalStorage(world.place))
        shard = world.model / "shard.bin"
        shard.write_bytes(noise(14 * MIB, "first"))
        assert world.night(only=("backup", "prune"))[1] == 0
        shard.write_bytes(noise(14 * MIB, "second"))
        assert world.night(only=("backup",))[1] == 0
        forget_the_oldest(world)
        shard.write_bytes(noise(14 * MIB, "third"))
        report, code, _ = world.night(skip=("drill", "proof"))
        told = {step.name: step.message for step in report.steps if step.skipped is None}
        assert code == 0, told
        assert "freed" in told["prune"] and steps(report)["backup"] == 0
        require_sound(world.place)
        assert len(snapshots_in(world.place)) == 2


def forget_the_oldest(world: World) -> None:
    """Forget it so long ago that its packs may go, and have them marked so long ago as well."""
    oldest = snapshots_in(world.place)[0]
    forget(ForgetRequest(repository=str(world.place), ids=(oldest.id,)), Session())
    a_week_passes(world.place)
    prune(PruneRequest(repository=str(world.place)), Session())
    a_week_passes(world.place)


def a_week_passes(place: Path) -> None:
    """By both clocks that prune looks at: the times in the notes, and those of the files."""
    week = 7 * 86_400
    repository = Repository.open(LocalStorage(place))
    for folder, kind in ((MARK_FOLDER, MarkRecord), (FORGOTTEN_FOLDER, ForgottenRecord)):
        for name, record in repository.load_records_by_id(folder, kind):
            repository.storage.delete(f"{folder}/{name}")
            repository.store_record(folder, msgspec.structs.replace(record, time=record.time - week))
    for path in place.rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_mtime - week,) * 2)


@pytest.mark.root
def test_a_disk_that_stays_full_is_told_and_remembered(world: World, tmp_path: Path) -> None:
    mount_point = tmp_path / "disk"
    with tmpfs(mount_point, size=24 * MIB):
        world.place = mount_point / "zitcache"
        Repository.create(LocalStorage(world.place))
        assert world.night(only=("backup",))[1] == 0
        (world.model / "shard.bin").write_bytes(noise(30 * MIB, "too large"))
        report, code, _ = world.night(skip=("drill", "proof"))
        assert code == Exit.NO_SPACE
        assert steps(report)["backup"] == Exit.NO_SPACE
        assert "nothing is forgotten" in str(
            next(step.skipped for step in report.steps if step.name == "forget")
        )
        assert world.runs()[0].record.exit_code == Exit.NO_SPACE
        require_sound(world.place)
        (good,) = snapshots_in(world.place)
        assert good.is_good


@pytest.mark.root
def test_a_drill_without_room_beside_the_repository_goes_elsewhere(world: World, tmp_path: Path) -> None:
    mount_point = tmp_path / "disk"
    with tmpfs(mount_point, size=40 * MIB):
        world.place = mount_point / "zitcache"
        Repository.create(LocalStorage(world.place))
        report, code, _ = world.night(only=("backup", "drill"))
        assert code == 0 and steps(report)["drill"] == 0
        assert sorted(path.name for path in mount_point.iterdir()) == ["zitcache"]


def test_a_drill_lies_beside_the_repository_and_old_ones_go(world: World) -> None:
    place = Path(f"{world.place}-drill")
    for name, age in (("zitcache-drill-old", 90_000), ("zitcache-drill-new", 60), ("mine", 90_000)):
        (place / name).mkdir(parents=True)
        (place / name / "file").write_bytes(b"x")
        os.utime(place / name, (time.time() - age,) * 2)
    _, code, session = world.night(only=("backup", "drill"))
    assert code == 0
    assert sorted(path.name for path in place.iterdir()) == ["mine", "zitcache-drill-new"]
    assert [notice.code for notice in session.warnings].count("old-drill-removed") == 1
