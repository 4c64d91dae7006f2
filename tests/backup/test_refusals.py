"""What is asked for cannot be done: the error says what, why, and the next command; nothing is changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.backup.world import (
    MIB,
    back_up,
    bring_back,
    codes,
    data_of,
    describe,
    make_model,
    make_sample,
    require_same,
    require_sound,
    snapshots_in,
    zitcache,
)
from tests.storage.disks import tmpfs
from zitcache.errors import (
    CacheNotFound,
    Exit,
    IntegrityError,
    RepositoryNotFound,
    UnsupportedFormat,
    UsageError,
)


def test_no_cache_is_found(tmp_path: Path, repository: Path) -> None:
    with pytest.raises(CacheNotFound) as caught:
        back_up(repository, tmp_path / "nothing")
    assert str(tmp_path / "nothing") in caught.value.message
    assert "zitcache" in (caught.value.hint or "")
    assert not repository.exists()
    done = zitcache("backup", "--json", "-r", repository, env={"MODELSCOPE_CACHE": str(tmp_path / "no")})
    assert done.returncode == Exit.NOT_FOUND
    assert json.loads(done.stdout)["error"]["code"] == "cache-not-found"


@pytest.mark.parametrize("content", ["nothing", "folders", "empty files", "no model"])
def test_an_empty_cache_is_not_backed_up(content: str, cache: Path, repository: Path) -> None:
    """A snapshot of nothing would look like a success on the morning after the reset."""
    cache.mkdir()
    if content == "folders":
        (cache / "hub" / "models--a--b" / "snapshots").mkdir(parents=True)
    elif content == "empty files":
        (cache / "config.json").touch()
    elif content == "no model":
        (cache / "notes.txt").write_text("text")
    with pytest.raises(CacheNotFound) as caught:
        back_up(repository, cache)
    assert "empty" in caught.value.message
    assert caught.value.exit_code is Exit.NOT_FOUND
    assert not repository.exists()


def test_the_cache_is_a_file(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError) as caught:
        back_up(repository, tmp_path / "file")
    assert "is a file" in caught.value.message


def test_a_missing_repository_names_the_command_that_makes_it(cache: Path, repository: Path) -> None:
    make_sample(cache)
    with pytest.raises(RepositoryNotFound) as caught:
        back_up(repository, cache, init=False)
    assert caught.value.hint == f"Create it: zitcache init {repository}"
    assert not repository.parent.exists()
    with pytest.raises(RepositoryNotFound) as caught:
        bring_back(repository)
    assert f"zitcache init {repository}" in (caught.value.hint or "")


def test_a_repository_path_that_is_a_file(cache: Path, repository: Path) -> None:
    make_sample(cache)
    repository.parent.mkdir()
    repository.write_text("a file")
    for place in (repository, repository / "below"):
        with pytest.raises(UsageError) as caught:
            back_up(place, cache)
        assert f"{repository} " in caught.value.message.replace(":", " ").replace("is a file.", "is a file. ")
        assert caught.value.exit_code is Exit.USAGE
    assert repository.read_text() == "a file"


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_a_repository_of_a_future_version_is_refused(
    verb: str, cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache)
    back_up(repository, cache)
    config = json.loads((repository / "config").read_text())
    for change in ({"version": 2, "format": "zitcache", "id": 7}, {**config, "features": ["encryption-9"]}):
        (repository / "config").write_text(json.dumps(change))
        before = describe(repository)
        with pytest.raises(UnsupportedFormat) as caught:
            back_up(repository, cache) if verb == "backup" else bring_back(repository, target)
        assert "pip install --upgrade zitcache" in (caught.value.hint or "")
        assert "version 2" in caught.value.message or "encryption-9" in caught.value.message
        assert describe(repository) == before
    assert not target.exists()


def test_a_config_of_rubbish_is_refused(cache: Path, repository: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    for rubbish in (b"", b"\x00" * 100, b"[]", b'{"format":"zitcache"'):
        (repository / "config").write_bytes(rubbish)
        with pytest.raises(IntegrityError) as caught:
            back_up(repository, cache)
        assert caught.value.exit_code is Exit.TAMPERED


def test_a_folder_of_something_else_is_not_made_a_repository(cache: Path, tmp_path: Path) -> None:
    make_sample(cache)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(UsageError) as caught:
        back_up(photos, cache)
    assert "cat.jpg" in caught.value.message
    assert [path.name for path in photos.iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize("lost", ["config", "packs", "index", "snapshots"])
def test_a_half_deleted_repository(lost: str, cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    if lost == "config":
        (repository / "config").unlink()
        before = describe(repository)
        for act in (lambda: back_up(repository, cache), lambda: bring_back(repository, target)):
            with pytest.raises(IntegrityError) as caught:
                act()
            assert "lost its config" in caught.value.message
            assert caught.value.exit_code is Exit.TAMPERED
        assert describe(repository) == before
        return
    shutil.rmtree(repository / lost)
    if lost == "index":  # the packs know what they hold
        bring_back(repository, target)
    elif lost == "packs":
        with pytest.raises(IntegrityError):
            bring_back(repository, target)
        assert not target.exists()
    report = back_up(repository, cache)
    assert report.exit_code is Exit.OK
    assert report.data.bytes_new_stored > MIB or lost != "packs"
    bring_back(repository, target)
    require_same(cache, target)
    if lost != "packs":  # the first snapshot is beyond help, the second is whole
        require_sound(repository)


def test_a_lost_pack_warns_and_all_is_stored_again(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    for pack in (repository / "packs").iterdir():
        pack.unlink()
    report = back_up(repository, cache)
    assert "snapshot-damaged" in codes(report)
    bring_back(repository, target)
    require_same(cache, target)


def test_the_repository_on_the_same_disk_is_warned_of(cache: Path, repository: Path) -> None:
    make_sample(cache)
    report = back_up(repository, cache)
    warning = next(warning for warning in report.warnings if warning.code == "same-disk")
    assert str(repository) in warning.message
    assert "zitcache init" in (warning.hint or "")


@pytest.mark.root
def test_the_repository_on_another_disk_is_not(cache: Path, tmp_path: Path) -> None:
    make_sample(cache)
    with tmpfs(tmp_path / "disk", size=32 * MIB) as disk:
        assert "same-disk" not in codes(back_up(disk / "zitcache", cache))


@pytest.mark.parametrize("through", ["plain", "link", "dots"])
def test_a_repository_inside_the_cache_is_refused_and_not_made(
    through: str, cache: Path, tmp_path: Path
) -> None:
    make_sample(cache)
    before = describe(cache)
    place = cache / "backups" / "zitcache"
    if through == "link":
        (tmp_path / "link").symlink_to(cache)
        place = tmp_path / "link" / "zitcache"
    elif through == "dots":
        place = tmp_path / "else" / ".." / "cache" / "zitcache"
    for repository in (place, cache):
        with pytest.raises(UsageError) as caught:
            back_up(repository, cache, init=True)
        assert "inside the cache" in caught.value.message
        assert "zitcache init" in (caught.value.hint or "")
    assert describe(cache) == before


def test_a_cache_inside_the_repository_is_refused_and_nothing_made(tmp_path: Path) -> None:
    place = tmp_path / "data"
    make_sample(place / "cache")
    with pytest.raises(UsageError) as caught:
        back_up(place, place / "cache")
    assert "inside the repository" in caught.value.message
    assert [path.name for path in place.iterdir()] == ["cache"]


def test_another_programs_repository_is_not_taken_for_ours(cache: Path, repository: Path) -> None:
    """restic's has a config, an index and snapshots, too."""
    make_sample(cache)
    for folder in ("data", "index", "keys", "locks", "snapshots"):
        (repository / folder).mkdir(parents=True)
    (repository / "config").write_bytes(bytes(range(155)))
    before = describe(repository)
    with pytest.raises(IntegrityError):
        back_up(repository, cache)
    assert describe(repository) == before


def test_no_snapshot_yet(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    zitcache("init", repository)
    done = zitcache("restore", "--json", "-r", repository, "--to", target)
    assert done.returncode == Exit.NOT_FOUND
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "snapshot-not-found"
    assert "zitcache backup" in error["hint"]
    assert not target.parent.exists()


def test_tags_and_models_are_recorded(cache: Path, repository: Path) -> None:
    make_sample(cache)
    back_up(repository, cache, tags=("nightly", "before-upgrade", "nightly"))
    record = snapshots_in(repository)[0].record
    assert record.tags == ["before-upgrade", "nightly"]
    (model,) = record.models
    assert (model.id, model.revision, model.complete) == ("Tongyi-MAI/Z-Image-Turbo", "master", True)
    assert (model.root, model.path) == (
        "models/Tongyi-MAI--Z-Image-Turbo",
        "models/Tongyi-MAI--Z-Image-Turbo/snapshots/master",
    )
    done = zitcache("snapshots", "--json", "-r", repository)
    assert data_of(done) is not None
