"""Nights that are killed, terminated or in each other's way: nothing is lost, and it is known afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.backup.world import require_sound
from tests.night.world import World
from tests.schedule.world import wait_for
from zitcache.errors import Exit, Locked
from zitcache.schedule.history import state_directory
from zitcache.tasks.night import KILLED


def is_running(world: World) -> bool:
    """Whether a night has begun and holds its lock."""
    lock = state_directory() / "night.lock"
    return lock.exists() and lock.read_text() != ""


def slow_backup(world: World) -> None:
    """A model that is so large that a signal arrives in the middle of it."""
    for number in range(8):
        path = world.model / f"shard-{number}.bin"
        with path.open("wb") as file:
            for _ in range(12):
                file.write(os.urandom(1 << 20))


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.8, 1.5])
def test_a_night_killed_anywhere_is_known_to_the_next_one(world: World, delay: float) -> None:
    slow_backup(world)
    process = world.start("--skip", "proof,drill")
    wait_for(lambda: is_running(world))
    time.sleep(delay)
    process.kill()
    process.communicate()
    began = float((state_directory() / "night.lock").read_text() or 0)
    _, code, session = world.night(skip=("proof", "drill"))
    assert code == 0
    if not began:
        assert delay > 0.5, "it had ended"
        return
    assert "night-killed" in [notice.code for notice in session.warnings]
    killed = world.runs()[-1].record
    assert (killed.exit_code, killed.steps) == (KILLED, [])
    assert killed.started == pytest.approx(began, abs=1)
    require_sound(world.place)
    assert world.night(only=("check",))[1] == 0
    assert "night-killed" not in [notice.code for notice in world.night(only=("report",))[2].warnings]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_night_that_is_stopped_ends_within_two_seconds_and_says_so(
    world: World, number: int, code: int
) -> None:
    slow_backup(world)
    process = world.start("--json")
    wait_for(lambda: is_running(world))
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert time.monotonic() - began < 2.0
    assert process.returncode == code == json.loads(out)["exit_code"]
    (run,) = world.runs()
    assert run.record.exit_code == Exit.INTERRUPTED
    assert "interrupted; what was done is kept" in run.record.log
    _, code_after, session = world.night(skip=("proof", "drill"))
    assert code_after == 0
    assert "night-killed" not in [notice.code for notice in session.warnings]
    require_sound(world.place)


def test_the_ping_service_and_the_hook_hear_of_a_night_that_is_stopped(world: World, tmp_path: Path) -> None:
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(self.path.partition("?")[0])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    after = tmp_path / "after"
    world.configure(
        f'[notify]\nping = "http://127.0.0.1:{server.server_port}/p"\n'
        f'[hooks]\nbefore = "sleep 30"\nafter = "echo $ZITCACHE_EXIT_CODE >{after}"\n'
    )
    process = world.start()
    wait_for(lambda: heard == ["/p/start"])
    time.sleep(0.2)
    process.terminate()
    process.communicate(timeout=20)
    server.shutdown()
    server.server_close()
    assert heard == ["/p/start", "/p/130"]
    wait_for(after.exists, 3)
    assert after.read_text() == "130\n"


def test_a_ping_service_that_hangs_does_not_keep_a_stopped_night(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and never answers
        port = deaf.getsockname()[1]
        world.configure(f'[notify]\nping = "http://127.0.0.1:{port}/p"\n[hooks]\nbefore = "sleep 30"\n')
        process = world.start()
        wait_for(lambda: is_running(world))
        time.sleep(11)  # the first ping gives up after ten seconds
        began = time.monotonic()
        process.terminate()
        process.communicate(timeout=20)
        assert time.monotonic() - began < 2.0
    assert world.runs()[0].record.exit_code == Exit.INTERRUPTED


def test_a_second_night_is_refused_or_waits(world: World) -> None:
    world.configure('[hooks]\nbefore = "sleep 3"\n')
    first = world.start("--only", "backup")
    wait_for(lambda: is_running(world))
    with pytest.raises(Locked):
        world.night(only=("report",))
    report, code, _ = world.night(if_missed="* * * * *")
    assert code == 0 and report.steps == []
    world.configure("")
    report, code, _ = world.night(only=("report",), wait_seconds=60)
    assert code == 0
    assert first.wait(20) == 0
    second, first_run = world.runs()
    assert second.record.started >= first_run.record.ended - 1


def test_waiting_can_be_stopped(world: World) -> None:
    world.configure('[hooks]\nbefore = "sleep 20"\n')
    first = world.start()
    wait_for(lambda: is_running(world))
    second = world.start("--wait", "1h")
    time.sleep(1.5)
    assert second.poll() is None
    for process in (second, first):
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 143


def test_a_hook_that_leaves_something_running_does_not_keep_the_night(world: World, tmp_path: Path) -> None:
    """What it starts in the background holds its output open: `service x start` does so."""
    world.configure(f'[hooks]\nbefore = "sleep 20 & echo $! >{tmp_path}/pid"\n')
    began = time.monotonic()
    report, code, _ = world.night(only=("backup",))
    assert code == 0 and report.told
    assert time.monotonic() - began < 15
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_lock_does_not_pass_to_what_a_hook_starts(world: World, tmp_path: Path) -> None:
    world.configure(f'[hooks]\nbefore = "sleep 20 & echo $! >{tmp_path}/pid"\n')
    world.night(only=("backup",))
    world.configure("")
    assert world.night(only=("report",))[1] == 0
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_missed_nights_are_made_up_for_once(world: World) -> None:
    report, _, _ = world.night(if_missed="0 2 * * *")
    assert report.none_missed, "the first night has its time"
    world.night(only=("backup",))
    assert world.night(if_missed="0 2 * * *")[0].none_missed
    (state_directory() / "last-night").write_text(f"{time.time() - 90_000:.0f}\n")
    report, code, _ = world.night(if_missed="0 2 * * *", only=("backup",))
    assert code == 0 and not report.none_missed and report.steps
    assert world.night(if_missed="0 2 * * *")[0].none_missed


def test_the_history_tells_of_missed_nights_when_the_system_disk_was_reset(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.night(only=("backup",))
    now = time.time()
    (state_directory() / "last-night").unlink()
    assert world.night(if_missed="0 2 * * *")[0].none_missed
    monkeypatch.setattr("zitcache.tasks.schedule.missed.own_runs", lambda runs: _aged(runs, now - 2 * 86_400))
    assert not world.night(if_missed="0 2 * * *", only=("backup",))[0].none_missed


def _aged(runs, started):  # type: ignore[no-untyped-def]
    import msgspec

    from zitcache.schedule.history import Run

    return [Run(run.id, msgspec.structs.replace(run.record, started=started)) for run in runs]


def test_a_clock_from_the_future_does_not_stop_the_nights(world: World) -> None:
    (state_directory()).mkdir(parents=True, exist_ok=True)
    (state_directory() / "last-night").write_text(f"{time.time() + 10 * 365 * 86_400:.0f}\n")
    assert not world.night(if_missed="0 2 * * *", only=("backup",))[0].none_missed
    assert world.night(if_missed="0 2 * * *")[0].none_missed


def test_the_program_says_that_nothing_was_missed(world: World) -> None:
    process = world.start("--if-missed", "0 2 * * *")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "No night was missed.\n", "")
