from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from zitcache.events import Notice, Progress
from zitcache.ui.meter import Meter, Reading
from zitcache.ui.output import OutputOptions
from zitcache.ui.progress import (
    BarProgress,
    Display,
    LineProgress,
    WarningsOnly,
    bar,
    make_display,
    progress_line,
)
from zitcache.ui.style import Style


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def wait_for(stream: io.StringIO, text: str) -> None:
    """Wait until ``text`` has been written; a display that never draws fails here."""
    deadline = time.monotonic() + 20
    while text not in stream.getvalue():
        assert time.monotonic() < deadline, stream.getvalue()
        time.sleep(0.01)


def test_rates_and_time_left() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.stage("Reading", 1000)
    meter.file("a.safetensors")
    clock.now += 10
    meter.advance(100)
    reading = meter.read()
    assert (reading.done_bytes, reading.share, reading.rate_mean) == (100, 0.1, 10.0)
    for _ in range(5):
        clock.now += 1
        meter.advance(50)
        reading = meter.read()
    assert reading.rate_now == pytest.approx(50)
    assert reading.rate_mean == pytest.approx(350 / 15)
    assert reading.remaining_seconds == pytest.approx(650 / ((50 + 350 / 15) / 2))
    assert reading.file == "a.safetensors"


def test_a_stalled_disk_shows_as_a_rate_of_nothing() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.stage("Reading", 1000)
    clock.now += 1
    meter.advance(500)
    meter.read()
    for _ in range(10):
        clock.now += 1
        reading = meter.read()
    assert reading.rate_now == 0 and reading.rate_mean > 0


def test_a_new_stage_starts_from_zero() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.stage("Reading", 10)
    meter.file("x")
    meter.advance(10)
    clock.now += 1
    meter.stage("Verifying", None)
    reading = meter.read()
    assert (reading.stage, reading.done_bytes, reading.total_bytes, reading.file) == (
        "Verifying",
        0,
        None,
        None,
    )
    assert reading.share is None and reading.remaining_seconds is None


def test_no_byte_is_lost_between_threads() -> None:
    meter = Meter()
    meter.stage("Reading", None)

    def count() -> None:
        for _ in range(5000):
            meter.advance(3)
            meter.file("x")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.read().done_bytes == 8 * 5000 * 3


READING = Reading(
    "Reading", 12_300_000_000, 32_848_304_654, 9.0, 1.5e9, 1.37e9, 14.2, "vae/\x1b[2Jevil\nname"
)


def test_a_line_says_everything_and_cannot_drive_the_terminal() -> None:
    assert progress_line(READING) == (
        "Reading: 12.3 GB of 32.8 GB (37 %), 1.5 GB/s now, 1.4 GB/s mean, 14 s left, vae/\\x1b[2Jevil\\nname"
    )


def test_a_hundred_percent_means_everything() -> None:
    nearly = Reading("Reading", 9_999, 10_000, 1.0, 1.0, 1.0, 0.0, None)
    assert "(99 %)" in progress_line(nearly)
    more = Reading("Reading", 10_001, 10_000, 1.0, 1.0, 1.0, 0.0, None)
    assert "(100 %)" in progress_line(more)


@pytest.mark.parametrize("width", [20, 80, 200])
def test_the_bar_fits_any_terminal(width: int) -> None:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(bar(READING))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and all(len(line) <= width for line in lines)
    assert lines[0].startswith("Reading") and "12.3 GB" in stream.getvalue()


def test_who_gets_which_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(make_display(OutputOptions()), BarProgress)
    assert type(make_display(OutputOptions(json=True))) is Display
    assert type(make_display(OutputOptions(quiet=True))) is WarningsOnly
    assert type(make_display(OutputOptions(no_progress=True))) is WarningsOnly
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(make_display(OutputOptions()), LineProgress)


def test_a_bar_is_drawn_warned_above_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    display = BarProgress(Style(), first_look=0.0, period=0.01)
    display.stage("Reading", 1000)
    display.advance(370)
    display.file("vae/model.safetensors")
    wait_for(stream, "37 %")
    display.warn(Notice(code="x", message="Same [bold]disk[/bold].", hint="Move it."))
    wait_for(stream, "warning: Same [bold]disk[/bold].")
    display.stage("Verifying", None)
    wait_for(stream, "Verifying")
    display.close()
    drawn = stream.getvalue()
    assert drawn.endswith("\x1b[2K") or "\x1b[?25h" in drawn, "cursor and lines are put back"
    display.close()
    display.advance(1)
    assert stream.getvalue() == drawn, "nothing is drawn after the end"


def test_a_short_command_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    display = BarProgress(Style(), first_look=60.0)
    display.stage("Reading", 10)
    display.advance(10)
    display.close()
    assert stream.getvalue() == ""


def test_a_log_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    display = LineProgress(Style(), period=0.02)
    display.stage("Reading", 1000)
    display.advance(500)
    wait_for(stream, "Reading: 500 B of 1.0 kB (50 %)")
    display.close()
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_json_shows_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    display = make_display(OutputOptions(json=True))
    display.stage("Reading", 10)
    display.warn(Notice(code="x", message="y"))
    display.close()
    assert capsys.readouterr() == ("", "")
    assert isinstance(display, Progress)
