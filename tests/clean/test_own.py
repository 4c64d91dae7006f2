"""Our own leftovers: never what somebody still needs to come back."""

from __future__ import annotations

import fcntl
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.backup.world import (
    Watching,
    back_up,
    bring_back,
    describe,
    make_repository,
    make_sample,
    zitcache,
)
from tests.clean.world import SNAPSHOT, items_of, only, put, run
from zitcache.cache.marker import MARKER_NAME, MigrationMarker, marker_paths, write_marker
from zitcache.errors import Interrupted
from zitcache.events import Cancel
from zitcache.tasks.clean import Kind


def test_temporary_files_of_a_killed_run(cache: Path) -> None:
    inside = put(cache / SNAPSHOT / ".zitcache-tmp-123-abc")
    beside = put(cache.parent / ".zitcache-tmp-124-abc/x").parent
    found = items_of(run(cache, delete=True))
    assert {path for path, item in found.items() if item.removed} == {str(inside), str(beside)}


def interrupted_restore(tmp_path: Path) -> Path:
    """The staging place that a restore has left; the target lies beside it."""
    source = make_sample(tmp_path / "source")
    repository = make_repository(tmp_path / "repository", piece_size=65536)
    back_up(repository, source)
    cancel = Cancel()
    with pytest.raises(Interrupted):
        bring_back(repository, tmp_path / "cache", Watching(on_advance=lambda count: cancel.set()), cancel)
    (place,) = [path for path in tmp_path.iterdir() if path.name.startswith(".zitcache-restore")]
    return place


def test_a_restore_that_can_go_on_stays_unless_all_is_asked(tmp_path: Path) -> None:
    place = interrupted_restore(tmp_path)
    (tmp_path / "cache").mkdir(exist_ok=True)
    item = only(run(tmp_path / "cache", delete=True))
    assert (item.path, item.removed) == (str(place), False)
    assert "zitcache restore" in (item.kept_because or "") and "--all" in (item.kept_because or "")
    assert bring_back(tmp_path / "repository", tmp_path / "cache").data.action == "restored"


def test_with_all_it_goes_and_the_restore_begins_anew(tmp_path: Path) -> None:
    place = interrupted_restore(tmp_path)
    (tmp_path / "cache").mkdir(exist_ok=True)
    assert only(run(tmp_path / "cache", delete=True, everything=True)).removed and not place.exists()
    assert bring_back(tmp_path / "repository", tmp_path / "cache").data.action == "restored"


def test_a_restore_that_is_running_is_left_alone(tmp_path: Path) -> None:
    place = interrupted_restore(tmp_path)
    (tmp_path / "cache").mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        item = only(run(tmp_path / "cache", delete=True, everything=True))
    assert not item.removed and "in use" in (item.kept_because or "") and place.exists()


def test_files_that_a_restore_had_put_aside_are_never_removed(cache: Path) -> None:
    parked = put(cache.parent / f".zitcache-restore-{cache.name}/old/0/weights.safetensors")
    item = only(run(cache, delete=True, everything=True))
    assert not item.removed and parked.exists() and "zitcache restore" in (item.kept_because or "")


def test_what_a_restore_was_throwing_away(cache: Path) -> None:
    trash = put(cache.parent / f".zitcache-restore-{cache.name}.done-1-ab/tree/x").parent.parent
    assert only(run(cache, delete=True)).removed and not trash.exists()


# -- old copies that a migration has left ------------------------------------------------------------


def migrated(tmp_path: Path, ago: timedelta = timedelta(seconds=10)) -> tuple[Path, Path, Path]:
    """(the link at the old place, the cache at the new place, the old copy). Moved after, or ``ago`` before,
    these were written."""
    source, target = tmp_path / "system/cache", make_sample(tmp_path / "data/cache")
    old = make_sample(tmp_path / "system/.zitcache-old-cache")
    source.symlink_to(target)
    marker = MigrationMarker(
        id="ab" * 16,
        **marker_paths(str(source), str(target)),  # type: ignore[arg-type]
        host="box",
        time=(datetime.now(timezone.utc) + ago).isoformat(),
        program="zitcache",
        method="copy",
        files=1,
        bytes=1,
        linked=True,
    )
    write_marker(target, marker)
    return source, target, old


def test_the_old_copy_goes_only_if_its_kind_is_named(tmp_path: Path) -> None:
    source, target, old = migrated(tmp_path)
    item = only(run(source, delete=True))
    assert (item.kind, item.path, item.removed) == ("old-copy", str(old), False)
    assert item.kept_because == "Not asked for: --kind old-copy" and item.size_bytes > 1_000_000
    outcome = run(source, delete=True, kinds=(Kind.OLD_COPY,))
    assert only(outcome).removed and not old.exists() and (target / MARKER_NAME).exists()


@pytest.mark.parametrize("change", ["missing", "shorter", "unlinked", "elsewhere"])
def test_the_old_copy_stays_if_the_new_one_is_not_whole(tmp_path: Path, change: str) -> None:
    source, target, old = migrated(tmp_path)
    file = target / SNAPSHOT / "model_index.json"
    if change == "missing":
        file.unlink()
    elif change == "shorter":
        os.truncate(file, 3)
    elif change == "unlinked":
        source.unlink()
    else:
        source.unlink()
        source.symlink_to(tmp_path)
    item = only(run(target, delete=True, kinds=(Kind.OLD_COPY,)))
    assert not item.removed and old.exists() and item.kept_because


def test_what_was_written_to_the_old_copy_since_keeps_it(tmp_path: Path) -> None:
    source, _, old = migrated(tmp_path, ago=timedelta(days=-1))
    file = old / SNAPSHOT / "README.md"
    file.write_bytes(file.read_bytes().swapcase())  # as long as before
    item = only(run(source, delete=True, kinds=(Kind.OLD_COPY,)))
    assert not item.removed and "after the migration" in (item.kept_because or "") and old.exists()


def test_a_real_migration_and_what_it_leaves(tmp_path: Path) -> None:
    source, target = make_sample(tmp_path / "cache"), tmp_path / "data"
    before = describe(source)
    done = zitcache("migrate", target, "--cache", source, "--yes", "--force", "--no-env", "--no-kit")
    assert done.returncode == 0, done.stderr
    old = tmp_path / ".zitcache-old-cache"
    assert old.is_dir() and source.is_symlink()
    assert not only(run(source, delete=True)).removed
    assert only(run(source, delete=True, kinds=(Kind.OLD_COPY,))).removed
    assert not old.exists()
    after = describe(source.resolve(), skip=[MARKER_NAME])
    assert {name: facts[0] for name, facts in after.items() if name != MARKER_NAME} == {
        name: facts[0] for name, facts in before.items()
    }


# -- migrations that were interrupted ------------------------------------------------------------------


def test_a_migration_that_can_go_on_stays(cache: Path) -> None:
    journal = put(cache / ".zitcache-migrating/plan.json", b"{}").parent
    part = put(cache / SNAPSHOT / ".zitcache-part-ab")
    aside = put(cache / ".zitcache-leftovers/mine").parent
    found = items_of(run(cache, delete=True))
    assert {path for path, item in found.items() if item.kept_because} == {
        str(journal),
        str(part),
        str(aside),
    }
    assert "zitcache migrate" in (found[str(part)].kept_because or "")
    found = items_of(run(cache, delete=True, everything=True))
    assert found[str(part)].removed and journal.exists() and aside.exists()


def test_parts_without_a_journal_belong_to_nobody(cache: Path) -> None:
    part = put(cache / SNAPSHOT / ".zitcache-part-ab")
    assert only(run(cache, delete=True)).removed and not part.exists()


def test_a_migration_that_is_running_is_left_alone(cache: Path) -> None:
    lock = put(cache / ".zitcache-migrating/lock", b"")
    part = put(cache / SNAPSHOT / ".zitcache-part-ab")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        item = items_of(run(cache, delete=True, everything=True))[str(part)]
    assert not item.removed and "in use" in (item.kept_because or "")


def test_the_old_copy_stays_if_the_marker_makes_no_sense(tmp_path: Path) -> None:
    source, target, old = migrated(tmp_path)
    (target / MARKER_NAME).write_text("{}")
    assert run(source, delete=True, kinds=(Kind.OLD_COPY,)).data.items == [] and old.exists()
