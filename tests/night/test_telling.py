"""What is told about a night, and to whom; what others can read or change is said, and not trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.backup.world import flip, zitcache
from tests.cli.night_reports import moment, overview
from tests.night.world import World, steps
from zitcache.errors import Exit
from zitcache.machine.texts import exact_text
from zitcache.schedule.history import Run, RunRecord, StepRecord
from zitcache.tasks.night.telling import message_of, metrics_of


def record(*done: tuple[str, int], exit_code: int | None = None, ended: float = 2.0) -> RunRecord:
    worst = max((code for _, code in done), default=0) if exit_code is None else exit_code
    return RunRecord(
        command="night",
        host=os.uname().nodename,
        program="zitcache",
        started=ended - 1,
        ended=ended,
        exit_code=worst,
        steps=[
            StepRecord(name=name, exit_code=code, seconds=1.0, message=f"{name} it was")
            for name, code in done
        ],
    )


def run(kept: RunRecord) -> Run:
    return Run("ab" * 32, kept)


@pytest.mark.parametrize(
    ("done", "level", "title"),
    [
        ([("backup", 0), ("check", 0)], "ok", "a good night"),
        ([("backup", 5), ("check", 0)], "failure", "backup failed"),
        ([("backup", 3)], "warning", "backup was not complete"),
        ([("backup", 3), ("check", 1)], "failure", "backup failed"),
        ([("stop", 130)], "failure", "the night was stopped"),
    ],
)
def test_the_first_thing_that_went_wrong_is_the_title(
    done: list[tuple[str, int]], level: str, title: str
) -> None:
    message = message_of(record(*done), overview())
    assert (message.level, message.title.partition(": ")[2]) == (level, title)
    assert all(name in message.body for name, _ in done)


def test_what_is_too_old_is_a_warning_after_a_good_night() -> None:
    message = message_of(record(("backup", 0)), overview(stale=["check", "proof"]))
    assert (message.level, message.exit_code) == ("warning", 0)
    assert message.title.endswith("check is too old") and "Too long ago: check, proof." in message.body


def test_a_good_check_does_not_turn_off_the_alarm_of_the_backup() -> None:
    """Under systemd they are runs of their own, with one ping address."""
    failed = overview(moments=[moment("backup", 2.0, 1.5, last_exit_code=5), moment("check", 0, 40)])
    message = message_of(record(("check", 0)), failed)
    assert (message.exit_code, message.ping_code) == (0, 5)
    assert message_of(record(("backup", 0)), overview()).ping_code == 0
    assert message_of(record(("check", 1)), failed).ping_code == 1


def test_metrics_keep_the_last_result_of_every_step() -> None:
    before = [run(record(("backup", 5), ended=100.0)), run(record(("drill", 9), ("backup", 0), ended=50.0))]
    found = {
        (metric.name, metric.labels["step"]): metric.value
        for metric in metrics_of(record(("check", 0), ended=200.0), None, before)
        if "step" in metric.labels
    }
    assert found["step_exit_code", "backup"] == 5 and found["step_timestamp_seconds", "backup"] == 100.0
    assert found["step_exit_code", "drill"] == 9 and found["step_exit_code", "check"] == 0
    assert found["step_timestamp_seconds", "check"] == 200.0
    assert ("step_exit_code", "proof") not in found


# -- the configuration and other people ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mode", "code"),
    [
        ('[notify]\nping = "http://127.0.0.1:9/secret"\n', 0o644, "secrets-readable"),
        ('[notify]\napprise = ["json://127.0.0.1:9/secret"]\n', 0o640, "secrets-readable"),
        ('[notify]\nwebhook = "http://127.0.0.1:9/secret"\n', 0o600, None),
        ('[notify]\non = "ok"\n', 0o644, None),
        ('[hooks]\nbefore = "true"\n', 0o644, None),
        ('[hooks]\nbefore = "true"\n', 0o666, "hooks-refused"),
        ('[hooks]\nafter = "true"\n', 0o664, "hooks-refused"),
    ],
)
def test_others_at_the_configuration(world: World, text: str, mode: int, code: str | None) -> None:
    world.configure(text)
    world.config.chmod(mode)
    _, exit_code, session = world.night(only=("backup",))
    found = {notice.code: notice for notice in session.warnings}
    assert exit_code == 0
    assert {"secrets-readable", "hooks-refused"} & set(found) == ({code} if code else set())
    if code:
        assert "chmod 600" in str(found[code].hint)


def test_hooks_that_others_can_change_are_not_run(world: World, tmp_path: Path) -> None:
    world.configure(f'[hooks]\nbefore = "touch {tmp_path}/before"\nafter = "touch {tmp_path}/after"\n')
    world.config.chmod(0o666)
    assert world.night(only=("backup",))[1] == 0
    assert not (tmp_path / "before").exists() and not (tmp_path / "after").exists()
    world.configure(f'[hooks]\nrequired = true\nbefore = "touch {tmp_path}/before"\n')
    world.config.chmod(0o666)
    report, code, _ = world.night(only=("backup",))
    assert code == Exit.USAGE and "backup" not in steps(report), "without what must come before, nothing runs"


@pytest.mark.root
def test_hooks_in_a_file_of_somebody_else_are_not_run(world: World, tmp_path: Path) -> None:
    world.configure(f'[hooks]\nbefore = "touch {tmp_path}/before"\n')
    os.chown(world.config, 65534, 65534)
    _, _, session = world.night(only=("backup",))
    assert "hooks-refused" in [notice.code for notice in session.warnings]
    assert not (tmp_path / "before").exists()


def test_a_hook_gets_names_as_they_are(world: World, tmp_path: Path) -> None:
    """The title and the body may hold anything: they are variables, and never a part of the command."""
    world.configure(f"[hooks]\nafter = 'printf %s \"$ZITCACHE_BODY\" >{tmp_path}/body'\n")
    (world.model / "$(touch pwned) `id` ; x.bin").write_bytes(b"x" * 5000)
    world.night(only=("backup",))
    path = world.model / "model.safetensors"
    flip(path)
    world.configure(
        f'[night]\nreread = "100%"\n[hooks]\nafter = \'printf %s "$ZITCACHE_BODY" >{tmp_path}/body\'\n'
    )
    assert world.night(only=("backup",))[1] == Exit.DAMAGE
    assert (tmp_path / "body").read_text().startswith("backup: the cache is damaged: ")


# -- machines that share a repository -------------------------------------------------------------------


def of_another_host(world: World, monkeypatch: pytest.MonkeyPatch, **request: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "another-box")
        world.night(**request)


def test_the_drill_of_another_machine_is_not_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    of_another_host(world, monkeypatch, only=("backup", "drill", "prune"))
    report, _, _ = world.night(dry_run=True)
    assert "drill" not in steps(report), "a machine that has no night yet may be the same one with a new name"
    world.night(only=("backup",))
    report, _, _ = world.night(dry_run=True)
    assert "drill" in steps(report) and "prune" not in steps(report)


def test_the_failure_of_another_machine_is_not_the_last_night_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zitcache.schedule.history import own_runs
    from zitcache.tasks.schedule import schedule_state

    world.night(only=("backup",))
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "another-box")
        world.configure('[night]\nreread = "nonsense"\n')
        world.night(only=("backup",))
    assert [kept.record.exit_code for kept in world.runs()] == [2, 0]
    assert schedule_state(world.runs()).last_exit_code == 0
    assert [kept.record.host for kept in own_runs(world.runs())] == [os.uname().nodename]


def test_a_record_is_bounded(world: World) -> None:
    from zitcache.schedule.history import MAX_LOG_CHARACTERS, remember, state_directory

    large = msgspec.structs.replace(record(("backup", 0)), log="x" * (MAX_LOG_CHARACTERS * 3))
    assert remember(large, None, state_directory()) == []
    from zitcache.schedule.history import recent_runs

    (kept,) = recent_runs(None, state_directory())
    assert len(kept.record.log) == MAX_LOG_CHARACTERS


def test_a_name_that_is_no_text_is_told_and_remembered(world: World, tmp_path: Path) -> None:
    bad = world.model / os.fsdecode(b"shard-\xff\n.bin")
    bad.write_bytes(b"x" * 5000)
    world.configure(
        f'[night]\nreread = "100%"\n[metrics]\ntextfile = "{tmp_path}/z.prom"\n'
        f"[hooks]\nafter = 'printf %s \"$ZITCACHE_BODY\" >{tmp_path}/body'\n"
    )
    assert world.night(only=("backup",))[1] == 0
    flip(bad)
    report, code, _ = world.night(only=("backup", "report"))
    assert code == Exit.DAMAGE and report.told, [step.message for step in report.steps]
    (newest, _) = world.runs()
    step = newest.record.step("backup")
    assert step is not None and bad.name in step.message, "the exact name comes back"
    assert (tmp_path / "body").read_text().splitlines()[0].endswith("shard-\\xff\\n.bin")
    assert len([line for line in newest.record.log.splitlines() if "shard-" in line]) == 2, (
        "no lines of its own"
    )
    done = zitcache("log", "-r", world.place, "--json")
    told = json.loads(done.stdout)["data"]
    exact = exact_text(told["steps"][0]["data"]["damaged"][0])
    assert exact == f"models/a--b/snapshots/master/{bad.name}"
    zitcache("log", "-r", world.place).stdout.encode("utf-8", "strict")
