"""Settings of the person who runs the tests must not reach the program under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.harness import Result, run_program


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ZITCACHE_REPO", "ZITCACHE_CACHE", "ZITCACHE_CONFIG", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config-here"))
    monkeypatch.setattr("sys.argv", ["zitcache"])


@pytest.fixture
def zitcache(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """``zitcache("backup", "--json")`` runs the program and gives exit code, stdout and stderr."""
    return lambda *arguments: run_program(capsys, *arguments)
