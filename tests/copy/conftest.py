"""What the tests of copy share: the real server where it is needed, and a metadata cache of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3.fixtures import proxy, s3_keys, s3_location, s3_server

__all__ = ["proxy", "s3_keys", "s3_location", "s3_server"]


@pytest.fixture(autouse=True)
def metadata_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Never that of the person who runs the tests."""
    place = tmp_path / "metadata-cache"
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(place))
    return place
