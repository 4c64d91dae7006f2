"""The same surroundings as for the tests of backup."""

from __future__ import annotations

from tests.backup.conftest import alone, cache, open_place, repository, target

__all__ = ["alone", "cache", "open_place", "repository", "target"]
