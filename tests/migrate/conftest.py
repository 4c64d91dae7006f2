"""Surroundings in which nothing of the user is found, and nothing of the machine is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup.conftest import alone
from tests.migrate.world import Disks, two_disks

__all__ = ["alone"]


@pytest.fixture(autouse=True)
def system_root(tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for ``/``, where the environment is written to."""
    root = tmp_path / "system-root"
    (root / "etc").mkdir(parents=True)
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(root))
    return root


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    """A system disk and a data disk."""
    with two_disks(tmp_path) as found:
        yield found
