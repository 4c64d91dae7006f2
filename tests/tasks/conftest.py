"""Settings of the person who runs the tests must not reach the tasks."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "ZITCACHE_REPO",
        "ZITCACHE_CACHE",
        "ZITCACHE_CONFIG",
        "MODELSCOPE_CACHE",
        "HF_HOME",
        "HF_HUB_CACHE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config-here"))
