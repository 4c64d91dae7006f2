"""Nights that are run from the kit on the data disk, where zitcache is not installed."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.schedule.world import Machine, make_machine, wait_for
from zitcache.events import Session
from zitcache.machine.schedulers import find_schedulers
from zitcache.repository.repository import Repository
from zitcache.schedule.daemon import running_scheduler
from zitcache.schedule.history import recent_runs, state_directory
from zitcache.storage.local import LocalStorage
from zitcache.tasks.kit import keep_kit

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = make_machine(tmp_path, monkeypatch)
    session = Session()
    keep_kit(made.place / "kit", session, environment={}, repository=str(made.place), cache=str(made.cache))
    assert session.warnings == []
    return made


def from_kit(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command from the kit, as on a machine where nothing is installed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        ["/bin/sh", str(machine.place / "kit/zitcache"), *words],
        capture_output=True,
        text=True,
        cwd="/",
        env=environ,
    )


def test_the_kit_is_a_scheduler_and_makes_up_for_a_night(machine: Machine) -> None:
    state_directory().mkdir(parents=True)
    (state_directory() / "last-night").write_text(f"{time.time() - 2 * 86_400:.0f}\n")
    words = ("--repo", str(machine.place), "--cache", str(machine.cache))
    done = from_kit(machine, "schedule", "install", "--backend", "daemon", *words)
    try:
        assert done.returncode == 0, done.stderr
        launcher = f"/bin/sh {machine.place}/kit/zitcache"
        assert f"{launcher} schedule run --at '0 2 * * *' --repo {machine.place}" in done.stdout
        assert find_schedulers().own_daemon is not None, "doctor sees it, too"
        repository = Repository.open(LocalStorage(machine.place))
        wait_for(lambda: len(recent_runs(repository, state_directory())) == 1, 60)
        assert recent_runs(repository, state_directory())[0].record.exit_code == 0
    finally:
        done = from_kit(machine, "schedule", "remove")
    assert done.returncode == 0 and running_scheduler(state_directory()) is None
    assert "Nothing is scheduled" in done.stdout
