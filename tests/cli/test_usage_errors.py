from __future__ import annotations

import pytest

from tests.cli import harness
from tests.cli.harness import Result, fake, returning

WRONG = [
    (("backup", "--nonsense"), "backup", "--nonsense"),
    (("backup", "stray"), "backup", "stray"),
    (("backup", "--repo"), "backup", "--repo"),
    (("backup", "--color", "pink"), "backup", "pink"),
    (("backup", "--reread", "30"), "backup", "--reread 30%"),
    (("backup", "--reread", "some"), "backup", "some"),
    (("bakup",), None, "zitcache backup"),
    (("nonsense",), None, "zitcache --help"),
    (("diff", "one"), "diff", "B"),
    (("sample",), "sample", "DIR"),
    (("sample", "/x", "--layout", "other"), "sample", "huggingface-shared"),
    (("init",), "init", "zitcache init /path"),
    (("init", "/a", "-r", "/b"), "init", "/a"),
    (("verify", "/a", "--cache", "/b"), "verify", "/b"),
    (("-q", "backup"), "backup", "after the command"),
]


@pytest.mark.parametrize(("arguments", "command", "mentioned"), WRONG, ids=lambda value: str(value))
def test_wrong_arguments_are_exit_2_and_say_what_to_do(
    zitcache, arguments: tuple[str, ...], command: str | None, mentioned: str
) -> None:
    result: Result = zitcache(*arguments)
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("error: ") and "\nhint: " in result.err
    assert mentioned in result.err

    in_json: Result = (
        zitcache(*arguments, "--json")
        if arguments != ("backup", "--repo")
        else zitcache("backup", "--json", "--repo")
    )
    envelope = in_json.envelope
    assert (in_json.code, envelope["exit_code"], envelope["ok"]) == (2, 2, False)
    assert envelope["command"] == command and envelope["error"]["code"] == "usage"
    assert in_json.err == ""


def test_json_before_the_command_still_gives_json(zitcache) -> None:
    result: Result = zitcache("--json", "backup")
    assert result.code == 2 and result.envelope["command"] == "backup"
    assert "after the command" in result.envelope["error"]["hint"]


def test_json_after_two_dashes_is_an_argument(zitcache) -> None:
    assert zitcache("diff", "--", "--json").out == ""


def test_a_wrong_config_is_a_usage_error_of_the_command(zitcache, monkeypatch, tmp_path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('rebo = "/data"\n')
    monkeypatch.setenv("ZITCACHE_CONFIG", str(config))
    fake(monkeypatch, "snapshots.init", returning(harness.INIT_REPORT))
    result: Result = zitcache("init")
    assert result.code == 2
    assert f"{config}, line 1" in result.err and "'repo'" in result.err
