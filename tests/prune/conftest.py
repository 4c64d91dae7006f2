"""Settings of the person who runs the tests must not reach the tasks."""

from __future__ import annotations

import pytest

from tests.tasks.conftest import no_settings

__all__ = ["no_settings"]


@pytest.fixture(autouse=True)
def one_pack_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small backup writes one pack, however many processors there are."""
    monkeypatch.setattr("zitcache.tasks.backup._streams", lambda *arguments: 1)
