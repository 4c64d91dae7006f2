"""``config``: what is set and by whom, what is wrong with it, and a first file that asks the machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.backup.world import make_model
from zitcache.errors import Exit, UsageError
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.schedule.sections import Section
from zitcache.storage.local import LocalStorage
from zitcache.tasks.config import ConfigValidation, init_config, show, validate
from zitcache.tasks.configuration import Config, parse_config
from zitcache.tasks.kit.settings import current_settings

EVERYTHING = """\
repo = "/data/zitcache"
cache = "/root/workspace/model_cache"
endpoint_url = "https://oss.example.com"
region = "cn-hangzhou"
profile = "backup"
concurrency = 8
limit_upload = "20M"
limit_download = "100Mbit"
kit = false

[schedule]
at = "30 3 * * *"
backend = "cron"

[retention]
keep_last = 3
keep_hourly = 1
keep_daily = 14
keep_weekly = 8
keep_monthly = 12
keep_yearly = -1
keep_within = "1y2m3d4h"
keep_tag = ["release", "a,b"]

[night]
reread = "1/7"
read_data = "10%"
prune_days = 3
drill_days = 14
proof_days = 14.5
proof = false
scratch = "/data/drill"
report = "/tmp/report.html"

[notify]
ping = "https://hc-ping.com/uuid"
webhook = "https://example.com/hook"
apprise = ["json://127.0.0.1/x"]
on = "failure"

[hooks]
before = "true"
after = "true"
required = true

[metrics]
textfile = "/tmp/zitcache.prom"

[status]
backup_hours = 30
check_days = 50
drill_days = 60
proof_days = 70
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("ZITCACHE_", "XDG_", "MODELSCOPE", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("zitcache.tasks.config.writing.data_mounts", lambda: ())
    monkeypatch.setattr("zitcache.tasks.config.writing.discovered_repositories", list)
    (tmp_path / "home/.config/zitcache").mkdir(parents=True)
    return tmp_path / "home"


def configure(home: Path, text: str, mode: int = 0o600) -> Path:
    path = home / ".config/zitcache/config.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def names(section: type[Section], prefix: str = "") -> list[str]:
    found = []
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            found += names(field.type, f"{field.name}.")
        else:
            found.append(prefix + field.name)
    return found


# -- show ----------------------------------------------------------------------


def test_every_setting_is_shown_with_what_set_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = configure(home, EVERYTHING)
    monkeypatch.setenv("ZITCACHE_REPO", "/elsewhere")
    report = show(Session()).data
    by_name = {setting.name: setting for setting in report.settings}
    assert list(by_name) == names(Config), "all of them, once"
    assert report.path == str(path)
    assert {setting.origin for setting in report.settings} == {"environment", "config"}, "the file sets all"
    assert (by_name["repo"].value, by_name["repo"].source) == ("/elsewhere", "ZITCACHE_REPO")
    assert (by_name["retention.keep_daily"].value, by_name["retention.keep_daily"].source) == (14, str(path))


def test_without_a_file_all_are_defaults(home: Path) -> None:
    report = show(Session()).data
    assert report.path is None and {setting.origin for setting in report.settings} == {"default"}


def test_secrets_are_not_shown(home: Path) -> None:
    configure(home, '[notify]\nping = "https://hc-ping.com/SECRET"\napprise = ["dingtalk://SECRET@x/y"]\n')
    text = msgspec.json.encode(show(Session()).data).decode()
    assert "SECRET" not in text and "https://…" in text and "dingtalk://…" in text


# -- validate ----------------------------------------------------------------------


def problems(text: str, home: Path, mode: int = 0o600) -> list[str]:
    configure(home, text, mode)
    outcome = validate(None, Session())
    report: ConfigValidation = outcome.data
    assert (outcome.exit_code == Exit.OK) is (report.problems == [])
    assert outcome.exit_code in {Exit.OK, Exit.USAGE}
    return report.problems


def test_a_file_that_sets_everything_is_fine(home: Path) -> None:
    assert problems(EVERYTHING, home) == []


def test_what_init_writes_is_fine(home: Path, tmp_path: Path) -> None:
    init_config(Session())
    assert validate(None, Session()).data.problems == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[notify]\npimg = "x"\n', "Did you mean 'ping'?"),
        ('repository = "/data"\n', "Did you mean 'repo'?"),
        ("[retentoin]\nkeep_daily = 1\n", "Did you mean 'retention'?"),
        ("[retention]\nkeep-daily = 1\n", "Did you mean 'keep_daily'?"),
        ("[retention]\nkeep_daily = 'many'\n", "keep_daily must be a whole number"),
        ('[schedule]\nat = "25 2 * *"\n', "five fields"),
        ('[schedule]\nat = "0 2 31 2 *"\n', "never happens"),
        ('[schedule]\nbackend = "launchd"\n', "backend"),
        ('[night]\nreread = "2"\n', "night.reread"),
        ('[night]\nread_data = "half"\n', "night.read_data"),
        ("[night]\ndrill_days = 0\n", "drill_days"),
        ('[night]\nreport = "page.html"\n', "must be an absolute path"),
        ('[night]\nscratch = "drill"\n', "must be an absolute path"),
        ('[night]\nreport = "/nonexistent/page.html"\n', "there is no folder /nonexistent"),
        ('[metrics]\ntextfile = "/tmp/zitcache.txt"\n', "must end in .prom"),
        ('[metrics]\ntextfile = "/nonexistent/zitcache.prom"\n', "there is no folder"),
        ("[retention]\nkeep_daily=0\nkeep_weekly=0\nkeep_monthly=0\n", "keeps nothing"),
        ('[retention]\nkeep_within = "soon"\n', "keep_within"),
        ('[notify]\nping = "hc-ping.com/uuid"\n', "notify.ping must begin with https://"),
        ('[notify]\nwebhook = "https://"\n', "name a server"),
        ('[notify]\napprise = ["no target"]\n', "no target that Apprise knows"),
        ('[notify]\non = "sometimes"\n', "on"),
        ('limit_upload = "fast"\n', "limit"),
        ('endpoint_url = "nonsense"\n', "endpoint"),
        ("concurrency = 100000\n", "concurrency"),
        ('repo = "s3://"\n', "bucket"),
        ("[[retention]]\nkeep_daily = 1\n", "retention"),
        ("schedule = 5\n", "schedule"),
        ("x = [\n", "line"),
        ("repo = 5\n", "repo must be a text in quotes"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_meant(home: Path, text: str, says: str) -> None:
    found = problems(text, home)
    assert len(found) == 1 and says in found[0], found


def test_a_secret_is_not_repeated_in_a_problem(home: Path) -> None:
    found = problems('[notify]\nping = "ftp://x/SECRET"\napprise = ["nothing://SECRET/x"]\n', home)
    assert len(found) == 2 and "SECRET" not in " ".join(found)


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ('[notify]\nping = "https://hc-ping.com/uuid"\n', 0o644, "can read"),
        ('[hooks]\nbefore = "true"\n', 0o666, "its hooks are not run"),
    ],
)
def test_what_others_can_read_or_change_is_said(home: Path, text: str, mode: int, says: str) -> None:
    (found,) = problems(text, home, mode)
    assert says in found and "chmod 600" in found


def test_a_disk_of_a_place_that_is_not_mounted_is_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fstab").write_text("UUID=1 /data ext4 nofail 0 2\n")
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(tmp_path))
    found = problems('repo = "/data/zitcache"\n[night]\nscratch = "/data/drill"\n', home)
    assert len(found) == 2 and all("/data is not mounted" in problem for problem in found)


def test_no_file_is_no_problem_and_a_named_one_that_is_missing_is(home: Path) -> None:
    outcome = validate(None, Session())
    assert outcome.exit_code == Exit.OK and outcome.data.path is None
    outcome = validate(str(home / "nothing.toml"), Session())
    assert outcome.exit_code == Exit.USAGE and "No such file" in outcome.data.problems[0]


# -- init ----------------------------------------------------------------------


def disk(place: str, free: int, verdict: str = "survives") -> Any:
    return SimpleNamespace(mount_point=place, free=free, verdict=verdict)


def disks(monkeypatch: pytest.MonkeyPatch, *given: Any) -> None:
    writing = "zitcache.tasks.config.writing"
    by_place = {each.mount_point: each for each in given}
    monkeypatch.setattr(f"{writing}.data_mounts", lambda: given)
    monkeypatch.setattr(f"{writing}.os.access", lambda place, mode: place in by_place)
    monkeypatch.setattr(
        f"{writing}.free_space", lambda place: SimpleNamespace(bytes_free=by_place[place].free)
    )
    monkeypatch.setattr(f"{writing}.survival_of_mount", lambda mount: mount)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([("/a", 10, "survives"), ("/b", 30, "survives"), ("/c", 20, "survives")], "/b/zitcache"),
        ([("/a", 10, "survives"), ("/b", 30, "lost")], "/a/zitcache"),
        ([("/a", 10, "survives"), ("/b", 30, "unknown")], "/a/zitcache"),
        ([("/b", 30, "unknown")], "/b/zitcache"),
        ([("/b", 30, "lost")], None),
        ([], None),
    ],
)
def test_the_machine_is_asked_for_a_disk(
    home: Path, monkeypatch: pytest.MonkeyPatch, given: list[tuple[str, int, str]], expected: str | None
) -> None:
    disks(monkeypatch, *(disk(*each) for each in given))
    report = init_config(Session(), dry_run=True).data
    assert (report.repo, report.repo_exists) == (expected, False)
    config = parse_config(Path("config.toml"), report.text.encode())
    assert config.repo == expected
    assert config.night.scratch == (f"{expected}-drill" if expected else "")


def test_a_repository_and_a_cache_that_are_there_are_used(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, cache = tmp_path / 'my "data"/zitcache', tmp_path / "cache"
    place.parent.mkdir()
    Repository.create(LocalStorage(place))
    make_model(cache / "models/a--b/snapshots/master")
    monkeypatch.setattr("zitcache.tasks.config.writing.discovered_repositories", lambda: [str(place)])
    monkeypatch.setenv("MODELSCOPE_CACHE", str(cache))
    report = init_config(Session()).data
    path = home / ".config/zitcache/config.toml"
    assert (report.repo, report.repo_exists, report.cache) == (str(place), True, str(cache))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "it may come to hold secrets"
    config = parse_config(path, path.read_bytes())
    assert (config.repo, config.cache) == (str(place), str(cache))
    assert (config.schedule, config.retention, config.status) == (
        Config().schedule,
        Config().retention,
        Config().status,
    ), "what it spells out are the defaults"


def test_a_file_that_is_there_is_not_replaced_unasked(home: Path) -> None:
    path = configure(home, "# mine\n")
    with pytest.raises(UsageError, match="exists already"):
        init_config(Session())
    assert path.read_text() == "# mine\n"
    init_config(Session(), dry_run=True)
    assert path.read_text() == "# mine\n"
    init_config(Session(), force=True)
    assert "[retention]" in path.read_text()


def test_it_can_lie_elsewhere(home: Path, tmp_path: Path) -> None:
    report = init_config(Session(), output=str(tmp_path / "new/my.toml")).data
    assert Path(report.path) == tmp_path / "new/my.toml" and Path(report.path).is_file()


# -- it travels ----------------------------------------------------------------------


def test_the_whole_file_is_kept_with_the_repository(home: Path) -> None:
    """The kit keeps the text as it is; ``restore`` puts it back (see tests/reset)."""
    path = configure(home, EVERYTHING + "# and a comment\n")
    kept = current_settings("/cache", {}, "/data/zitcache", "zitcache")
    assert kept.config == EVERYTHING + "# and a comment\n" and kept.config_path == str(path)
    config = parse_config(path, kept.config.encode())
    default = Config()
    for name in names(Config):
        section, _, key = name.rpartition(".")
        got, plain = (getattr(each, section) if section else each for each in (config, default))
        assert getattr(got, key) != getattr(plain, key), f"{name} is not tried here"
