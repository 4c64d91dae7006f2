"""A home and a system of their own: nothing of the machine that runs the tests is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.environment.machine import Machine
from zitcache.tasks.environment.sources import VARIABLES


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name in (*VARIABLES, "ZDOTDIR", "XDG_CONFIG_HOME", "SHELL"):
        monkeypatch.delenv(name, raising=False)
    made = Machine(tmp_path / "home", tmp_path / "system")
    made.home.mkdir()
    (made.system / "etc/profile.d").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(made.system))
    monkeypatch.chdir(tmp_path)
    return made
