"""A cache with a repository; settings and disks of the person who runs the tests stay out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verify.places import Place


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "ZITCACHE_REPO",
        "ZITCACHE_CACHE",
        "ZITCACHE_CONFIG",
        "MODELSCOPE_CACHE",
        "HF_HOME",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config-here"))
    monkeypatch.setattr("zitcache.tasks.locations.data_mounts", lambda: ())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A ModelScope cache of one model with shards of a few MiB, backed up."""
    return Place.of_shards(tmp_path)
