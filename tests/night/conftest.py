from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.night.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in [name for name in os.environ if name.startswith(("ZITCACHE_", "XDG_", "MODELSCOPE", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return World(tmp_path)
