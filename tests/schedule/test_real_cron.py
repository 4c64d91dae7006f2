"""The real cron daemon runs real nights from the file that ``schedule install`` writes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.schedule.world import Machine, make_machine, wait_for
from tests.storage.disks import python_environment
from zitcache.machine.schedulers import find_schedulers
from zitcache.repository.repository import Repository
from zitcache.schedule.history import Run, recent_runs, state_directory
from zitcache.storage.local import LocalStorage

pytestmark = pytest.mark.root


def runs(machine: Machine) -> list[Run]:
    return recent_runs(Repository.open(LocalStorage(machine.place)), state_directory())


def start_cron(folder: Path, *, crontab: bool) -> subprocess.Popen[bytes]:
    """cron in a world of its own: no other crontab, another ``/run``, and it ends with its first process."""
    cron = shutil.which("cron", path="/usr/sbin:/usr/bin")
    if cron is None:
        pytest.skip("needs cron (package cron)")
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("needs root, and namespaces that may be unshared")
    place = "/var/spool/cron/crontabs" if crontab else "/etc/cron.d"
    empty = "/etc/cron.d" if crontab else "/var/spool/cron/crontabs"
    script = [
        "set -e",
        "mount -t tmpfs none /run",
        f"mount --bind {shlex.quote(str(folder))} {place}",
        f"mount -t tmpfs none {empty}",
        "mount --bind /dev/null /etc/crontab",
        f"exec {cron} -f",
    ]
    return subprocess.Popen(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            "\n".join(script),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zitcache", "a 'b' 50% $HOME 数据"])
def test_cron_runs_two_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A minute is the shortest time that cron knows."""
    machine = make_machine(tmp_path, monkeypatch, place=f"data/{name}")
    machine.alive.add("cron")
    # What a console script is to an installed zitcache: cron gives no PYTHONPATH.
    program = tmp_path / "bin/zitcache"
    program.parent.mkdir()
    path = shlex.quote(python_environment()["PYTHONPATH"])
    program.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} -m zitcache "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    config = machine.home / ".config/zitcache/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("kit = false\n[night]\nproof = false\n")
    report, _, _ = machine.install(at="* * * * *")
    assert report.armed
    cron = start_cron(machine.cron_file.parent, crontab=False)
    try:
        wait_for(lambda: len(runs(machine)) >= 2, 150)
    finally:
        cron.kill()
        cron.wait()
    second, first = runs(machine)[:2]
    assert (first.record.exit_code, second.record.exit_code) == (0, 0), first.record.log
    assert 30 < second.record.started - first.record.started < 90
    assert first.record.step("drill") is not None and second.record.step("drill") is None


def test_a_living_cron_is_seen_and_a_dead_one_is_not(tmp_path: Path) -> None:
    """A cron in a namespace of its own reads other files than we do: it does not count."""
    before = find_schedulers().cron
    cron = start_cron(tmp_path, crontab=False)
    try:
        wait_for(lambda: _is_running(cron.pid), 5)
        assert find_schedulers().cron is before
    finally:
        cron.kill()
        cron.wait()


def _is_running(parent: int) -> bool:
    found = subprocess.run(["pgrep", "-P", str(parent), "-x", "cron"], capture_output=True)
    return found.returncode == 0
