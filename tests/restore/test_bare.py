"""``restore`` with nothing named, away from real disks: what is taken, what is asked for, what is said."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.backup.world import back_up, make_sample, require_same, zitcache
from tests.tasks.test_discovery import make_marker, use
from zitcache.cache.marker import MigrationMarker
from zitcache.errors import RepositoryNotFound, UsageError
from zitcache.events import Outcome, Session
from zitcache.tasks.restore import RestoreReport, RestoreRequest, restore
from zitcache.tasks.restore import relink as relinking
from zitcache.tasks.restore.relink import refuse_source, relink

ALL = "Tongyi-MAI/Z-Image-Turbo"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bare home, and a data disk ``tmp_path/disk``."""
    place = tmp_path / "bare home"
    place.mkdir()
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("ZITCACHE_SYSTEM_ROOT", str(tmp_path / "system"))
    for name in list(os.environ):
        if name.startswith(
            ("ZITCACHE_REPO", "ZITCACHE_CACHE", "ZITCACHE_CONFIG", "XDG_", "HF_", "MODELSCOPE_")
        ):
            monkeypatch.delenv(name)
    use(monkeypatch, tmp_path / "disk")
    monkeypatch.setattr("zitcache.tasks.restore.candidates.data_mounts", lambda: ())
    return place


def bare(**options: object) -> tuple[Outcome[RestoreReport], list[str]]:
    session = Session()
    outcome = restore(RestoreRequest(**options), session)  # type: ignore[arg-type]
    return outcome, [notice.code for notice in session.warnings]


def migrated_to(place: Path, source: Path) -> Path:
    return make_marker(make_sample(place), source=str(source))


def test_nothing_anywhere_is_an_error_with_the_next_step(home: Path) -> None:
    with pytest.raises(RepositoryNotFound, match="Nothing that could be brought back") as caught:
        bare()
    assert caught.value.hint and "lsblk" in caught.value.hint and "--from PLACE" in caught.value.hint
    with pytest.raises(RepositoryNotFound, match="There is no /nowhere"):
        bare(place="/nowhere")


def test_a_snapshot_that_is_named_links_nothing(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "old/cache"
    original = make_sample(tmp_path / "original")
    back_up(tmp_path / "disk/zitcache", original)
    migrated_to(tmp_path / "disk/cache", source)
    for options in (
        {"snapshot": "latest", "repository": str(tmp_path / "disk/zitcache")},
        {"repository": str(tmp_path / "disk/zitcache")},
        {"to": str(tmp_path / "to"), "place": str(tmp_path / "disk")},
        {"snapshot": "latest", "place": str(tmp_path / "disk/zitcache")},
    ):
        outcome, _ = bare(**options)
        assert outcome.data.links == [] and outcome.data.snapshot_id and not outcome.data.candidates
    assert not source.parent.exists() and not list(home.iterdir())
    require_same(original, tmp_path / "to")


def test_a_repository_in_the_environment_is_named_one_in_the_config_is_not(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(tmp_path / "disk/zitcache", make_sample(tmp_path / "original"))
    migrated_to(tmp_path / "disk/cache", tmp_path / "old/cache")
    monkeypatch.setenv("ZITCACHE_REPO", str(tmp_path / "disk/zitcache"))
    assert bare()[0].data.links == []
    monkeypatch.delenv("ZITCACHE_REPO")
    config = home / ".config/zitcache/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'repo = "{tmp_path}/disk/zitcache"\n')
    outcome, codes = bare()
    assert outcome.data.action == "relinked" and "several-candidates" in codes
    assert [row.chosen for row in outcome.data.candidates] == [True, False]


def test_several_repositories_at_a_named_place_must_be_told_apart(home: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        back_up(tmp_path / f"disk/{name}", make_sample(tmp_path / name))
    with pytest.raises(UsageError, match="2 repositories"):
        bare(snapshot="latest", place=str(tmp_path / "disk"))
    (tmp_path / "none").mkdir()
    with pytest.raises(RepositoryNotFound, match="no repository in"):
        bare(snapshot="latest", place=str(tmp_path / "none"))


def test_a_broken_repository_beside_a_good_one_is_listed_not_fatal(home: Path, tmp_path: Path) -> None:
    cache = make_sample(tmp_path / "cache")
    back_up(tmp_path / "disk/good", cache)
    back_up(tmp_path / "disk/broken", cache)
    (tmp_path / "disk/broken/config").write_text('{"format": "zitcache", "version": 99}')
    (tmp_path / "disk/empty/snapshots").mkdir(parents=True)
    shutil.copy(tmp_path / "disk/good/config", tmp_path / "disk/empty/config")
    kept = cache.rename(tmp_path / "kept")
    outcome, _ = bare()
    problems = {row.place: row.problem for row in outcome.data.candidates}
    assert outcome.data.repository == str(tmp_path / "disk/good")
    assert "version 99" in (problems[str(tmp_path / "disk/broken")] or "")
    assert problems[str(tmp_path / "disk/empty")] == "it holds no good snapshot"
    require_same(kept, cache)


def test_naming_one_cache_links_that_one_alone(home: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        migrated_to(tmp_path / f"disk/{name}", tmp_path / f"old/{name}")
    outcome, _ = bare(place=str(tmp_path / "disk/one"))
    assert os.listdir(tmp_path / "old") == ["one"] and outcome.data.target == str(tmp_path / "disk/one")
    bare()
    assert sorted(os.listdir(tmp_path / "old")) == ["one", "two"]


def test_the_words_of_the_command(home: Path, tmp_path: Path) -> None:
    cache = migrated_to(tmp_path / "elsewhere/cache", tmp_path / "old/cache")
    done = zitcache("restore", "--from", cache, "--dry-run", "--no-schedule")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Would bring back the migrated cache in {cache}")
    assert f"Link: {tmp_path}/old/cache would lead to {cache}." in done.stdout
    done = zitcache("restore", "--from", cache, "--json", "--no-env", "--no-schedule")
    report = json.loads(done.stdout)["data"]
    assert report["action"] == "relinked" and report["models"] == [ALL] and report["environment_files"] == []
    assert (tmp_path / "old/cache").resolve() == cache


# -- the link alone -----------------------------------------------------------------------------------


def test_parents_are_made_and_a_second_time_nothing_is_done(tmp_path: Path) -> None:
    place = make_sample(tmp_path / "place")
    path = tmp_path / "a/b/c/cache"
    report = relink(str(path), place, Session())
    assert report.state == "made" and path.readlink() == place
    assert relink(str(path), place, Session()).state == "right"
    assert sorted(os.listdir(path.parent)) == ["cache"]


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("there", ["nothing", "empty", "file", "folder", "link", "dangling"])
def test_whatever_was_there_is_kept_or_was_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, atomic: bool
) -> None:
    if not atomic:
        monkeypatch.setattr(relinking, "exchange", lambda a, b: False)
    place, path = make_sample(tmp_path / "place"), tmp_path / "parent/cache"
    path.parent.mkdir()
    if there == "empty":
        path.mkdir()
    elif there == "file":
        path.write_text("precious")
    elif there == "folder":
        path.mkdir()
        (path / "precious").write_text("x")
    elif there in ("link", "dangling"):
        path.symlink_to(tmp_path if there == "link" else tmp_path / "gone")
    report = relink(str(path), place, Session())
    assert report.state == "made" and path.readlink() == place
    kept = [name for name in os.listdir(path.parent) if name != "cache"]
    if there in ("file", "folder", "link"):
        assert report.moved_aside is not None and kept == [Path(report.moved_aside).name]
    else:
        assert report.moved_aside is None and kept == []


def test_a_second_one_steps_aside_under_another_name(tmp_path: Path) -> None:
    place, path = make_sample(tmp_path / "place"), tmp_path / "cache"
    names = set()
    for _ in range(3):
        if path.is_symlink():
            path.unlink()
        path.write_text("x")
        names.add(relink(str(path), place, Session()).moved_aside)
    assert len(names) == 3 and all(Path(str(name)).is_file() for name in names)


@pytest.mark.parametrize(
    "source",
    ["/", "/etc", "/etc/x", "/usr/lib/x", "/root", "/home", "/tmp", "/proc/self/root/etc/x", "/dev/shm"],
)
def test_the_system_is_no_place_for_a_cache(tmp_path: Path, source: str) -> None:
    with pytest.raises(UsageError, match="no place for a cache"):
        refuse_source(source, tmp_path)


def test_one_inside_the_other_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "a/b"
    place.mkdir(parents=True)
    for source in (tmp_path / "a", place / "c"):
        with pytest.raises(UsageError, match="one lies in the other"):
            refuse_source(str(source), place)
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(UsageError, match="one lies in the other"):
        refuse_source(str(tmp_path / "link/c"), place)


def test_the_type_of_the_marker_is_what_migrate_writes(tmp_path: Path) -> None:
    from zitcache.cache.marker import read_marker

    assert isinstance(read_marker(migrated_to(tmp_path / "c", tmp_path / "s")), MigrationMarker)
