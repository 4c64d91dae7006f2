"""An environment in which no other cache and no other repository is found."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup.world import back_up, bring_back, make_model


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the user, and an empty home."""
    for name in list(os.environ):
        if name.startswith(("ZITCACHE_", "HF_", "HUGGINGFACE_", "MODELSCOPE_", "XDG_")):
            if name == "ZITCACHE_KIT":
                continue  # set for all tests: see tests/conftest.py
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where a test makes its cache."""
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Where a test makes its repository."""
    return tmp_path / "data" / "zitcache"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a test restores to."""
    return tmp_path / "restored" / "cache"


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user may write to: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="zitcache-test-") as name:
        # What is loaded late must be loaded now: another user may not be able to read this Python.
        import_everything()
        os.chmod(name, 0o777)
        (Path(name) / "data").mkdir()
        (Path(name) / "data").chmod(0o777)
        yield Path(name)


def import_everything() -> None:
    """All modules that a backup and a restore import on their way."""
    with tempfile.TemporaryDirectory() as name:
        cache = make_model(Path(name) / "cache")
        back_up(Path(name) / "repository", cache)
        bring_back(Path(name) / "repository", Path(name) / "target")
