"""The first lines: is the cache in danger, and the exact line to type."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import make_sample
from tests.doctor.world import SIZE, Box, as_lines, check, examine, state
from tests.machine.system_roots import run_on
from tests.storage.disks import MIB, ext4, mounted, overlay, tmpfs, xfs
from zitcache.errors import Exit
from zitcache.tasks.doctor import CHECKS, disk_facts

PROGRAMS = {"zitcache", "unset", "export", "sed", "systemctl", "service", "cron", "nvidia-smi", "pip"}


def test_a_cache_on_the_system_disk_without_anything_else(box: Box) -> None:
    cache = box.cache()
    before = as_lines(cache)
    outcome = examine()
    assert outcome.exit_code is Exit.DAMAGE
    assert outcome.data.headline.startswith(f"Your {SIZE} are on the system disk: a reset wipes them.")
    assert "No disk that survives is mounted" in outcome.data.headline
    assert outcome.data.command is None
    found = check(outcome, "cache-disk")
    assert (found.status, found.fix) == ("fail", None)
    assert found.advice is not None and "s3://" in found.advice
    assert outcome.data.cache == str(cache) and outcome.data.cache_bytes > 20_000_000
    assert state(outcome, "disks") == "warn"
    assert as_lines(cache) == before


@pytest.mark.root
def test_with_a_data_disk_the_exact_line_is_told_and_works(box: Box) -> None:
    box.cache()
    disk = box.disk("data disk")
    outcome = examine()
    assert outcome.data.headline == f"Your {SIZE} are on the system disk: a reset wipes them."
    assert outcome.data.command == f"zitcache migrate '{disk}/modelscope_cache'"
    assert check(outcome, "cache-disk").fix == outcome.data.command
    assert state(outcome, "disks") == "ok"
    assert [known.verdict for known in outcome.data.disks] == ["lost", "survives"]


@pytest.mark.root
def test_the_line_names_the_cache_that_was_named(box: Box) -> None:
    cache = make_sample(box.place / "my cache")
    disk = box.disk()
    outcome = examine(cache=str(cache))
    assert outcome.data.command == shlex.join(
        ["zitcache", "migrate", f"{disk}/modelscope_cache", "--cache", str(cache)]
    )


@pytest.mark.root
def test_a_folder_that_is_taken_is_not_proposed_and_a_stopped_migration_is(box: Box) -> None:
    box.cache()
    disk = box.disk()
    (disk / "modelscope_cache").mkdir()
    (disk / "modelscope_cache" / ".zitcache-part").write_bytes(b"x")
    assert examine().data.command == f"zitcache migrate {disk}/modelscope_cache"
    (disk / "modelscope_cache" / "something").write_bytes(b"x")
    assert examine().data.command == f"zitcache migrate {disk}/model_cache"


@pytest.mark.root
def test_a_disk_too_small_for_the_cache_may_hold_a_snapshot(box: Box) -> None:
    box.cache()
    disk = box.disk(size=24 * MIB)
    outcome = examine()
    assert outcome.data.command == f"zitcache backup --init --repo {disk}/zitcache"


@pytest.mark.root
def test_disks_that_do_not_do_are_not_proposed(box: Box) -> None:
    """Too small, read-only, in memory, or the system disk under another name."""
    box.cache()
    box.disk("small", size=2 * MIB)
    read_only = box.disk("read-only")
    subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
    box.stack.enter_context(tmpfs(box.place / "memory", size=64 * MIB))
    (box.place / "folder").mkdir()
    box.stack.enter_context(mounted(["--bind", str(box.place / "folder")], box.place / "data"))
    outcome = examine()
    assert outcome.data.command is None
    assert "No mounted disk that survives has room" in outcome.data.headline


@pytest.mark.root
def test_a_snapshot_on_a_data_disk_makes_it_well(box: Box) -> None:
    cache = box.cache()
    box.backup(cache, box.disk() / "zitcache")
    outcome = examine()
    assert outcome.data.headline.startswith(
        f"Nothing is in danger: a reset wipes your {SIZE} on the system disk, and the snapshot in"
    )
    assert "of just now brings them back." in outcome.data.headline
    assert state(outcome, "cache-disk") == "ok"
    assert state(outcome, "last-backup") == "ok"
    assert outcome.exit_code is Exit.OK


@pytest.mark.root
def test_a_snapshot_does_not_hide_a_broken_model(box: Box) -> None:
    cache = box.cache()
    box.backup(cache, box.disk() / "zitcache")
    next(cache.rglob("vae/*.safetensors")).unlink()
    outcome = examine()
    assert outcome.exit_code is Exit.DAMAGE
    assert ", but: Not complete: Tongyi-MAI/Z-Image-Turbo@master" in outcome.data.headline
    assert outcome.data.command == "zitcache verify --repair"


@pytest.mark.root
def test_all_is_well(box: Box) -> None:
    """A cache on one data disk, a fresh snapshot with a kit on another, variables for all, a schedule."""
    disk = box.disk()
    cache = make_sample(disk / "modelscope_cache")
    box.patch.setenv("MODELSCOPE_CACHE", str(cache))
    repository = box.backup(cache, box.disk("backup") / "zitcache")
    (repository / "kit").mkdir()
    (repository / "kit" / "recover.sh").write_text("#!/bin/sh\n")
    box.write("/etc/environment", f"MODELSCOPE_CACHE={cache}\n")
    box.runs_jobs(own_daemon=77)
    box.patch.setattr("zitcache.tasks.doctor.disks.CLOSE_TO_FULL_BYTES", MIB)
    box.patch.setattr("zitcache.tasks.doctor.backups._LITTLE_ROOM_BYTES", MIB)
    outcome = examine(strict=True)
    assert [found for found in outcome.data.checks if found.status in {"warn", "fail"}] == []
    assert outcome.exit_code is Exit.OK
    assert outcome.data.headline == (
        f"All is well: your {SIZE} are on a disk that survives a reset ({disk}), "
        "and a snapshot of just now holds all of it."
    )


@pytest.mark.root
def test_the_network_is_for_snapshots(box: Box) -> None:
    """Weights load many times slower from there, so the cache is not moved to it."""
    box.cache()
    disk = box.disk("nfs")
    real = disk_facts.survival_of_mount
    box.patch.setattr(
        disk_facts,
        "survival_of_mount",
        lambda mount: dataclasses.replace(real(mount), is_network=mount.mount_point == str(disk)),
    )
    assert examine().data.command == f"zitcache backup --init --repo {disk}/zitcache"


@pytest.mark.root
def test_an_old_snapshot_wants_a_new_one(box: Box) -> None:
    cache = box.cache()
    box.backup(cache, box.disk() / "zitcache", days_ago=9)
    outcome = examine()
    assert outcome.data.command == "zitcache backup"
    assert "9 days ago" in outcome.data.headline and "old" in outcome.data.headline
    assert state(outcome, "cache-disk") == "warn"
    assert state(outcome, "last-backup") == "warn"
    assert outcome.exit_code is Exit.OK
    assert examine(strict=True).exit_code is Exit.DAMAGE


def test_a_snapshot_on_the_system_disk_saves_nothing(box: Box) -> None:
    cache = box.cache()
    box.backup(cache, box.place / "zitcache")
    outcome = examine()
    assert outcome.exit_code is Exit.DAMAGE
    assert "a reset wipes them" in outcome.data.headline
    assert state(outcome, "repository-disk") == "fail"
    assert state(outcome, "cache-disk") == "fail"


@pytest.mark.root
def test_a_model_in_no_snapshot_is_in_danger(box: Box) -> None:
    cache = box.cache()
    box.backup(cache, box.disk() / "zitcache")
    make_sample(box.place / "other")
    (box.place / "other" / "models" / "Tongyi-MAI--Z-Image-Turbo").rename(cache / "models" / "new--model")
    outcome = examine()
    assert state(outcome, "last-backup") == "fail"
    assert "new/model@master" in check(outcome, "last-backup").evidence
    assert state(outcome, "cache-disk") == "fail"
    assert check(outcome, "last-backup").fix == "zitcache backup"


@pytest.mark.root
def test_a_suspect_snapshot_protects_nothing(box: Box) -> None:
    cache = box.cache()
    repository = box.backup(cache, box.disk() / "zitcache")
    box.change_snapshot(repository, suspect=True, suspect_reasons=["A shard had changed."])
    outcome = examine()
    assert state(outcome, "last-backup") == "fail"
    assert state(outcome, "cache-disk") == "fail"
    assert outcome.exit_code is Exit.DAMAGE


@pytest.mark.root
def test_a_cache_on_a_data_disk_is_well(box: Box) -> None:
    disk = box.disk()
    cache = make_sample(disk / "modelscope_cache")
    box.patch.setenv("MODELSCOPE_CACHE", str(cache))
    outcome = examine()
    assert outcome.exit_code is Exit.OK
    assert outcome.data.headline.startswith(f"Nothing is in danger: your {SIZE} are on a disk that survives")
    assert state(outcome, "cache-disk") == "ok"
    assert state(outcome, "cache-speed") == "ok"


@pytest.mark.root
def test_a_cache_of_which_a_part_lies_on_the_system_disk(box: Box) -> None:
    """A cache of one's own, whose models are links into a shared one."""
    disk = box.disk()
    cache = make_sample(disk / "modelscope_cache")
    box.patch.setenv("MODELSCOPE_CACHE", str(cache))
    (shard,) = list(cache.rglob("vae/*.safetensors"))
    moved = box.place / "elsewhere.safetensors"
    moved.write_bytes(shard.read_bytes())
    shard.unlink()
    shard.symlink_to(moved)
    outcome = examine()
    assert state(outcome, "cache-disk") == "fail"
    assert "of it: It is on the system disk" in check(outcome, "cache-disk").evidence
    assert "on the system disk" in outcome.data.headline


@pytest.mark.root
def test_memory_is_no_home(box: Box) -> None:
    disk = box.stack.enter_context(tmpfs(box.place / "memory", size=64 * MIB))
    box.patch.setenv("MODELSCOPE_CACHE", str(make_sample(disk / "cache")))
    outcome = examine()
    assert f"in memory ({disk})" in outcome.data.headline
    assert state(outcome, "cache-disk") == "fail"


def test_no_cache_and_no_snapshot(box: Box) -> None:
    outcome = examine()
    assert outcome.exit_code is Exit.DAMAGE
    assert (
        outcome.data.headline == "There is no model cache on this machine, and no snapshot of one was found."
    )
    assert state(outcome, "cache-found") == "fail"
    assert "MODELSCOPE" not in (check(outcome, "cache-found").fix or "")
    assert state(outcome, "cache-disk") == state(outcome, "models-complete") == "skip"


@pytest.mark.root
def test_after_the_reset_the_line_is_restore(box: Box) -> None:
    cache = make_sample(box.place / "cache")
    box.backup(cache, box.disk() / "zitcache")
    box.patch.delenv("ZITCACHE_REPO")
    shutil.rmtree(cache)
    outcome = examine()
    assert outcome.data.command == "zitcache restore"
    assert f"{SIZE} of it are in snapshot" in outcome.data.headline
    assert check(outcome, "cache-found").fix == "zitcache restore"


def test_a_link_to_a_disk_that_is_not_mounted(box: Box) -> None:
    link = box.place / "model_cache"
    link.symlink_to("/data/modelscope_cache-of-this-test")
    box.patch.setenv("MODELSCOPE_CACHE", str(link))
    outcome = examine()
    found = check(outcome, "cache-found")
    assert found.status == "fail" and "Is its disk mounted?" in found.evidence
    assert "Mount its disk" in outcome.data.headline


def test_every_check_has_its_place_and_is_told_once(box: Box) -> None:
    box.cache()
    outcome = examine()
    assert [found.id for found in outcome.data.checks] == list(CHECKS)
    assert {found.status for found in outcome.data.checks} <= {"ok", "warn", "fail", "skip"}
    for found in outcome.data.checks:
        assert found.evidence.strip()
        if found.fix:
            words = shlex.split(found.fix)
            assert words[0] in {
                "zitcache",
                "unset",
                "export",
                "sed",
                "systemctl",
                "service",
                "cron",
                "nvidia-smi",
            }


# -- whole machines, with the real program ------------------------------------------------------------


def doctor_on(root: Path, *words: str, disks: dict[str, Path], **more: Any) -> tuple[int, dict[str, Any]]:
    more.setdefault("without", ["var"])
    done = run_on(root, ["-m", "zitcache", "doctor", "--json", *words], disks=disks, **more)
    assert done.stdout, done.stderr
    envelope = json.loads(done.stdout)
    assert envelope["error"] is None, envelope
    return done.returncode, envelope["data"]


CASE = "root/workspace/model_cache"


@pytest.mark.root
def test_the_rented_box(tmp_path: Path) -> None:
    """The case: the cache in /root/workspace on the system disk, an empty data disk at /data."""
    with ext4(tmp_path / "system", size=64 * MIB) as system, xfs(tmp_path / "data") as data:
        make_sample(system / CASE)
        environ = {"MODELSCOPE_CACHE": f"/{CASE}", "HF_HOME": f"/{CASE}"}
        code, report = doctor_on(system, disks={"/data": data}, environ=environ)
    assert code == 1
    assert report["headline"] == f"Your {SIZE} are on the system disk: a reset wipes them."
    assert report["command"] == "zitcache migrate /data/modelscope_cache"


@pytest.mark.root
def test_the_line_that_is_told_takes_the_danger_away(tmp_path: Path) -> None:
    """Typed as it stands, in a shell that keeps its old settings; and nothing is left to fix."""
    environ = {"MODELSCOPE_CACHE": f"/{CASE}", "HF_HOME": f"/{CASE}"}
    with ext4(tmp_path / "system", size=128 * MIB) as system, xfs(tmp_path / "data") as data:
        (system / "etc").mkdir()
        (system / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        make_sample(system / CASE)
        here: dict[str, Any] = {"disks": {"/data": data}, "environ": environ, "without": ["var", "etc"]}
        _, before = doctor_on(system, **here)
        line = shlex.split(before["command"])
        done = run_on(system, ["-m", *line, "--yes"], **here)
        assert done.returncode == 0, done.stderr
        code, after = doctor_on(system, **here)
    assert code == 0
    assert after["headline"].startswith(f"Nothing is in danger: your {SIZE} are on a disk that survives")
    statuses = {found["id"]: found["status"] for found in after["checks"]}
    for check_id in ("cache-disk", "kit", "variables-differ", "variables-reach", "models-complete"):
        assert statuses[check_id] == "ok", check_id


@pytest.mark.root
def test_the_rented_box_whose_workspace_is_a_disk(tmp_path: Path) -> None:
    """DAMODEL calls it temporary: neither safe nor lost."""
    with ext4(tmp_path / "system", size=16 * MIB) as system, xfs(tmp_path / "data") as data:
        make_sample(data / "model_cache")
        _, report = doctor_on(system, disks={"/root/workspace": data})
    statuses = {found["id"]: found["status"] for found in report["checks"]}
    assert statuses["cache-disk"] == "warn"
    assert "a reset may take them" in report["headline"] and "temporary data disk" in report["headline"]
    assert report["provider"] == "DAMODEL"


@pytest.mark.root
def test_a_container_with_a_folder_that_looks_like_the_data_disk(tmp_path: Path) -> None:
    with xfs(tmp_path / "host") as host:
        layers = {name: host / name for name in ("lower", "upper", "work")}
        with overlay(tmp_path / "root", **layers) as root:
            make_sample(root / "root" / "autodl-tmp" / "model_cache")
            code, report = doctor_on(root, disks={}, environ={"AutoDLContainerUUID": "x"})
    statuses = {found["id"]: found["status"] for found in report["checks"]}
    assert code == 1
    assert statuses["fake-data-disk"] == "warn"
    assert statuses["cache-disk"] == "fail"
    assert report["provider"] == "AutoDL"
    evidence = next(found["evidence"] for found in report["checks"] if found["id"] == "cache-disk")
    assert "container's own layer" in evidence and "a name keeps nothing" in evidence
