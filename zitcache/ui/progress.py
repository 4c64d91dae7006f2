"""Progress on stderr: a bar on a terminal, a line every 30 s in a log, nothing when not wanted.

``advance`` and ``file`` are called thousands of times from many threads: they only touch a
:class:`~zitcache.ui.meter.Meter`. One background thread looks at it and draws. It begins to draw after a
moment only, so that a short command neither flickers nor pays for importing the terminal library.
"""

from __future__ import annotations

import sys
import threading
from abc import abstractmethod
from typing import TYPE_CHECKING

from zitcache.events import Notice, Progress
from zitcache.ui.meter import Meter, Reading
from zitcache.ui.output import OutputOptions, write_message
from zitcache.ui.style import Style, is_terminal, use_color
from zitcache.ui.text import duration, printable, rate, size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

FIRST_LOOK_SECONDS = 0.3
BAR_SECONDS = 0.125
LINE_SECONDS = 30.0


class Display(Progress):
    """A progress display that has to be closed. This one shows nothing, warnings neither (``--json``)."""

    def close(self) -> None:
        """Stop drawing and leave the terminal clean. May be called twice."""


class WarningsOnly(Display):
    """Shows warnings as they come, and nothing else."""

    def __init__(self, style: Style) -> None:
        self._style = style

    def warn(self, notice: Notice) -> None:
        """Print the warning to stderr."""
        write_message(warning_text(notice, self._style))


class _Ticking(WarningsOnly):
    """A meter, and a thread that calls :meth:`_draw` every ``period`` seconds once a stage has begun."""

    def __init__(self, style: Style, first_look: float, period: float) -> None:
        super().__init__(style)
        self._meter = Meter()
        self._first_look, self._period = first_look, period
        self._closing = threading.Event()
        self._drawing = threading.Lock()
        self._thread: threading.Thread | None = None

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        """Begin a stage; the first one starts the thread that draws."""
        self._meter.stage(name, total_bytes)
        with self._drawing:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()

    def advance(self, byte_count: int) -> None:
        """Count bytes."""
        self._meter.advance(byte_count)

    def file(self, path: str) -> None:
        """Remember the current file."""
        self._meter.file(path)

    def close(self) -> None:
        """Stop the thread and clear what it drew."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        delay = self._first_look
        while not self._closing.wait(delay):
            delay = self._period
            with self._drawing:
                self._draw(self._meter.read())
        with self._drawing:
            self._clear()

    @abstractmethod
    def _draw(self, reading: Reading) -> None: ...

    def _clear(self) -> None: ...


class LineProgress(_Ticking):
    """One plain line every 30 seconds, for logs and cron mails."""

    def __init__(self, style: Style, period: float = LINE_SECONDS) -> None:
        super().__init__(style, period, period)

    def _draw(self, reading: Reading) -> None:
        write_message(progress_line(reading))


class BarProgress(_Ticking):
    """A bar with bytes, rate now, mean rate, time left, stage and current file, on a terminal."""

    def __init__(
        self, style: Style, first_look: float = FIRST_LOOK_SECONDS, period: float = BAR_SECONDS
    ) -> None:
        super().__init__(style, first_look, period)
        self._live: Live | None = None

    def warn(self, notice: Notice) -> None:
        """Print the warning above the bar."""
        with self._drawing:
            if self._live is None:
                super().warn(notice)
                return
            from rich.text import Text

            self._live.console.print(Text.from_ansi(warning_text(notice, self._style)), soft_wrap=True)

    def _draw(self, reading: Reading) -> None:
        if self._live is None:
            self._live = _start_live(self._style)
        self._live.update(bar(reading), refresh=True)

    def _clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def make_display(options: OutputOptions) -> Display:
    """The display that ``options`` and the kind of stderr call for."""
    if options.json:
        return Display()
    style = Style(use_color(options.color, sys.stderr))
    if options.quiet or options.no_progress:
        return WarningsOnly(style)
    return BarProgress(style) if is_terminal(sys.stderr) else LineProgress(style)


def warning_text(notice: Notice, style: Style) -> str:
    """``warning: what`` and, indented, the hint."""
    lines = [style.caution("warning:") + " " + printable(notice.message)]
    if notice.hint:
        lines.append("  hint: " + printable(notice.hint))
    return "\n".join(lines)


def progress_line(reading: Reading) -> str:
    """A reading as one line: ``Reading: 12.3 GB of 32.8 GB (37 %), 1.5 GB/s now, …``."""
    return f"{printable(reading.stage)}: " + ", ".join(_figures(reading) + _current_file(reading))


def bar(reading: Reading) -> RenderableType:
    """A reading for a terminal: stage and bar, the figures below, and the current file below them."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    top = Table.grid(padding=(0, 1), expand=False)
    share = reading.share
    gauge = ProgressBar(
        total=1.0, completed=share or 0.0, width=40, pulse=share is None and reading.done_bytes > 0
    )
    top.add_row(Text(printable(reading.stage), style="bold"), gauge)
    lines = ["  ".join(_figures(reading)), *_current_file(reading)]
    return Group(top, *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines))


def _figures(reading: Reading) -> list[str]:
    done = size(reading.done_bytes)
    if reading.total_bytes is not None:
        done += f" of {size(reading.total_bytes)}"
    if reading.share is not None:
        # Rounded down: 100 % is shown when everything is done, not before.
        done += f" ({int(reading.share * 100)} %)"
    figures = [done, f"{rate(reading.rate_now)} now", f"{rate(reading.rate_mean)} mean"]
    if reading.remaining_seconds is not None:
        figures.append(f"{duration(reading.remaining_seconds)} left")
    return figures


def _current_file(reading: Reading) -> list[str]:
    return [printable(reading.file)] if reading.file else []


def _start_live(style: Style) -> Live:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr, no_color=not style.color, highlight=False, markup=False, emoji=False)
    # transient: the result that follows stands alone. The streams stay as they are: nobody else writes there.
    live = Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )
    live.start()
    return live
