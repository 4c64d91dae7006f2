"""Our own scheduler, as a process: it runs nights, whatever happens to the machine, and stops when told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import NOBODY
from tests.schedule.world import Machine, configure, make_machine, start, wait_for
from tests.storage.disks import python_environment
from zitcache.errors import Exit, Locked
from zitcache.repository.repository import Repository
from zitcache.schedule.daemon import Daemon, only_one, running_scheduler
from zitcache.schedule.history import Run, recent_runs, state_directory
from zitcache.schedule.times import parse_times
from zitcache.storage.local import LocalStorage


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return make_machine(tmp_path, monkeypatch)


def runs(machine: Machine) -> list[Run]:
    return recent_runs(Repository.open(LocalStorage(machine.place)), state_directory())


def note_last_night(days_ago: float) -> None:
    state_directory().mkdir(parents=True, exist_ok=True)
    (state_directory() / "last-night").write_text(f"{time.time() - days_ago * 86_400:.0f}\n")


def schedule_run(machine: Machine, *more: str) -> subprocess.Popen[str]:
    return start("schedule", "run", "--repo", machine.place, "--cache", machine.cache, *more)


def stopped(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[float, str]:
    """How long it took to stop, and what was said on stderr."""
    began = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    return time.monotonic() - began, said


# -- nights come -------------------------------------------------------------------------------------


def fast(seconds: float, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.schedule.fast_daemon", str(seconds), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=python_environment(),
        cwd=Path(__file__).parents[2],
    )


def test_two_real_nights_come_seconds_apart(machine: Machine) -> None:
    night = ["night", "--only", "backup,check", "--repo", str(machine.place), "--cache", str(machine.cache)]
    daemon = fast(4, sys.executable, "-m", "zitcache", *night, "--no-progress")
    try:
        wait_for(lambda: len(runs(machine)) >= 2, 60)
    finally:
        daemon.terminate()
        said = daemon.communicate(timeout=20)[0]
    second, first = runs(machine)[:2]
    assert (first.record.exit_code, second.record.exit_code) == (0, 0)
    assert 2 < second.record.started - first.record.started < 30
    assert said.count("The night begins.") >= 2 and "The night ended with exit code 0." in said


def test_a_night_longer_than_its_interval_is_not_run_twice_at_once(tmp_path: Path) -> None:
    script = f'echo begin >>"{tmp_path}/log"; sleep 2.5; echo end >>"{tmp_path}/log"'
    daemon = fast(1, "sh", "-c", script)
    wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().count("end") >= 2, 30)
    daemon.terminate()
    said = daemon.communicate(timeout=20)[0]
    lines = (tmp_path / "log").read_text().split()
    assert lines[:4] == ["begin", "end", "begin", "end"]
    assert "still running" in said


def test_a_laptop_that_slept_makes_up_for_one_night(tmp_path: Path) -> None:
    daemon = fast(2, "sh", "-c", f'echo night >>"{tmp_path}/log"')
    log = tmp_path / "log"
    wait_for(log.exists)
    daemon.send_signal(signal.SIGSTOP)
    before = log.read_text().count("night")
    time.sleep(7)  # three nights
    daemon.send_signal(signal.SIGCONT)
    wait_for(lambda: log.read_text().count("night") > before, 3)
    time.sleep(0.7)
    assert log.read_text().count("night") == before + 1, "one for all that were missed"
    daemon.terminate()
    daemon.communicate(timeout=20)


def test_a_night_that_is_killed_is_said_and_the_next_one_comes(tmp_path: Path) -> None:
    daemon = fast(2, "sh", "-c", f'echo $$ >>"{tmp_path}/log"; kill -9 $$')
    wait_for(lambda: (tmp_path / "log").exists() and len((tmp_path / "log").read_text().split()) >= 2)
    daemon.terminate()
    assert "The night was killed by signal 9." in daemon.communicate(timeout=20)[0]


def test_a_program_that_is_gone_is_said_and_the_scheduler_stays(tmp_path: Path) -> None:
    daemon = fast(1, str(tmp_path / "gone"))
    time.sleep(3)
    assert daemon.poll() is None
    daemon.terminate()
    assert "could not be started" in daemon.communicate(timeout=20)[0]


# -- what was missed ----------------------------------------------------------------------------------


def test_a_missed_night_is_made_up_for_at_the_start(machine: Machine) -> None:
    configure(machine, "[night]\nproof = false\n")
    note_last_night(2)
    process = schedule_run(machine)
    wait_for(lambda: len(runs(machine)) == 1, 60)
    _, said = stopped(process)
    assert process.returncode == 0
    assert "The last night was missed" in said and "Next run: " in said
    assert runs(machine)[0].record.exit_code == 0


@pytest.mark.parametrize("damage", ["no repository", "no history", "nonsense"])
def test_without_a_history_the_scheduler_starts_all_the_same(machine: Machine, damage: str) -> None:
    if damage == "no repository":
        machine.place.rename(machine.place.with_name("away"))
    if damage == "nonsense":
        (machine.place / "runs").mkdir()
        (machine.place / "runs" / ("ab" * 32)).write_bytes(b"\0" * 100)
        state_directory().mkdir(parents=True)
        (state_directory() / "last-night").write_text("yesterday\n")
    process = schedule_run(machine)
    wait_for(lambda: running_scheduler(state_directory()) is not None)
    _, said = stopped(process)
    assert process.returncode == 0 and "missed" not in said and "Next run: " in said


# -- stopping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_within_two_seconds(machine: Machine, number: int) -> None:
    process = schedule_run(machine)
    wait_for(lambda: running_scheduler(state_directory()) == process.pid)
    seconds, _ = stopped(process, number)
    assert seconds < 2 and process.returncode == 0
    assert running_scheduler(state_directory()) is None


def test_the_night_stops_with_it_and_remembers_that(machine: Machine) -> None:
    """A hook that takes a minute stands for a long night."""
    configure(machine, f'[hooks]\nbefore = "echo $$ >{machine.base}/pid; sleep 60"\n')
    note_last_night(2)
    process = schedule_run(machine)
    wait_for(lambda: (machine.base / "pid").exists() and (machine.base / "pid").read_text().strip() != "")
    hook = int((machine.base / "pid").read_text())
    seconds, _ = stopped(process)
    assert seconds < 2.5 and process.returncode == 0
    wait_for(lambda: not alive(hook), 3)
    wait_for(lambda: len(runs(machine)) == 1, 3)
    assert runs(machine)[0].record.exit_code == Exit.INTERRUPTED


def test_a_night_that_does_not_want_to_stop_is_killed(tmp_path: Path) -> None:
    daemon = fast(1, "sh", "-c", f'trap "" TERM; echo $$ >"{tmp_path}/pid"; while :; do sleep 0.1; done')
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
    child = int((tmp_path / "pid").read_text())
    began = time.monotonic()
    daemon.terminate()
    daemon.communicate(timeout=20)
    assert time.monotonic() - began < 2.5
    wait_for(lambda: not alive(child), 3)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- one and only ---------------------------------------------------------------------------------------


def test_two_schedulers_are_one_too_many(machine: Machine) -> None:
    first = schedule_run(machine)
    wait_for(lambda: running_scheduler(state_directory()) == first.pid)
    second = schedule_run(machine, "--json")
    out, _ = second.communicate(timeout=20)
    told = json.loads(out)
    assert second.returncode == Exit.LOCKED == told["exit_code"]
    assert str(first.pid) in told["error"]["message"]
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    third = schedule_run(machine)
    wait_for(lambda: running_scheduler(state_directory()) == third.pid)
    assert stopped(third)[0] < 2


def test_the_lock_is_free_when_its_owner_is_gone(tmp_path: Path) -> None:
    with only_one(tmp_path):
        assert running_scheduler(tmp_path) == os.getpid()
        with pytest.raises(Locked, match=str(os.getpid())), only_one(tmp_path):
            pass
    assert running_scheduler(tmp_path) is None


# -- installing it --------------------------------------------------------------------------------------


def test_installing_starts_it_and_removing_stops_it(machine: Machine) -> None:
    report, code, _ = machine.install(at="04:00")
    try:
        assert (code, report.backend, report.at, report.armed) == (Exit.OK, "daemon", "0 4 * * *", True)
        assert report.next_run is not None and "schedule run" in str(report.daemon_command)
        first = running_scheduler(state_directory())
        assert first is not None
        report, _, _ = machine.install(at="05:00")
        assert report.at == "0 5 * * *" and running_scheduler(state_directory()) != first
        assert any(f"process {first}" in line and "(removed)" in line for line in report.changed)
        machine.alive.add("cron")
        report, _, _ = machine.install(backend="cron")
        assert report.backend == "cron" and running_scheduler(state_directory()) is None
        machine.alive.clear()
        assert machine.install()[0].backend == "daemon"
    finally:
        report, code, _ = machine.remove()
    assert code == Exit.OK and running_scheduler(state_directory()) is None
    report, code = machine.status()
    assert code == Exit.DAMAGE and report.problem == "Nothing is scheduled: no night comes by itself."


def test_what_a_restart_means_is_said(machine: Machine) -> None:
    from zitcache.ui.render.schedule import render_schedule
    from zitcache.ui.report import View
    from zitcache.ui.style import Style

    try:
        report, _, _ = machine.install()
        text = "\n".join(render_schedule(report, View(Style(False))))
    finally:
        machine.remove()
    assert "until this machine or container stops" in text
    assert f"schedule run --at '0 2 * * *' --repo {machine.place}" in text
    assert "After a restart: zitcache schedule install" in text


def test_the_start_command_of_a_container_is_left_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zitcache.tasks.schedule.installing.running_scheduler", lambda state: 1)
    monkeypatch.setattr("zitcache.tasks.schedule.state.running_scheduler", lambda state: 1)
    _, code, session = machine.remove()
    assert code == Exit.OK and [notice.code for notice in session.warnings] == ["scheduler-is-first-process"]
    report, _, session = machine.install()
    assert report.armed and "as it was" in report.changed[0]


@pytest.mark.root
def test_an_ordinary_user_can_have_it(machine: Machine) -> None:
    base = Path(tempfile.mkdtemp(prefix="zitcache-user-"))
    try:
        base.chmod(0o755)
        shutil.copytree(machine.cache, base / "cache")
        shutil.copytree(machine.place, base / "data/zitcache")
        (base / "home").mkdir()
        for path in (
            base / "data/zitcache",
            *(base / "data/zitcache").rglob("*"),
            base / "home",
            base / "data",
        ):
            os.chown(path, NOBODY, NOBODY)
        words = ["--repo", str(base / "data/zitcache"), "--cache", str(base / "cache")]

        def run(*arguments: str) -> dict[str, Any]:
            done = subprocess.run(
                # It may read what root has (this Python may be in /root), and is an ordinary user otherwise.
                [
                    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
                    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
                    *(sys.executable, "-m", "zitcache", *arguments, "--json"),
                ],
                capture_output=True,
                text=True,
                cwd="/",
                env={**python_environment(), "HOME": str(base / "home"), "ZITCACHE_SYSTEM_ROOT": str(base)},
            )
            return json.loads(done.stdout)  # type: ignore[no-any-return]

        told = run("schedule", "install", "--backend", "daemon", *words)
        assert told["ok"] and told["data"]["backend"] == "daemon", told
        assert run("schedule", "status", *words[:2])["data"]["armed"]
        assert run("schedule", "remove")["data"]["changed"]
        assert run("schedule", "status", *words[:2])["exit_code"] == Exit.DAMAGE
    finally:
        shutil.rmtree(base)


# -- clocks ---------------------------------------------------------------------------------------------


class Clock:
    """What the scheduler takes for the time: the real one and an offset that tests move."""

    def __init__(self, begin: datetime) -> None:
        self.offset = begin.timestamp() - time.time()

    def jump(self, **span: float) -> None:
        self.offset += timedelta(**span).total_seconds()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    import apscheduler.schedulers.base as base

    found = Clock(datetime(2026, 6, 1, 1, 0).astimezone())
    real = time.time

    class Fake(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(real() + found.offset, tz)

    monkeypatch.setattr(base, "datetime", Fake)
    monkeypatch.setattr("zitcache.schedule.daemon.time.time", lambda: real() + found.offset)
    return found


@pytest.fixture
def running(clock: Clock, tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """The scheduler with a night at two, on that clock: the file that nights write to, and what is said."""
    said: list[str] = []
    log = tmp_path / "log"
    command = ["sh", "-c", f'echo night >>"{log}"']
    daemon = Daemon(command, parse_times("02:00"), missed=lambda: False, say=said.append)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    wait_for(lambda: bool(said))
    yield log, said
    daemon.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_clock_that_jumps_over_the_time_brings_the_night_once(
    clock: Clock, running: tuple[Path, list[str]]
) -> None:
    log, _ = running
    clock.jump(days=3, hours=2)
    wait_for(log.exists, 5)
    time.sleep(1.5)
    assert log.read_text() == "night\n"


def test_a_clock_that_is_set_back_years_does_not_stop_the_nights(
    clock: Clock, running: tuple[Path, list[str]]
) -> None:
    log, said = running
    clock.jump(days=3650)
    wait_for(lambda: any("The night ended" in line for line in said), 6)
    clock.jump(days=-3650)
    wait_for(lambda: any("set back" in line for line in said), 5)
    assert said[-1].startswith("Next run: 2026-06-01 02:00")
    log.unlink()
    clock.jump(hours=1, minutes=5)
    wait_for(log.exists, 5)


def test_a_clock_that_is_put_right_by_little_changes_nothing(
    clock: Clock, running: tuple[Path, list[str]]
) -> None:
    log, said = running
    clock.jump(seconds=-3)
    time.sleep(1.5)
    assert not log.exists() and len(said) == 1
