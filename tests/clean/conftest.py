"""A home of its own: what the tests may clean is theirs, and nobody's real caches are looked at."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.cache.builders import pipeline_files, write
from tests.clean.world import SNAPSHOT

_SETTINGS = (
    "ZITCACHE_REPO", "ZITCACHE_CACHE", "ZITCACHE_CONFIG", "MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE", "HF_XET_CACHE", "XDG_CACHE_HOME", "PIP_CACHE_DIR", "PIP_CONFIG_FILE",
    "UV_CACHE_DIR", "UV_LINK_MODE", "CONDA_EXE", "CONDA_PKGS_DIRS", "TORCH_HOME", "TORCH_EXTENSIONS_DIR",
    "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TRITON_HOME",
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config-here"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A ModelScope cache with one complete model."""
    root = tmp_path / "model_cache"
    write(root / SNAPSHOT, pipeline_files())
    return root
