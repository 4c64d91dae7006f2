"""The backends that every test of the contract runs against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.faults import FaultyStorage
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Storage


@pytest.fixture(params=["local", "faulty"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Each backend, empty. "faulty" without faults shows that the test double keeps the contract too."""
    local = LocalStorage(tmp_path / "repository")
    yield local if request.param == "local" else FaultyStorage(local)
    local.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalStorage]:
    storage = LocalStorage(tmp_path / "repository")
    yield storage
    storage.close()
