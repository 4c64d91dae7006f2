"""Runs one task for one command: progress, signals, errors, result, exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from zitcache.cli.failures import failure_of, interrupted
from zitcache.cli.signals import StopSignals
from zitcache.events import Cancel, Notice, Outcome, Session
from zitcache.ui.envelope import Failure
from zitcache.ui.output import OutputOptions
from zitcache.ui.progress import make_display
from zitcache.ui.report import View, emit_failure, emit_json, emit_lines, emit_warning, view_for
from zitcache.ui.style import is_terminal

ReportT = TypeVar("ReportT", bound=msgspec.Struct)


def run(
    command: str,
    output: OutputOptions,
    work: Callable[[Session], Outcome[ReportT]],
    render: Callable[[ReportT, View], Sequence[str]],
    *,
    data: Callable[[ReportT], object] = lambda report: report,
    again: tuple[str, ...] = (),
    quiet_hides: bool = True,
) -> int:
    """Call ``work`` and report how it went; gives the exit code.

    ``render``: the report as lines for a person. ``data``: what stands in the JSON envelope.
    ``quiet_hides``: ``-q`` drops the report when all went well (False where it is what was asked for).
    """
    display = make_display(output)
    session = Session(display, Cancel())
    outcome: Outcome[ReportT] | None = None
    failure: Failure | None = None

    def leave(number: int) -> None:
        """End the process now: the task did not stop in time."""
        report = interrupted(number)
        try:
            if is_terminal(sys.stderr) and not output.json:
                os.write(2, b"\x1b[?25h\n")  # the bar hid the cursor
            report_failure(command, report, output, session.warnings)
        finally:
            os._exit(report.exit_code)

    with StopSignals(session.cancel, leave) as signals:
        try:
            outcome = work(session)
        except (Exception, KeyboardInterrupt) as error:
            failure = failure_of(error, signals.received)
            if output.debug:
                traceback.print_exc()
        finally:
            display.close()

    warnings = _merged(session.warnings, outcome.warnings if outcome else [])
    if failure is not None:
        report_failure(command, failure, output, warnings)
        return failure.exit_code
    assert outcome is not None
    exit_code = int(outcome.exit_code)
    if output.json:
        emit_json(command, exit_code, data(outcome.data), warnings, None)
        return exit_code
    for notice in warnings[len(session.warnings) :]:
        emit_warning(notice, output)
    if not (output.quiet and quiet_hides and exit_code == 0):
        emit_lines(render(outcome.data, view_for(output, exit_code, again)))
    return exit_code


def report_failure(
    command: str | None, failure: Failure, output: OutputOptions, warnings: Sequence[Notice] = ()
) -> None:
    """Print a failure: the JSON envelope on stdout, or the error on stderr."""
    if output.json:
        emit_json(command, failure.exit_code, None, warnings, failure)
    else:
        emit_failure(failure, output)


def _merged(shown: Sequence[Notice], returned: Sequence[Notice]) -> list[Notice]:
    """All warnings once each, those shown while the task ran first."""
    return [*shown, *(notice for notice in returned if notice not in shown)]
