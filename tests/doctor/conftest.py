"""A machine of one's own: a home, a directory that stands for ``/`` with its settings, disks of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.doctor.world import Box
from zitcache.machine import mounts
from zitcache.machine.gpus import Gpus
from zitcache.machine.schedulers import Schedulers
from zitcache.tasks import locations
from zitcache.tasks.doctor import disk_facts, facts

_OURS = ("ZITCACHE_", "HF_", "HUGGINGFACE_", "MODELSCOPE_", "MS_", "XDG_", "TRANSFORMERS_", "CUDA_")


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """Nothing is installed, no cache, no repository, no data disk, no GPU; nothing runs jobs."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    home, system = tmp_path / "home", tmp_path / "system"
    home.mkdir()
    system.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(system))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.chdir(home)
    real = mounts.data_mounts

    def of_this_test() -> tuple[mounts.Mount, ...]:
        """Other tests mount disks at the same time."""
        return tuple(mount for mount in real() if mount.mount_point.startswith(f"{tmp_path}/"))

    monkeypatch.setattr(disk_facts, "data_mounts", of_this_test)
    monkeypatch.setattr(locations, "data_mounts", of_this_test)
    monkeypatch.setattr("zitcache.tasks.discovery.data_mounts", of_this_test)
    monkeypatch.setattr(facts, "PATIENCE_SECONDS", 120.0)
    nothing = Schedulers(systemd=False, cron=False, cron_daemon=None, cron_command=None, own_daemon=None)
    monkeypatch.setattr(facts, "find_schedulers", lambda: nothing)
    monkeypatch.setattr(facts, "find_gpus", lambda environ: Gpus((), "none"))
    with ExitStack() as stack:
        yield Box(tmp_path, home, system, monkeypatch, stack)
