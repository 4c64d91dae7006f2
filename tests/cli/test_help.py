from __future__ import annotations

import pytest

from tests.cli.harness import COMMANDS, Result
from zitcache import __version__
from zitcache.cli.catalog import COMMANDS as CATALOG


@pytest.mark.parametrize("command", CATALOG)
def test_help_begins_with_examples_that_can_be_copied(zitcache, command: str) -> None:
    result: Result = zitcache(command, "--help")
    assert result.code == 0 and result.err == ""
    first, *rest = result.out.splitlines()
    assert first == "Examples:"
    examples = rest[: rest.index("")]
    assert examples
    assert all(line.startswith(f"  zitcache {command}") for line in examples), "one example a line"
    assert all(len(line) <= 80 for line in examples), "fits a terminal of 80 columns"
    assert result.out.index("Examples:") < result.out.index("Usage:") < result.out.index("Options:")


@pytest.mark.parametrize("command", CATALOG)
def test_every_command_has_the_shared_options(zitcache, command: str) -> None:
    out = zitcache(command, "-h").out
    for option in ("--json", "--quiet", "-q", "--verbose", "-v", "--no-progress", "--color", "--debug"):
        assert option in out


@pytest.mark.parametrize("command", ["backup", "restore", "verify", "clean", "migrate"])
def test_commands_that_change_something_have_a_dry_run(zitcache, command: str) -> None:
    assert "--dry-run" in zitcache(command, "--help").out


@pytest.mark.parametrize(
    "command", ["init", "backup", "restore", "snapshots", "diff", "verify", "check", "drill"]
)
def test_commands_on_a_repository_take_r(zitcache, command: str) -> None:
    assert "-r, --repo" in zitcache(command, "--help").out


def test_the_help_of_the_program_lists_every_command(zitcache) -> None:
    out = zitcache("--help").out
    assert out.startswith("Examples:\n  zitcache doctor")
    for command, line in CATALOG.items():
        assert command in out and line in out


def test_every_command_is_tested_here() -> None:
    assert set(COMMANDS) == set(CATALOG)


def test_version(zitcache) -> None:
    result: Result = zitcache("--version")
    assert (result.code, result.out) == (0, f"zitcache {__version__}\n")


def test_no_command_shows_the_help_and_is_a_usage_error(zitcache) -> None:
    result: Result = zitcache()
    assert result.code == 2
    assert result.out == "", "stdout is for results"
    assert "Usage: zitcache" in result.err
