"""A night does what is due, goes on where that makes sense, remembers, and tells."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import flip
from tests.night.world import World, steps
from zitcache.errors import Exit, Locked, UsageError
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots
from zitcache.schedule.history import recent_runs, state_directory
from zitcache.storage.local import LocalStorage
from zitcache.tasks.configuration import Config
from zitcache.tasks.night import NightRequest
from zitcache.tasks.night.due import due_steps
from zitcache.ui.page import render_page

DAY = 86_400


def test_the_first_night_does_everything(world: World) -> None:
    report, code, _ = world.night(skip=("proof",))
    assert code == 0
    assert list(steps(report)) == ["backup", "forget", "prune", "check", "drill", "report"]
    assert (world.place / "report.html").read_text().startswith("<!doctype html>")
    (run,) = world.runs()
    assert run.record.exit_code == 0 and run.record.command == "night" and not run.pending
    backup = run.record.step("backup")
    assert backup is not None and json.loads(bytes(backup.data))["size_bytes"] > 0
    assert "backup: " in run.record.log


def test_the_second_night_does_what_is_due(world: World) -> None:
    world.night(skip=("proof",))
    report, code, _ = world.night()
    assert code == 0
    skipped = {step.name: step.skipped for step in report.steps if step.skipped}
    assert set(skipped) >= {"prune", "drill"}
    assert "every 30 days" in str(skipped["drill"])
    assert set(steps(report)) >= {"backup", "forget", "check", "report"}


@pytest.mark.parametrize(
    ("age_days", "due"), [(0.9, False), (29.0, False), (29.9, True), (31, True), (-5, True)]
)
def test_a_drill_comes_every_month_by_the_history(world: World, age_days: float, due: bool) -> None:
    world.night(only=("drill",), skip=("proof",))
    now = world.runs()[0].record.started + age_days * DAY
    request = NightRequest(render=render_page)
    assert ("drill" not in due_steps(request, Config(), world.runs(), now)) is due


def test_force_does_not_wait(world: World) -> None:
    world.night(only=("drill",))
    report, _, _ = world.night(only=("drill",), force=True)
    assert list(steps(report)) == ["drill"]


def test_a_dry_run_says_what_is_due_and_changes_nothing(world: World) -> None:
    before = sorted(str(path) for path in world.place.rglob("*"))
    report, code, _ = world.night(dry_run=True)
    assert code == 0 and report.dry_run and "backup" in steps(report)
    assert sorted(str(path) for path in world.place.rglob("*")) == before
    assert world.runs() == []


def test_a_slice_of_cache_and_repository_is_read_each_night(world: World) -> None:
    world.configure('[night]\nreread = "100%"\nread_data = "100%"\n')
    world.night(only=("backup",))
    report, _, _ = world.night(only=("backup", "check"))
    data: dict[str, Any] = {step.name: step.data for step in report.steps if step.skipped is None}
    assert data["backup"]["bytes_read"] == data["backup"]["size_bytes"]
    assert data["check"]["bytes_read"] > 0


def test_rot_is_found_and_nothing_is_lost(world: World) -> None:
    world.configure('[night]\nreread = "100%"\n')
    world.night(only=("backup",))
    flip(world.model / "model.safetensors")
    report, code, _ = world.night(only=("backup", "forget", "prune"), force=True)
    assert code == Exit.DAMAGE
    message = next(step.message for step in report.steps if step.name == "backup")
    assert "model.safetensors" in message
    assert steps(report)["forget"] == 0
    snapshots, _ = list_snapshots(Repository.open(LocalStorage(world.place)))
    assert any(snapshot.is_good for snapshot in snapshots), "the good one is still there"


def test_nothing_is_forgotten_after_a_failed_backup(world: World) -> None:
    world.night(only=("backup",))
    for path in world.model.iterdir():
        path.unlink()
    report, code, _ = world.night()
    skipped = {step.name: step.skipped for step in report.steps}
    assert code == Exit.NOT_FOUND
    assert "nothing is forgotten" in str(skipped["forget"])
    assert steps(report)["check"] == 0, "a check is as useful as ever"
    assert world.runs()[0].record.exit_code == Exit.NOT_FOUND


def test_a_repository_that_is_gone_is_remembered_elsewhere_and_moves_over(world: World) -> None:
    away = world.place.rename(world.place.with_name("away"))
    report, code, _ = world.night()
    assert code == Exit.NOT_FOUND and list(steps(report)) == ["backup"]
    waiting = recent_runs(None, state_directory())
    assert [run.pending for run in waiting] == [True]
    away.rename(world.place)
    world.night(only=("backup",))
    codes = [(run.record.exit_code, run.pending) for run in world.runs()]
    assert codes == [(0, False), (Exit.NOT_FOUND, False)]


def test_two_nights_do_not_run_at_once(world: World, tmp_path: Path) -> None:
    caught: list[Exit] = []

    def render(data: object) -> str:
        with pytest.raises(Locked):
            world.night()
        caught.append(Exit.LOCKED)
        return "page"

    world.night(only=("backup", "report"), render=render)
    assert caught == [Exit.LOCKED]


def test_a_bug_in_a_step_is_recorded_and_the_others_run(world: World) -> None:
    def broken(data: object) -> str:
        raise ZeroDivisionError("in the page")

    report, code, _ = world.night(only=("report", "backup", "check"), render=broken)
    assert code == Exit.BUG
    assert steps(report) == {"backup": 0, "check": 0, "report": int(Exit.BUG)}
    assert "ZeroDivisionError" in world.runs()[0].record.log


def test_an_interrupted_night_is_remembered(world: World) -> None:
    from zitcache.errors import Interrupted

    def stop(data: object) -> str:
        raise Interrupted

    with pytest.raises(Interrupted):
        world.night(only=("backup", "report"), render=stop)
    (run,) = world.runs()
    assert run.record.exit_code == Exit.INTERRUPTED
    assert run.record.step("backup") is not None, "what was done is in it"


@pytest.mark.parametrize("words", [{"only": ("backups",)}, {"skip": ("x",)}])
def test_an_unknown_step_is_refused(world: World, words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no step"):
        world.night(**words)


def test_hooks_run_before_and_after(world: World, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    world.configure(
        f'[hooks]\nbefore = "echo before >> {seen}"\n'
        f'after = "echo $ZITCACHE_EXIT_CODE $ZITCACHE_LEVEL >> {seen}"\n'
    )
    world.night(only=("backup",))
    assert seen.read_text() == "before\n0 ok\n"


def test_a_required_hook_that_fails_stops_the_night(world: World) -> None:
    world.configure('[hooks]\nbefore = "exit 3"\nrequired = true\n')
    report, code, session = world.night()
    assert code == Exit.USAGE and "backup" not in steps(report)
    assert world.snapshots() == 0
    assert any(notice.code == "hook-failed" for notice in session.warnings)
    world.configure('[hooks]\nbefore = "exit 3"\n')
    _, code, _ = world.night(only=("backup",))
    assert code == 0 and world.snapshots() == 1, "not required: a warning"


def test_failing_to_tell_never_fails_the_night(world: World) -> None:
    world.configure(
        '[notify]\nping = "http://127.0.0.1:9/x"\nwebhook = "http://127.0.0.1:9/y"\non = "ok"\n'
        '[metrics]\ntextfile = "/nonexistent/zitcache.prom"\n'
    )
    report, code, session = world.night(only=("backup",))
    assert code == 0 and not report.told
    assert {notice.code for notice in session.warnings} >= {"not-told", "metrics-not-written"}


def test_the_metrics_say_how_it_went(world: World, tmp_path: Path) -> None:
    textfile = tmp_path / "zitcache.prom"
    world.configure(f'[metrics]\ntextfile = "{textfile}"\n')
    world.night(only=("backup",))
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(textfile.read_text())
        for sample in family.samples
    }
    assert found["zitcache_last_run_exit_code",] == 0
    assert found["zitcache_model_protected", "a/b", "master"] == 1
    assert found["zitcache_last_success_timestamp_seconds", "backup"] == pytest.approx(time.time(), abs=60)
    assert found["zitcache_last_success_timestamp_seconds", "proof"] == 0


def test_old_runs_go_and_the_newest_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zitcache.schedule.history.KEEP", 3)
    for _ in range(5):
        world.night(only=("report",))
    assert len(world.runs()) == 3


def test_the_policy_of_the_configuration_is_applied(world: World) -> None:
    world.configure("[retention]\nkeep_daily = 0\nkeep_weekly = 0\nkeep_monthly = 0\nkeep_last = 2\n")
    for number in range(4):
        (world.model / "config.json").write_text(f'{{"dim": {number}}}')
        world.night(only=("backup", "forget"))
    assert world.snapshots() == 2


@pytest.mark.parametrize("setting", ['reread = "2"', 'read_data = "x"', 'reread = "1/0"'])
def test_a_wrong_share_fails_its_step_with_the_name_of_the_setting(world: World, setting: str) -> None:
    world.configure(f"[night]\n{setting}\n")
    report, code, _ = world.night(only=("backup", "check"))
    name = setting.partition(" ")[0]
    failed = [step for step in report.steps if step.exit_code]
    assert code == Exit.USAGE and len(failed) == 1 and f"night.{name}" in failed[0].message


def test_a_test_message_reaches_every_channel(world: World, tmp_path: Path) -> None:
    report, code, _ = world.night(test=True)
    assert report.told and code == 0
    world.configure('[notify]\nwebhook = "http://127.0.0.1:9/y"\n')
    report, code, _ = world.night(test=True)
    assert not report.told and code == Exit.UNREACHABLE
    assert world.snapshots() == 0
