"""The commands about nights, each in a process of its own: what one imports must not need another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.backup.world import zitcache
from tests.night.world import World


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("night", "--only", "backup"), 0),
        (("night", "--dry-run"), 0),
        (("schedule", "status"), 1),
        (("schedule", "remove", "--dry-run"), 0),
        (("status",), 1),
        (("history",), 0),
        (("log",), 6),
        (("report", "-o", "PAGE"), 0),
        (("config", "show"), 0),
        (("config", "validate"), 0),
        (("config", "init", "--dry-run"), 0),
        (("night", "--only", "nothing"), 2),
        (("night", "--wait", "soon"), 2),
        (("night", "--if-missed", "soon"), 2),
        (("schedule", "sometimes"), 2),
        (("schedule", "status", "--at", "02:00"), 2),
        (("schedule", "remove", "--backend", "cron"), 2),
        (("config", "shout"), 2),
        (("log", "zzz"), 6),
        (("history", "-n", "0"), 2),
    ],
)
def test_every_command_works_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    monkeypatch.setenv("ZITCACHE_REPO", str(world.place))
    monkeypatch.setenv("ZITCACHE_CACHE", str(world.cache))
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(tmp_path / "system"))
    done = zitcache(*(str(tmp_path / "page.html") if word == "PAGE" else word for word in words), "--json")
    told = json.loads(done.stdout)
    assert done.returncode == code == told["exit_code"], done.stdout
    assert told["command"] == words[0] and done.stderr == ""
    if code in {2, 6}:
        assert told["error"]["hint"]


def test_history_and_log_tell_of_a_night(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZITCACHE_REPO", str(world.place))
    world.night(only=("backup", "check"))
    world.night(only=("report",))
    told = json.loads(zitcache("history", "--json").stdout)["data"]
    assert [[step["name"] for step in run["steps"]] for run in told["runs"]] == [
        ["report"],
        ["backup", "check"],
    ]
    assert told["repository"] == str(world.place)
    shown = zitcache("history").stdout.splitlines()
    assert shown[0].split() == ["Id", "Started", "Took", "Exit", "Host", "What"] and len(shown) == 3
    wanted = told["runs"][1]["id"]
    log = json.loads(zitcache("log", wanted[:8], "--json").stdout)["data"]
    assert log["id"] == wanted and log["steps"][0]["data"]["size_bytes"] > 0
    assert "backup: " in zitcache("log", wanted[:8]).stdout
    assert zitcache("log").stdout.splitlines()[0].startswith("night ")
    one = json.loads(zitcache("history", "-n", "1", "--json").stdout)["data"]["runs"]
    assert [run["id"] for run in one] == [told["runs"][0]["id"]]


def test_history_of_an_unreachable_repository_shows_what_waits_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.night(only=("backup",))
    world.place.rename(world.place.with_name("away"))
    world.night(only=("backup",))
    monkeypatch.setenv("ZITCACHE_REPO", str(world.place))
    done = zitcache("history", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["data"]["repository"] is None
    assert [run["pending"] for run in told["data"]["runs"]] == [True]
    assert told["warnings"][0]["code"] == "repository-not-opened"
    assert "not in the repository yet" in zitcache("history").stdout
    assert "exit code 6" in zitcache("log").stdout
