"""For all tests: which of them take long, and no kit in the repositories that they make by the hundred."""

from __future__ import annotations

import os

import pytest

os.environ["ZITCACHE_KIT"] = "no"  # those about the kit say so


LONG = (
    "tests/copy/test_interrupted.py",
    "tests/docs/",
    "tests/kit/test_command.py",
    "tests/kit/test_content.py",
    "tests/migrate/test_faults.py",
    "tests/migrate/test_kills.py",
    "tests/migrate/test_users.py",
    "tests/night/test_bucket.py",
    "tests/prune/test_interleavings.py",
    "tests/prune/test_s3.py",
    "tests/prune/test_stops.py",
    "tests/prune/test_year.py",
    "tests/report/test_page.py",
    "tests/reset/",
    "tests/s3/test_commands.py",
    "tests/s3/test_faults.py",
    "tests/s3/test_together.py",
    "tests/schedule/test_daemon.py",
    "tests/schedule/test_real_cron.py",
)
"""Modules that are ``slow`` as a whole, but for :data:`ALWAYS`."""

ALWAYS = (
    "test_a_migrated_cache_is_back_in_a_moment",
    "test_a_snapshot_is_back_where_it_was",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is ``slow``, and say so."""
    skip = pytest.mark.skip(reason="takes long: run with --slow")
    for item in items:
        if item.nodeid.startswith(LONG) and not item.name.startswith(ALWAYS):
            item.add_marker(pytest.mark.slow)
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(skip)
