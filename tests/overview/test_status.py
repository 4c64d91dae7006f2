"""``status``: one screen that says whether all is safe, and exit code 1 if it is not."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import flip, zitcache
from tests.cli.night_reports import overview, status_report
from tests.night.conftest import world
from tests.night.world import World
from zitcache.errors import Exit, RepositoryNotFound
from zitcache.events import Session
from zitcache.schedule.history import RunRecord, StepRecord, remember, state_directory
from zitcache.tasks.doctor import DoctorRequest, doctor
from zitcache.tasks.overview import ModelState
from zitcache.tasks.status import StatusReport, status
from zitcache.ui.render.status import render_status
from zitcache.ui.report import View
from zitcache.ui.style import Style

__all__ = ["world"]
VIEW = View(Style(False))


def look(world: World) -> tuple[StatusReport, Exit, Session]:
    session = Session()
    outcome = status(str(world.place), str(world.cache), session)
    return outcome.data, outcome.exit_code, session


def days_pass(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + days * 86_400)


def test_all_is_well_after_a_night(world: World) -> None:
    world.night(skip=("proof",))
    report, code, session = look(world)
    assert (code, report.ok, report.problems) == (Exit.OK, True, [])
    assert report.overview.last_good is not None and report.overview.disk is not None
    assert [notice.code for notice in session.warnings] == ["not-scheduled"], "somebody may run them by hand"
    lines = render_status(report, VIEW)
    assert lines[0].startswith("Protected: ") and len(lines) <= 24
    text = "\n".join(lines)
    for word in ("Backup:", "Check:", "Drill:", "Proof:", "Next run:", "Disk:", "a/b", "snapshot "):
        assert word in text


def test_a_night_that_did_not_happen_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.night(only=("backup",))
    days_pass(monkeypatch, 1.4)
    assert look(world)[1] == Exit.OK
    days_pass(monkeypatch, 0.3)
    report, code, _ = look(world)
    assert code == Exit.DAMAGE and report.problems == ["The last good backup is too old."]
    assert report.overview.stale == ["backup"]
    told = doctor(DoctorRequest(repository=str(world.place), cache=str(world.cache)), Session()).data
    (check,) = [check for check in told.checks if check.id == "last-backup"]
    assert check.status == "warn" and "more than" in check.evidence


def test_the_limits_of_the_configuration_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.configure("[status]\nbackup_hours = 200\n")
    world.night(only=("backup",))
    days_pass(monkeypatch, 8)
    assert look(world)[1] == Exit.OK
    days_pass(monkeypatch, 0.5)
    assert look(world)[1] == Exit.DAMAGE


def test_a_failed_backup_is_noticed_before_it_is_too_old(world: World) -> None:
    world.night(only=("backup",))
    flip(world.model / "model.safetensors")
    world.configure('[night]\nreread = "100%"\n')
    world.night(only=("backup",))
    report, code, _ = look(world)
    assert code == Exit.DAMAGE
    assert report.problems[0] == "The last backup failed with exit code 1."
    told = doctor(DoctorRequest(repository=str(world.place), cache=str(world.cache)), Session()).data
    (check,) = [check for check in told.checks if check.id == "last-backup"]
    assert check.status == "fail"


def test_a_new_model_is_not_protected_until_the_next_night(world: World) -> None:
    world.night(only=("backup",))
    shutil.copytree(world.model, world.cache / "models/c--d/snapshots/master")
    report, code, _ = look(world)
    assert code == Exit.DAMAGE and report.problems == ["c/d is in the cache but in no good snapshot."]
    assert "NOT PROTECTED" in "\n".join(render_status(report, VIEW))
    world.night(only=("backup",))
    assert look(world)[1] == Exit.OK


def test_a_model_that_lost_bytes_is_said_although_a_snapshot_has_it(world: World) -> None:
    world.night(only=("backup",))
    weights = world.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    report, code, _ = look(world)
    assert code == Exit.DAMAGE
    assert "incomplete in the cache" in report.problems[0] and "has it whole" in report.problems[0]


def test_a_cache_that_is_gone_is_no_stale_backup(world: World) -> None:
    world.night(only=("backup",))
    shutil.rmtree(world.cache)
    report, code, session = look(world)
    assert code == Exit.OK and report.overview.cache is None
    assert "no-cache" in [notice.code for notice in session.warnings]


def test_no_repository_is_an_error_with_the_next_command(world: World) -> None:
    shutil.rmtree(world.place)
    with pytest.raises(RepositoryNotFound) as caught:
        look(world)
    assert caught.value.hint is not None


def test_an_empty_repository_protects_nothing(world: World) -> None:
    report, code, _ = look(world)
    assert code == Exit.DAMAGE
    assert "There has been no good backup yet." in report.problems


def test_an_unreadable_snapshot_is_a_problem(world: World) -> None:
    world.night(only=("backup",))
    (world.model / "config.json").write_text('{"dim": 5}')
    world.night(only=("backup",))
    flip(sorted((world.place / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime)[0])
    report, code, _ = look(world)
    assert code == Exit.DAMAGE and report.problems[0].endswith("cannot be read.")


def test_the_picture_of_the_last_proof_is_named(world: World) -> None:
    world.night(only=("backup",))
    assert look(world)[0].picture is None
    picture = Path(f"{world.place}-proofs/2026-01-01T00-00-00Z/picture.png")
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    report, _, _ = look(world)
    assert report.picture == str(picture)
    assert f"Picture:  {picture}" in render_status(report, VIEW)


def test_waiting_records_of_a_night_without_a_disk_count(world: World) -> None:
    world.night(only=("backup",))
    away = world.place.rename(world.place.with_name("away"))
    world.night(only=("backup",))
    away.rename(world.place)
    report, code, _ = look(world)
    assert code == Exit.DAMAGE
    assert "The last backup failed with exit code 6." in report.problems
    assert "The last night ended with exit code 6: see zitcache log." in report.problems


def test_the_history_of_another_machine_does_not_raise_an_alarm_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.night(only=("backup",))
    from zitcache.repository.repository import Repository
    from zitcache.storage.local import LocalStorage

    foreign = RunRecord(
        command="night",
        host="another-box",
        program="zitcache",
        started=time.time(),
        ended=time.time(),
        exit_code=5,
        steps=[StepRecord(name="report", exit_code=5, seconds=1.0)],
    )
    remember(foreign, Repository.open(LocalStorage(world.place)), state_directory())
    assert look(world)[1] == Exit.OK


# -- one screen -----------------------------------------------------------------------------------------


def test_the_case_fits_one_screen_of_80_columns() -> None:
    lines = render_status(status_report(), VIEW)
    assert len(lines) <= 24
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("count", [7, 60])
def test_many_models_and_problems_fit_one_screen_too(count: int) -> None:
    models = [
        ModelState(
            id=f"owner/model-{number:03}",
            revision="master",
            size_bytes=1,
            in_cache="complete",
            snapshot_id=None if number % 2 else "ab" * 32,
            snapshot_time=None,
            age_seconds=None,
        )
        for number in range(count)
    ]
    problems = [
        f"owner/model-{number:03} is in the cache but in no good snapshot." for number in range(count)
    ]
    report = status_report(ok=False, problems=problems, overview=overview(models=models))
    lines = render_status(report, VIEW)
    assert len(lines) <= 24
    shown = "\n".join(lines)
    assert "more (-v shows all)" in shown and "NOT PROTECTED" in shown
    first_safe = shown.find("snapshot ab")
    assert first_safe == -1 or first_safe > shown.rindex("NOT PROTECTED"), "what is in danger comes first"
    everything = render_status(report, View(Style(False), limit=None))
    assert sum("NOT PROTECTED" in line for line in everything) == count // 2


def test_the_program_tells_a_monitor(world: World) -> None:
    done = zitcache("status", "-r", world.place, "--cache", world.cache, "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == Exit.DAMAGE == told["exit_code"] and told["error"] is None
    assert set(told["data"]) >= {"ok", "problems", "overview", "schedule", "picture"}
    world.night(only=("backup",))
    done = zitcache("status", "-r", world.place, "--cache", world.cache, "-q")
    assert (done.returncode, done.stdout) == (0, "")
