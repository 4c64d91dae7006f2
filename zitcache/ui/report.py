"""The end of a command: its result on stdout, its warnings and its error on stderr, or one JSON object."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from zitcache.events import Notice
from zitcache.ui.envelope import Envelope, Failure, encode
from zitcache.ui.output import OutputOptions, write_message, write_result
from zitcache.ui.progress import warning_text
from zitcache.ui.style import Style, is_terminal, use_color
from zitcache.ui.text import printable


@dataclass(frozen=True, slots=True)
class View:
    """How a report is to be rendered.

    ``again``: the options that named the repository and the cache, so that "next command" is exact.
    ``limit``: how many entries of a list of files are shown (None: all, ``-v``).
    """

    style: Style
    exit_code: int = 0
    again: tuple[str, ...] = ()
    limit: int | None = 20

    def command(self, *words: str) -> str:
        """A command line to copy: ``zitcache verify --repair -r /data/zitcache``."""
        from shlex import join

        return printable(join(["zitcache", *words, *self.again]))

    def items(self, lines: Sequence[str]) -> list[str]:
        """``lines``, or the first of them and how many more there are."""
        if self.limit is None or len(lines) <= self.limit:
            return list(lines)
        return [
            *lines[: self.limit],
            self.style.dim(f"  … and {len(lines) - self.limit:,} more (-v shows all)"),
        ]


def view_for(options: OutputOptions, exit_code: int, again: tuple[str, ...]) -> View:
    """The view on stdout that ``options`` ask for."""
    style = Style(use_color(options.color, sys.stdout))
    return View(style, exit_code, again, None if options.verbose else 20)


def emit_json(
    command: str | None, exit_code: int, data: object, warnings: Sequence[Notice], error: Failure | None
) -> None:
    """Print the JSON envelope: one line, or indented when a person is watching."""
    envelope = Envelope(
        command=command, ok=exit_code == 0, exit_code=exit_code, data=data, warnings=warnings, error=error
    )
    write_result(encode(envelope, indent=is_terminal(sys.stdout)), encoding="utf-8")


def emit_lines(lines: Sequence[str]) -> None:
    """Print a rendered report."""
    if lines:
        write_result("\n".join(lines) + "\n")


def emit_warning(notice: Notice, options: OutputOptions) -> None:
    """Print a warning that has not been shown while the task ran."""
    write_message(warning_text(notice, Style(use_color(options.color, sys.stderr))))


def emit_failure(failure: Failure, options: OutputOptions) -> None:
    """Print ``error: what`` / ``  why`` / ``hint: exact next command`` to stderr."""
    write_message(failure_text(failure, Style(use_color(options.color, sys.stderr))))


def failure_text(failure: Failure, style: Style) -> str:
    """The lines of an error. A line break in a message starts an indented line: none can pose as a hint."""
    first, *rest = failure.message.split("\n")
    lines = [style.bad("error:") + " " + printable(first)]
    lines += ["  " + printable(line.strip()) for line in rest if line.strip()]
    if failure.hint:
        lines.append(style.strong("hint:") + " " + printable(failure.hint))
    return "\n".join(lines)
