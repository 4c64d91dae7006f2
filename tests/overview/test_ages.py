"""Too old is said, and so is never; a new repository is not late, and a clock that jumped fools nobody."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from tests.backup.world import make_model
from zitcache.events import Session
from zitcache.repository.checks import record_verified
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot, list_snapshots
from zitcache.schedule.history import Run, RunRecord, StepRecord
from zitcache.schedule.sections import StatusConfig
from zitcache.storage.local import LocalStorage
from zitcache.tasks.backup import BackupRequest, backup
from zitcache.tasks.overview import Moment, overview
from zitcache.tasks.overview.ages import DAY, iso_of
from zitcache.tasks.overview.disk import growth_per_day

NOW = time.time()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    make_model(tmp_path / "cache/models/a--b/snapshots/master")
    place = str(tmp_path / "repository")
    backup(BackupRequest(repository=place, cache=str(tmp_path / "cache"), init=True), Session())
    return Repository.open(LocalStorage(Path(place)))


def aged(repository: Repository, days: float, **changes: object) -> Snapshot:
    (snapshot,), _ = list_snapshots(repository)
    record = msgspec.structs.replace(snapshot.record, time=iso_of(NOW - days * DAY), **changes)
    return Snapshot(snapshot.id, record)


def run_of(step: str, days: float, exit_code: int = 0, data: bytes = b"null") -> Run:
    ended = NOW - days * DAY
    record = RunRecord(
        command="night",
        host="box",
        program="zitcache",
        started=ended - 60,
        ended=ended,
        exit_code=exit_code,
        steps=[StepRecord(name=step, exit_code=exit_code, seconds=60, data=msgspec.Raw(data))],
    )
    return Run("0" * 64, record)


def moment(
    what: str, repository: Repository, snapshots: list[Snapshot], runs: list[Run] | None = None
) -> Moment:
    found = overview(repository, snapshots, runs or [], None, StatusConfig(), now=NOW)
    return next(each for each in found.moments if each.what == what)


@pytest.mark.parametrize(("days", "stale"), [(0.5, False), (1.4, False), (1.6, True), (90, True)])
def test_a_backup_of_last_night_is_fresh_and_an_older_one_is_not(
    repository: Repository, days: float, stale: bool
) -> None:
    found = moment("backup", repository, [aged(repository, days)])
    assert found.stale is stale
    assert found.age_seconds == pytest.approx(days * DAY, abs=2)


def test_no_backup_at_all_is_stale(repository: Repository) -> None:
    found = moment("backup", repository, [])
    assert found.stale and found.time is None


def test_a_suspect_backup_is_no_backup(repository: Repository) -> None:
    snapshots = [aged(repository, 3), aged(repository, 0, suspect=True)]
    assert moment("backup", repository, snapshots).stale


def test_a_snapshot_from_the_future_counts_as_now(repository: Repository) -> None:
    found = moment("backup", repository, [aged(repository, -400)])
    assert found.age_seconds == 0 and not found.stale


def test_a_check_is_as_old_as_its_oldest_part(repository: Repository) -> None:
    snapshots = [aged(repository, 60)]
    assert moment("check", repository, snapshots).stale, "never read back, for sixty days"
    assert not moment("check", repository, [aged(repository, 1)]).stale, "a new repository is not late"
    record_verified(repository, repository.index.packs, int(NOW - 5 * DAY))
    found = moment("check", repository, snapshots)
    assert not found.stale and found.age_seconds == pytest.approx(5 * DAY, abs=2)


def test_a_drill_counts_when_it_went_well(repository: Repository) -> None:
    snapshots = [aged(repository, 100)]
    good, bad = run_of("drill", 10), run_of("drill", 2, exit_code=1)
    assert not moment("drill", repository, snapshots, [good]).stale
    found = moment("drill", repository, snapshots, [bad, good])
    assert found.last_exit_code == 1, "the last attempt failed"
    assert moment("drill", repository, snapshots, [bad]).stale


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        (b'{"proof":{"verdict":"passed"}}', True),
        (b'{"proof":{"verdict":"skipped"}}', False),
        (b'{"proof":null}', False),
        (b"null", False),
        (b"[1]", False),
    ],
)
def test_a_skipped_proof_is_no_proof(repository: Repository, data: bytes, counts: bool) -> None:
    found = moment("proof", repository, [aged(repository, 100)], [run_of("drill", 1, data=data)])
    assert (found.time is not None) is counts and found.stale is not counts


def test_a_model_says_whether_it_is_protected(repository: Repository, tmp_path: Path) -> None:
    from zitcache.cache.inventory import inventory

    make_model(tmp_path / "cache/models/new--one/snapshots/master")
    stock = inventory(tmp_path / "cache")
    found = overview(repository, [aged(repository, 1)], [], stock, StatusConfig(), now=NOW)
    states = {state.id: state for state in found.models}
    assert states["a/b"].snapshot_id is not None and states["a/b"].in_cache == "complete"
    assert states["new/one"].snapshot_id is None
    (only,) = overview(repository, [aged(repository, 1)], [], None, StatusConfig(), now=NOW).models
    assert only.in_cache == "absent" and only.snapshot_id is not None


def test_growth_leaves_the_first_snapshot_out(repository: Repository) -> None:
    ages = [(20, 14_000), (10, 100), (5, 300)]
    snapshots = [aged(repository, days, bytes_new_stored=size) for days, size in ages]
    assert growth_per_day(snapshots, NOW) == pytest.approx(400 / 20, rel=0.01)
    assert growth_per_day(snapshots[:1], NOW) is None
    assert growth_per_day([aged(repository, 1), aged(repository, 0.5)], NOW) is None, "too early to tell"
