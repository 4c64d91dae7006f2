"""What the pages about nights say is what the program does: settings, defaults, commands, metrics."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import run_program
from tests.cli.night_reports import overview
from tests.config.test_config import names
from zitcache.cli.catalog import COMMANDS
from zitcache.schedule.metrics import PREFIX, exposition
from zitcache.tasks.config.trying import problems_in
from zitcache.tasks.configuration import Config, parse_config
from zitcache.tasks.night.steps import STEPS
from zitcache.tasks.night.telling import metrics_of

PAGES = Path(__file__).parents[2] / "docs/how-to"
OURS = ("run-every-night.md", "get-told.md", "configure.md", "read-the-report.md")


def code(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", ["get-told.md", "configure.md"])
def test_every_piece_of_configuration_is_one(page: str) -> None:
    pieces = code(page, "toml")
    assert pieces
    for piece in pieces:
        config = parse_config(Path("config.toml"), piece.encode())
        found = [problem for problem in problems_in(config) if "there is no folder" not in problem]
        if "apprise" in sys.modules or not config.notify.apprise:
            assert found == []


def test_every_setting_is_on_the_page_with_its_default() -> None:
    (whole,) = code("configure.md", "toml")
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(whole)
    shown = {
        f"{key}.{inner}" if isinstance(value, dict) else key
        for key, value in toml.items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    assert shown == set(names(Config))
    default, given = Config(), parse_config(Path("config.toml"), whole.encode())
    for section in ("schedule", "retention", "status"):
        assert getattr(given, section) == getattr(default, section), f"[{section}] shows its defaults"


@pytest.mark.parametrize("page", OURS)
def test_every_command_is_one(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for piece in code(page, "sh") for line in piece.splitlines() if line.strip()]
    inline = re.findall(r"`(zitcache [a-z][^`]*)`", (PAGES / page).read_text())
    assert lines
    for line in [*lines, *inline]:
        words = shlex.split(line, comments=True)
        assert words[0] == "zitcache" and words[1] in COMMANDS, line
        for word in words[2:]:
            if word.startswith("-"):
                option = word.partition("=")[0].split("|")[0]
                assert option in run_program(capsys, words[1], "--help").out, f"{line}: no {option}"


def test_every_step_of_a_night_is_explained() -> None:
    text = (PAGES / "run-every-night.md").read_text()
    assert re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE) == list(STEPS)


def test_every_metric_is_explained() -> None:
    from zitcache.schedule.history import RunRecord, StepRecord

    text = (PAGES / "get-told.md").read_text()
    explained = set(re.findall(rf"{PREFIX}[a-z_]+", text))
    for stem in ("zitcache_last_run", "zitcache_step"):
        explained |= {f"{stem}{ending}" for ending in re.findall(r"`…(_[a-z_]+)`", text)}
    step = StepRecord(name="backup", exit_code=0, seconds=1.0)
    record = RunRecord(
        command="night", host="h", program="p", started=1.0, ended=2.0, exit_code=0, steps=[step]
    )
    written = set(re.findall(r"^# TYPE (\S+)", exposition(metrics_of(record, overview())), re.MULTILINE))
    assert written <= explained, written - explained


def test_links_lead_somewhere() -> None:
    for page in OURS:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (PAGES / page).read_text()):
            assert "://" in target or (PAGES / target).resolve().exists(), f"{page}: {target}"
