"""The units are accepted by systemd, may do little, and are the ones in ``systemd/``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from zitcache.errors import UsageError
from zitcache.schedule.jobs import Installation, example
from zitcache.schedule.systemd import unit_files
from zitcache.schedule.times import parse_times

ROOT = Path(__file__).parents[2]
HIGHEST_EXPOSURE = {"zitcache-backup": 2.6, "zitcache-check": 2.6, "zitcache-proof": 3.2}


def needs_systemd() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (package systemd)")


def written(tmp_path: Path, installation: Installation) -> list[Path]:
    paths = []
    for name, text in unit_files(installation).items():
        path = tmp_path / name
        path.write_text(text)
        paths.append(path)
    return paths


def installation(program: Path, **changes: object) -> Installation:
    values: dict[str, object] = {
        "program": (str(program),),
        "repository": "/data/zitcache",
        "options": ("--repo", "/data/zitcache"),
    }
    return Installation(**{**values, **changes})  # type: ignore[arg-type]


def verify(paths: list[Path]) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, paths)], capture_output=True, text=True
    )
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


def test_the_files_in_the_project_are_the_generated_ones() -> None:
    files = unit_files(example())
    assert {path.name for path in (ROOT / "systemd").iterdir()} == set(files)
    for name, text in files.items():
        assert (ROOT / "systemd" / name).read_text() == text, "run: python -m zitcache.schedule.examples"


def test_systemd_accepts_every_unit(tmp_path: Path) -> None:
    needs_systemd()
    assert verify(written(tmp_path, installation(Path(shutil.which("true") or "/bin/true")))) == ""


@pytest.mark.parametrize(
    "place", ["/data/my repository", "/data/50%", '/data/a "b"', "/data/$HOME", "/data/模型", "/data/a\\b"]
)
def test_odd_paths_reach_the_command_as_they_are(tmp_path: Path, place: str) -> None:
    needs_systemd()
    odd = installation(Path(shutil.which("true") or "/bin/true"), repository=place, options=("--repo", place))
    assert verify(written(tmp_path, odd)) == ""


@pytest.mark.parametrize("unit", sorted(HIGHEST_EXPOSURE))
def test_a_unit_may_do_little(tmp_path: Path, unit: str) -> None:
    needs_systemd()
    written(tmp_path, example())
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(tmp_path / f"{unit}.service")],
        capture_output=True,
        text=True,
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd cannot judge a file: {done.stderr.strip()[:200]}")
    assert float(found[1]) <= HIGHEST_EXPOSURE[unit]


def test_only_the_repository_and_the_scratch_place_can_be_written() -> None:
    text = unit_files(example())["zitcache-backup.service"]
    assert "ProtectSystem=strict" in text and "ProtectHome=read-only" in text
    assert "ReadWritePaths=-/data/zitcache -/data/zitcache-drill -/data/zitcache-proofs\n" in text


def test_nothing_is_written_into_an_empty_mount_point() -> None:
    for name, text in unit_files(example()).items():
        if name.endswith(".service"):
            assert "RequiresMountsFor=/data/zitcache " in text


def test_a_night_that_was_slept_through_is_made_up_for() -> None:
    for name, text in unit_files(example()).items():
        if name.endswith(".timer"):
            assert "Persistent=true" in text and "RandomizedDelaySec=" in text


def test_only_the_unit_that_draws_sees_the_gpu() -> None:
    files = unit_files(example())
    for name in ("zitcache-backup.service", "zitcache-check.service"):
        assert "PrivateDevices=yes" in files[name] and "MemoryDenyWriteExecute=yes" in files[name]
    assert "PrivateDevices=no" in files["zitcache-proof.service"]
    assert "MemoryDenyWriteExecute=no" in files["zitcache-proof.service"]


def test_a_repository_in_a_bucket_needs_no_mount() -> None:
    remote = Installation(program=("/usr/bin/zitcache",), repository="s3://bucket/prefix")
    text = unit_files(remote)["zitcache-backup.service"]
    assert "RequiresMountsFor" not in text and "network-online.target" in text


def test_both_days_of_a_cron_expression_are_kept() -> None:
    both = installation(Path("/bin/true"), at=parse_times("0 2 1 * mon"))
    timer = unit_files(both)["zitcache-backup.timer"]
    assert timer.count("OnCalendar=") == 2


def test_a_line_break_cannot_smuggle_a_setting_in() -> None:
    with pytest.raises(UsageError):
        unit_files(installation(Path("/bin/true"), repository="/data\nExecStartPre=/bin/rm"))


def test_a_unit_runs_the_program_as_it_is_written(tmp_path: Path) -> None:
    """Read back the way systemd splits words, without systemd running."""
    program = tmp_path / "show words"
    program.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    program.chmod(0o755)
    text = unit_files(installation(program, options=("--repo", "/data/a b")))["zitcache-backup.service"]
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    import shlex

    done = subprocess.run(shlex.split(line.partition("=")[2]), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["--repo", "/data/a b"]
    assert os.access(program, os.X_OK)
