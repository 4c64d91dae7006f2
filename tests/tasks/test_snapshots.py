"""``init`` makes a repository only where nothing else is; ``snapshots`` lists what can be restored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.storage.disks import tmpfs
from tests.tasks.repositories import MODEL, back_up, flip_bit, new_repository, write_cache
from zitcache.errors import Exit, NotFound, RepositoryNotFound, UnsupportedFormat, UsageError
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.backup import BackupRequest, backup
from zitcache.tasks.snapshots import init, snapshots

# -- init -------------------------------------------------------------------------------------------


def test_init_makes_the_folder_and_says_what_it_is(tmp_path: Path) -> None:
    place = tmp_path / "data" / "zitcache"
    report = init(str(place), Session()).data
    assert report.repository == str(place)
    assert (Repository.open(LocalStorage(place)).config.id, report.version) == (report.id, 1)
    note = (place / "readme.txt").read_text()
    assert "zitcache restore" in note
    assert "Do not" in note


def test_a_new_repository_takes_backups(tmp_path: Path) -> None:
    init(str(tmp_path / "repo"), Session())
    assert back_up(tmp_path / "repo", write_cache(tmp_path / "cache")).snapshot_id


@pytest.mark.parametrize("found", ["lost+found", ".tmp-123-0123456789abcdef"])
def test_what_mkfs_or_a_killed_init_leaves_behind_is_no_obstacle(tmp_path: Path, found: str) -> None:
    (tmp_path / found).mkdir() if found == "lost+found" else (tmp_path / found).write_bytes(b"")
    assert init(str(tmp_path), Session()).data.version == 1


def test_an_existing_repository_is_kept(tmp_path: Path) -> None:
    first = init(str(tmp_path / "repo"), Session()).data.id
    with pytest.raises(UsageError, match="already holds a repository") as refused:
        init(str(tmp_path / "repo"), Session())
    assert "zitcache backup --repo" in (refused.value.hint or "")
    assert Repository.open(LocalStorage(tmp_path / "repo")).config.id == first


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match="'photos'") as refused:
        init(str(tmp_path), Session())
    assert f"zitcache init {tmp_path}/zitcache" in (refused.value.hint or "")
    assert os.listdir(tmp_path) == ["photos"]


def test_a_half_deleted_repository_is_not_made_anew(tmp_path: Path) -> None:
    init(str(tmp_path / "repo"), Session())
    back_up(tmp_path / "repo", write_cache(tmp_path / "cache"))
    (tmp_path / "repo" / "config").unlink()
    with pytest.raises(UsageError, match="lost its config"):
        init(str(tmp_path / "repo"), Session())
    assert not (tmp_path / "repo" / "config").exists()


@pytest.mark.parametrize("below", ["", "/zitcache"])
def test_a_file_is_no_place_for_a_repository(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file"):
        init(f"{tmp_path}/file{below}", Session())
    assert (tmp_path / "file").read_text() == "x"


def test_a_repository_on_the_system_disk_is_warned_of(tmp_path: Path) -> None:
    if os.stat(tmp_path).st_dev != os.stat("/").st_dev:
        pytest.skip("the temporary folder is not on the system disk")
    outcome = init(str(tmp_path / "repo"), Session())
    assert [notice.code for notice in outcome.warnings] == ["system-disk"]
    assert outcome.exit_code == Exit.OK


@pytest.mark.root
def test_a_repository_in_memory_is_warned_of(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "memory") as place:
        outcome = init(str(place / "repo"), Session())
    assert [notice.code for notice in outcome.warnings] == ["in-memory"]


# -- snapshots --------------------------------------------------------------------------------------


def test_snapshots_are_listed_oldest_first_with_what_they_hold(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    new_repository(tmp_path / "repo")
    first = back_up(tmp_path / "repo", cache)
    (cache / MODEL / "more.txt").write_text("more")
    request = BackupRequest(repository=str(tmp_path / "repo"), cache=str(cache), tags=("nightly",))
    second = backup(request, Session()).data
    outcome = snapshots(str(tmp_path / "repo"), Session())
    assert outcome.exit_code == Exit.OK
    older, newer = outcome.data.snapshots
    assert (older.id, newer.id) == (first.snapshot_id, second.snapshot_id)
    assert older.time < newer.time
    assert older.models == ["Tongyi-MAI/Z-Image-Turbo@master"]
    assert (older.cache, older.files + 1, older.size_bytes + 4) == (str(cache), newer.files, newer.size_bytes)
    assert (older.tags, newer.tags, newer.suspect) == ([], ["nightly"], False)
    assert 0 < newer.bytes_new_stored < older.bytes_new_stored


def test_a_damaged_snapshot_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    new_repository(tmp_path / "repo")
    ids = [str(back_up(tmp_path / "repo", cache).snapshot_id) for _ in range(2)]
    flip_bit(tmp_path / "repo" / "snapshots" / ids[0], 80)
    outcome = snapshots(str(tmp_path / "repo"), Session())
    assert outcome.exit_code == Exit.DAMAGE
    assert [snapshot.id for snapshot in outcome.data.snapshots] == [ids[1]]
    (notice,) = outcome.warnings
    assert ids[0][:8] in notice.message


def test_a_new_repository_has_no_snapshots_and_that_is_fine(tmp_path: Path) -> None:
    new_repository(tmp_path / "repo")
    outcome = snapshots(str(tmp_path / "repo"), Session())
    assert (outcome.exit_code, outcome.data.snapshots) == (Exit.OK, [])


def test_snapshots_need_a_repository_of_this_version(tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound) as missing:
        snapshots(str(tmp_path / "nowhere"), Session())
    assert isinstance(missing.value, NotFound)
    assert "zitcache init" in (missing.value.hint or "")
    new_repository(tmp_path / "repo")
    config = tmp_path / "repo" / "config"
    config.write_bytes(config.read_bytes().replace(b'"version":1', b'"version":7'))
    with pytest.raises(UnsupportedFormat, match="version 7"):
        snapshots(str(tmp_path / "repo"), Session())
