"""Ctrl-C and SIGTERM, sent to a real process. A process that hangs fails by time-out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zitcache.cli.signals import StopSignals
from zitcache.events import Cancel

ROOT = Path(__file__).parents[2]
LONG_BUT_FINITE_SECONDS = 20


def start(manner: str, *arguments: str, ignore_interrupt: bool = False) -> subprocess.Popen[str]:
    """Start the slow program and wait until its task runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.slow_task", manner, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignore_interrupt else None,
    )
    assert process.stderr is not None
    while (line := process.stderr.readline()) != "ready\n":
        assert line, "the program ended before its task ran"
    return process


@pytest.mark.parametrize("manner", ["polite", "stubborn", "stuck"])
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
def test_one_signal_ends_every_task(manner: str, number: signal.Signals, code: int, word: str) -> None:
    process = start(manner)
    process.send_signal(number)
    out, err = process.communicate(timeout=LONG_BUT_FINITE_SECONDS)
    assert process.returncode == code
    assert out == "" and "Traceback" not in err
    assert f"error: {word}. What was finished is kept." in err and "hint: Run the same command" in err


@pytest.mark.parametrize("manner", ["polite", "stubborn"])
def test_an_interrupted_command_still_prints_its_json(manner: str) -> None:
    process = start(manner, "--json")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=LONG_BUT_FINITE_SECONDS)
    envelope = json.loads(out)
    assert (process.returncode, envelope["exit_code"]) == (143, 143)
    assert envelope["error"]["code"] == "terminated"
    assert [item["code"] for item in envelope["warnings"]] == ["a-warning"]
    assert err == ""


def test_a_task_that_was_just_finished_reports_its_result() -> None:
    process = start("done-anyway")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=LONG_BUT_FINITE_SECONDS)
    assert (process.returncode, out) == (0, "done\n")


def test_nohup_is_respected() -> None:
    process = start("polite", ignore_interrupt=True)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONG_BUT_FINITE_SECONDS)
    assert process.returncode == 143


def test_a_second_ctrl_c_leaves_at_once() -> None:
    cancel, left = Cancel(), threading.Event()
    numbers: list[int] = []

    def leave(number: int) -> None:
        numbers.append(number)
        left.set()

    with StopSignals(cancel, leave) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        while not cancel:
            pass
        assert not left.is_set() and signals.received == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        assert left.wait(LONG_BUT_FINITE_SECONDS)
    assert numbers == [signal.SIGINT]


def test_handlers_are_put_back() -> None:
    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    with StopSignals(Cancel(), lambda number: None):
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_nothing_is_installed_outside_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with StopSignals(Cancel(), lambda number: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
