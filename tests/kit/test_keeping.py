"""A kit is kept up to date at the price of milliseconds, and nothing that happens to it fails a backup."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.backup.world import back_up, data_of, make_model, make_sample, unprivileged, zitcache
from tests.storage.disks import MIB, python_environment, tmpfs, with_faults
from zitcache.errors import Interrupted
from zitcache.events import Cancel, Session
from zitcache.tasks.kit import keep_kit
from zitcache.tasks.kit.layout import MANIFEST, python_tag, read_manifest
from zitcache.tasks.kit.scripts import keep_pointer
from zitcache.tasks.kit.settings import KEEP, load_settings_by_file

VARIABLES = {"HF_HOME": "/data/cache"}


def keep(kit: Path, **options: object) -> tuple[str, list[str]]:
    session = Session()
    given = {"environment": VARIABLES, "cache": "/data/cache"} | options
    report = keep_kit(kit, session, **given)  # type: ignore[arg-type]
    return report.action, [notice.code for notice in session.warnings]


def inode(kit: Path) -> int:
    return (kit / python_tag()).stat().st_ino


def change_manifest(kit: Path, **changes: object) -> None:
    path = kit / python_tag() / MANIFEST
    path.write_bytes(msgspec.json.encode(json.loads(path.read_bytes()) | changes))


def require_whole(kit: Path) -> None:
    """Every file that the manifest lists is there with its size, and nothing unfinished."""
    part = kit / python_tag()
    manifest = read_manifest(part)
    assert all((part / name).stat().st_size == size for name, (size, _) in manifest.files.items())
    assert not [name for name in os.listdir(kit) if name.startswith(".zitcache-tmp")]


def test_it_is_made_once_and_then_left_alone(kit: Path) -> None:
    before = inode(kit)
    assert keep(kit) == ("up to date", [])
    assert inode(kit) == before
    require_whole(kit)


@pytest.mark.parametrize(
    "changes",
    [
        {"program": "0.0.1"},
        {"source": "0" * 64},
        {"source_path": "/somewhere/else"},
        {"distributions": [{"name": "numpy", "version": "1", "origin": "/usr", "mtime_ns": 1}]},
        {"distributions": [{"name": "numpy", "version": "1", "origin": "/gone", "mtime_ns": 1}]},
        {"format": "something"},
    ],
)
def test_a_new_version_of_anything_makes_it_anew(kit: Path, changes: dict[str, object]) -> None:
    change_manifest(kit, **changes)
    before = inode(kit)
    assert keep(kit) == ("updated", [])
    assert inode(kit) != before
    require_whole(kit)
    assert keep(kit) == ("up to date", [])


def test_a_part_that_lost_files_is_made_anew(kit: Path) -> None:
    (kit / python_tag() / "run.py").write_text("pass")
    assert keep(kit) == ("updated", [])
    require_whole(kit)
    (kit / "recover.sh").write_text("#!/bin/sh\n")
    assert keep(kit) == ("updated", [])
    assert os.access(kit / "recover.sh", os.X_OK)


def test_parts_for_other_pythons_stay(kit: Path) -> None:
    other = kit / "cp39-riscv64"
    other.mkdir()
    (other / MANIFEST).write_text("{}")
    change_manifest(kit, program="0.0.1")
    session = Session()
    report = keep_kit(kit, session, environment=VARIABLES)
    assert report.parts == [python_tag(), "cp39-riscv64"] and other.is_dir()


def test_what_a_killed_one_left_is_removed(kit: Path) -> None:
    leftover = kit / ".zitcache-tmp-1-0123"
    (leftover / "lib").mkdir(parents=True)
    (leftover / "lib/x.py").write_text("x")
    change_manifest(kit, program="0.0.1")
    assert keep(kit) == ("updated", [])
    require_whole(kit)


@pytest.mark.parametrize("moment", [0.15, 0.3, 0.5, 0.7, 0.9])
def test_killed_at_any_moment_the_old_one_is_whole(kit: Path, moment: float) -> None:
    change_manifest(kit, program="0.0.1")
    program = (
        "from pathlib import Path\nfrom zitcache.events import Session\n"
        "from zitcache.tasks.kit import keep_kit\n"
        "print('go', flush=True)\n"
        f"keep_kit(Path({str(kit)!r}), Session(), environment={{}}, cache='/data/cache')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=python_environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    part = kit / python_tag()
    manifest = read_manifest(part)
    assert all((part / name).stat().st_size == size for name, (size, _) in manifest.files.items())
    assert subprocess.run(["sh", kit / "zitcache", "--version"], capture_output=True).returncode == 0
    assert keep(kit)[0] in ("updated", "up to date")
    require_whole(kit)


@pytest.mark.parametrize(
    "injection",
    [
        "syncfs:signal=SIGKILL:when=1",
        "syncfs:error=EIO:when=1",
        "renameat2:signal=SIGKILL:when=1",
        "renameat2:error=EIO:when=1",
        "renameat2:error=EINVAL:when=1",
        "unlinkat:signal=SIGKILL:when=100",
        "unlink:signal=SIGKILL:when=1",
    ],
)
def test_killed_or_refused_at_each_step(kit: Path, tmp_path: Path, injection: str) -> None:
    change_manifest(kit, program="0.0.1")
    program = (
        "from pathlib import Path\nfrom zitcache.events import Session\n"
        "from zitcache.tasks.kit import keep_kit\n"
        f"keep_kit(Path({str(kit)!r}), Session(), environment={{}}, cache='/data/cache')"
    )
    with_faults(["-c", program], [injection], tmp_path / "trace")
    part = kit / python_tag()
    manifest = read_manifest(part)
    assert all((part / name).stat().st_size == size for name, (size, _) in manifest.files.items())
    assert subprocess.run(["sh", kit / "zitcache", "--version"], capture_output=True).returncode == 0
    keep(kit)
    assert read_manifest(part).program != "0.0.1"


def test_two_at_once_do_not_meet(kit: Path) -> None:
    change_manifest(kit, program="0.0.1")
    with (kit / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert keep(kit) == ("up to date", []), "the other one is doing it"
    assert keep(kit) == ("updated", [])


def test_a_full_disk_is_a_warning(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", size=30 * MIB) as disk:
        assert keep(disk / "kit") == ("failed", ["kit-not-kept"])
        assert not list((disk / "kit").glob("cp*"))
    with tmpfs(tmp_path / "few", size=400 * MIB, inodes=200) as disk:
        assert keep(disk / "kit") == ("failed", ["kit-not-kept"])


def test_a_disk_that_fills_up_meanwhile_leaves_the_old_one(
    kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_manifest(kit, program="0.0.1")

    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zitcache.tasks.kit.build.write_all", full)
    assert keep(kit) == ("failed", ["kit-not-kept"])
    assert read_manifest(kit / python_tag()).program == "0.0.1"
    require_whole(kit)


def test_places_that_cannot_be_written_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert keep(tmp_path / "file") == ("failed", ["kit-not-kept"])
    assert keep(tmp_path / "file/kit") == ("failed", ["kit-not-kept"])
    (tmp_path / "mine").mkdir(mode=0o755)
    with unprivileged():
        assert keep(tmp_path / "mine/kit") == ("failed", ["kit-not-kept"])


def test_a_stop_is_a_stop(kit: Path) -> None:
    change_manifest(kit, program="0.0.1")
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Interrupted):
        keep_kit(kit, Session(cancel=cancel), environment=VARIABLES)
    require_whole(kit)


def test_without_an_atomic_swap(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zitcache.tasks.kit.build.exchange", lambda a, b: False)
    change_manifest(kit, program="0.0.1")
    assert keep(kit) == ("updated", [])
    require_whole(kit)


def test_a_kit_that_runs_itself_is_not_copied_onto_itself(kit: Path) -> None:
    before = inode(kit)
    program = f"""
import sys
sys.path.insert(0, {str(kit / python_tag() / "lib")!r})
from pathlib import Path
from zitcache.events import Session
from zitcache.tasks.kit import keep_kit
print(keep_kit(Path({str(kit)!r}), Session(), environment={{}}).action)
"""
    words = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/")
    assert done.stdout == "up to date\n", done.stderr
    assert inode(kit) == before


def test_a_kit_makes_another_kit(kit: Path, tmp_path: Path) -> None:
    """On a machine that runs from the kit, a new repository gets one from it."""
    other = tmp_path / "other"
    done = subprocess.run(["sh", kit / "zitcache", "kit", other, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["sh", other / "zitcache", "--version"], capture_output=True).returncode == 0
    mine, copied = (read_manifest(each / python_tag()) for each in (kit, other))
    assert copied.files == mine.files


# -- settings -----------------------------------------------------------------------------------------


def test_settings_are_kept_for_their_owner_alone(kit: Path, alone: Path) -> None:
    config = alone / ".config/zitcache/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('repo = "/data/zitcache"\n')
    keep(kit, repository="/data/zitcache")
    [(path, kept, settings)] = load_settings_by_file(kit)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert settings.config == 'repo = "/data/zitcache"\n' and settings.environment == VARIABLES
    assert settings.repository == "/data/zitcache" and settings.real_cache == "/data/cache"
    before = path.stat()
    time.sleep(0.02)
    keep(kit, repository="/data/zitcache")
    after = path.stat()
    assert after.st_ino == before.st_ino and after.st_mtime_ns > kept, "unchanged, but known to be current"


def test_settings_of_many_machines_are_bounded(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(KEEP + 8):
        monkeypatch.setattr("socket.gethostname", lambda number=number: f"box-{number}")
        keep(kit)
    hosts = [settings.host for _, _, settings in load_settings_by_file(kit)]
    assert len(hosts) == KEEP and hosts[0] == f"box-{KEEP + 7}" and "box-0" not in hosts


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "x"}', "\0" * 100, "x" * (5 << 20)])
def test_settings_that_make_no_sense_are_passed_over(kit: Path, content: str) -> None:
    (kit / "machines/0000000000000000.json").write_text(content)
    (kit / "machines/link.json").symlink_to("/etc/passwd")
    (kit / "machines/folder.json").mkdir()
    os.mkfifo(kit / "machines/pipe.json")
    assert len(load_settings_by_file(kit)) == 1


# -- the pointer --------------------------------------------------------------------------------------


def test_a_pointer_leads_to_the_newest_kit_of_the_disk(kit: Path, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", size=4 * MIB) as disk:
        assert keep_pointer(disk / "kit") is None, "memory is no disk"


# -- in a repository ----------------------------------------------------------------------------------


def test_backup_keeps_one_and_no_command_minds(tmp_path: Path) -> None:
    cache, repository = make_sample(tmp_path / "cache"), tmp_path / "data/zitcache"
    on = {"ZITCACHE_KIT": "yes"}
    first = data_of(zitcache("backup", "-r", repository, "--init", "--cache", cache, "--json", env=on))
    second = data_of(zitcache("backup", "-r", repository, "--cache", cache, "--json", env=on))
    assert (first["kit"], second["kit"]) == ("made", "up to date")
    for command in (["check", "--read-data"], ["snapshots"], ["restore", "latest", "--to", tmp_path / "to"]):
        done = zitcache(*command, "-r", repository, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["warnings"] == [], done.stdout
    done = zitcache("init", repository)
    assert done.returncode == 2 and "already holds a repository" in done.stderr


def test_ways_to_have_none(tmp_path: Path) -> None:
    cache, repository = make_model(tmp_path / "cache/models/o--m/snapshots/master"), tmp_path / "repository"
    cache = tmp_path / "cache"
    config = tmp_path / "config.toml"
    config.write_text("kit = false\n")
    for options, environment in (
        (["--no-kit"], {"ZITCACHE_KIT": "yes"}),
        ([], {"ZITCACHE_KIT": "no"}),
        ([], {"ZITCACHE_KIT": "", "ZITCACHE_CONFIG": str(config)}),
    ):
        done = zitcache(
            "backup", "-r", repository, "--init", "--cache", cache, "--json", *options, env=environment
        )
        assert data_of(done)["kit"] is None
    assert not (repository / "kit").exists()
    done = zitcache("backup", "-r", repository, "--cache", cache, env={"ZITCACHE_KIT": "perhaps"})
    assert done.returncode == 2 and "ZITCACHE_KIT" in done.stderr


def test_a_kit_that_cannot_be_kept_does_not_fail_the_backup(tmp_path: Path) -> None:
    cache, repository = make_sample(tmp_path / "cache"), tmp_path / "repository"
    back_up(repository, cache)
    (repository / "kit").write_text("in the way")
    outcome = back_up(repository, cache, kit=True)
    assert outcome.exit_code == 0 and outcome.data.kit == "failed" and outcome.data.snapshot_id
    assert "kit-not-kept" in [notice.code for notice in outcome.warnings]
