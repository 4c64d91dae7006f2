from __future__ import annotations

from pathlib import Path

import pytest

from zitcache.errors import UsageError
from zitcache.events import Session
from zitcache.tasks.settings import (
    MAX_CONFIG_BYTES,
    Origin,
    load_config,
    resolve_cache,
    resolve_repository,
    warn_ignored,
)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


def write_config(
    environ: dict[str, str], text: str | bytes, place: str = ".config/zitcache/config.toml"
) -> Path:
    path = Path(environ["HOME"]) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_flag_beats_environment_beats_config(environ: dict[str, str]) -> None:
    assert resolve_repository(None, environ).origin is Origin.UNSET
    config = write_config(environ, 'repo = "/from/config"\ncache = "/cache/from/config"\n')
    setting = resolve_repository(None, environ)
    assert (setting.value, setting.origin, setting.source) == ("/from/config", Origin.CONFIG, str(config))
    environ["ZITCACHE_REPO"] = "/from/environment"
    setting = resolve_repository(None, environ)
    assert (setting.value, setting.origin) == ("/from/environment", Origin.ENVIRONMENT)
    setting = resolve_repository("/typed", environ)
    assert (setting.value, setting.origin) == ("/typed", Origin.FLAG)
    assert resolve_cache(None, environ).value == "/cache/from/config"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZITCACHE_CACHE", "/c")
    assert resolve_cache(None).value == "/c"


def test_empty_values_count_as_unset_and_are_said(environ: dict[str, str]) -> None:
    environ["ZITCACHE_REPO"] = ""
    write_config(environ, 'repo = "/from/config"')
    setting = resolve_repository("", environ)
    assert setting.value == "/from/config" and setting.empty == ("--repo", "ZITCACHE_REPO")
    session = Session()
    warn_ignored(setting, session)
    assert [notice.code for notice in session.warnings] == ["empty-setting"] * 2
    assert "ZITCACHE_REPO is set but empty" in session.warnings[1].message
    config = write_config(environ, 'repo = ""')
    assert resolve_repository(None, environ).value is None
    assert resolve_repository(None, environ).empty[-1] == f"repo in {config}"


def test_where_the_config_is_looked_for(environ: dict[str, str], tmp_path: Path) -> None:
    write_config(environ, 'repo = "/home-config"')
    (tmp_path / "xdg/zitcache").mkdir(parents=True)
    (tmp_path / "xdg/zitcache/config.toml").write_text('repo = "/xdg"')
    (tmp_path / "own.toml").write_text('repo = "/own"')

    def repo(**more: str) -> str | None:
        return resolve_repository(None, {**environ, **more}).value

    assert repo() == "/home-config"
    assert repo(XDG_CONFIG_HOME="") == "/home-config"
    assert repo(XDG_CONFIG_HOME="relative") == "/home-config", "XDG: a relative value is ignored"
    assert repo(XDG_CONFIG_HOME=str(tmp_path / "xdg")) == "/xdg"
    assert repo(XDG_CONFIG_HOME=str(tmp_path / "xdg"), ZITCACHE_CONFIG=str(tmp_path / "own.toml")) == "/own"
    assert repo(ZITCACHE_CONFIG="") == "/home-config"


def test_tilde_and_relative_paths(environ: dict[str, str]) -> None:
    home = environ["HOME"]
    assert resolve_repository("~/repo", environ).value == f"{home}/repo"
    environ["ZITCACHE_REPO"] = "~"
    assert resolve_repository(None, environ).value == home
    del environ["ZITCACHE_REPO"]
    config = write_config(environ, 'repo = "../here"\ncache = "s3://bucket/x"', "data/conf/zitcache.toml")
    environ["ZITCACHE_CONFIG"] = "~/data/conf/zitcache.toml"
    assert resolve_repository(None, environ).value == str(config.parent.parent / "here")
    assert resolve_cache(None, environ).value == "s3://bucket/x"
    assert resolve_repository("relative", environ).value == "relative", "what is typed is meant from here"


def test_a_config_that_was_named_must_exist(environ: dict[str, str]) -> None:
    environ["ZITCACHE_CONFIG"] = "/nonexistent/zitcache.toml"
    with pytest.raises(UsageError, match=r"/nonexistent/zitcache\.toml does not exist"):
        resolve_repository(None, environ)
    assert resolve_repository("/typed", environ).value == "/typed", "not needed, not read"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('repo = "/a"\nrepo = "/b"\n', 2, ""),
        ('cache = "/c"\nrepo = /a\n', 2, ""),
        ('\n\nrepos = "/a"\n', 3, "'repo'"),
        ('repository = "/a"\n', 1, "'repo'"),
        ('[cache]\ndir = "/a"\n', 1, "must be a text"),
        ("repo = 5\n", 1, "must be a text"),
        ('repo.place = "/x"\n', 1, "must be a text"),
        ('repo = "a\\u0000b"\n', 1, "NUL"),
        (b'repo = "/a"\ncache = "\xff"\n', 2, "UTF-8"),
        ('zzz = "/a"\n', 1, "Known settings"),
        ("[[[[", 1, ""),
    ],
)
def test_a_wrong_config_names_file_and_line(
    environ: dict[str, str], text: str | bytes, line: int, said: str
) -> None:
    config = write_config(environ, text)
    with pytest.raises(UsageError) as caught:
        resolve_repository(None, environ)
    assert f"{config}, line {line}:" in caught.value.message
    assert said in caught.value.message + str(caught.value.hint)


def test_a_huge_or_deep_config_is_refused(environ: dict[str, str]) -> None:
    write_config(environ, b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(UsageError, match="larger than"):
        resolve_repository(None, environ)
    write_config(environ, "repo = " + "[" * 100_000)
    with pytest.raises(UsageError, match="not usable"):
        resolve_repository(None, environ)


def test_a_config_that_is_a_folder_or_under_a_file(environ: dict[str, str]) -> None:
    path = write_config(environ, "")
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        resolve_repository(None, environ)
    path.rmdir()
    path.parent.rmdir()
    path.parent.write_text("a file where the folder would be")
    assert resolve_repository(None, environ).origin is Origin.UNSET


WHOLE = """
repo = "/data/zitcache"
kit = false
[schedule]
at = "0 3 * * *"
backend = "cron"
[retention]
keep_daily = 14
keep_tag = ["golden"]
[night]
drill_days = 7
[notify]
ping = "https://hc.example/uuid"
on = "failure"
[hooks]
before = "mount /data"
required = true
[metrics]
textfile = "/var/lib/node_exporter/zitcache.prom"
[status]
backup_hours = 48
"""


def test_every_section_is_read(environ: dict[str, str]) -> None:
    write_config(environ, WHOLE)
    found = load_config(environ)
    assert found is not None
    config = found[1]
    assert (config.repo, config.kit, config.schedule.backend) == ("/data/zitcache", False, "cron")
    assert (config.retention.keep_daily, config.retention.keep_weekly) == (14, 4)
    assert (config.night.drill_days, config.status.backup_hours) == (7, 48)
    assert config.notify.on == "failure" and config.hooks.required


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[retention]\nkeep-daily = 7\n", 2, "Did you mean 'keep_daily'?"),
        ("[retention]\nkeep_dayly = 7\n", 2, "Did you mean 'keep_daily'?"),
        ("[notifi]\n", 1, "Did you mean 'notify'?"),
        ("[schedule]\nzzz = 1\n", 2, "Known settings in [schedule]: at, backend."),
        ('[schedule]\nbackend = "launchd"\n', 2, "launchd"),
        ("[schedule]\nat = 5\n", 2, "schedule.at must be a text in quotes"),
        ('[retention]\nkeep_daily = "many"\n', 2, "retention.keep_daily must be a whole number"),
        ("[retention]\nkeep_daily = -5\n", 2, "retention.keep_daily"),
        ("schedule = 5\n", 1, "schedule must be a section"),
        ('[notify]\napprise = "dingtalk://x"\n', 2, "notify.apprise must be a list"),
        ('kit = "yes"\n', 1, "kit must be true or false"),
    ],
)
def test_a_wrong_section_names_the_line_and_what_was_meant(
    environ: dict[str, str], text: str, line: int, said: str
) -> None:
    config = write_config(environ, text)
    with pytest.raises(UsageError) as caught:
        load_config(environ)
    assert f"{config}, line {line}:" in caught.value.message
    assert said in caught.value.message + str(caught.value.hint)
