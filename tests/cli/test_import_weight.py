"""Light commands stay light: what they must not have imported, rather than how long they take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "numpy", "zstandard", "blake3", "psutil", "rich", "pydantic", "torch", "asyncio", "unittest",
    "importlib.metadata", "email", "http", "ssl",
}  # fmt: skip
# Typer itself may need these in some versions; what they cost is part of "import typer".
REPORT = """
import json, sys
import typer
before = set(sys.modules)
from zitcache.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""


def modules_after(*arguments: str) -> tuple[int, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    code, names = json.loads(done.stderr.splitlines()[-1])
    return code, set(names)


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), (), ("backup", "--help"), ("verify", "-h")]
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    _, names = modules_after(*arguments)
    assert not names & HEAVY
    assert not any(name.startswith("rich.") for name in names)
    assert not any(name.startswith("zitcache.tasks.") for name in names)


def test_the_help_of_the_program_imports_no_command() -> None:
    _, names = modules_after("--help")
    assert not {"zitcache.cli.backup", "zitcache.cli.runner", "msgspec"} & names


def test_a_command_imports_no_other_command() -> None:
    _, names = modules_after("models", "--help")
    assert "zitcache.cli.models" in names and "zitcache.cli.backup" not in names


def test_parsing_options_needs_no_validation_library() -> None:
    code, names = modules_after("init", "-r", "/a", "/b", "--color", "never", "-v")
    assert code == 2
    assert "pydantic" not in names and not names & HEAVY


def test_without_a_terminal_no_terminal_library_is_imported() -> None:
    code, names = modules_after("init")  # goes all the way through the runner, to a usage error of the task
    assert code == 2
    assert not any(name.partition(".")[0] == "rich" for name in names)
