"""Where output goes. stdout is the result, stderr everything else."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TextIO

from zitcache.errors import from_os_error
from zitcache.ui.style import ColorChoice


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """The options that every command shares."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_progress: bool = False
    color: ColorChoice = ColorChoice.AUTO
    debug: bool = False


def write_result(text: str, *, encoding: str | None = None) -> None:
    """Write the result to stdout and flush. A reader that went away (``| head``) is no error.

    ``encoding`` None means the terminal's; what it cannot show becomes a backslash escape.
    Raises ``NoSpace`` and the like when stdout is a file that cannot be written.
    """
    if sys.stdout is None:  # started with stdout closed
        return
    try:
        _write(sys.stdout, text, encoding)
    except BrokenPipeError:
        discard_stdout()
    except OSError as error:
        raise from_os_error(error, "writing the result to stdout") from error


def write_message(text: str) -> None:
    """Write ``text`` and a newline to stderr. Never raises: nowhere is left to say so."""
    if sys.stderr is None:
        return
    try:
        _write(sys.stderr, text + "\n", None)
    except (OSError, ValueError):
        return


def finish_stdout() -> None:
    """Before the process ends: drop what could not be written, or the interpreter complains about it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        discard_stdout()


def discard_stdout() -> None:
    """Send what may still come to stdout to nowhere, so that the interpreter's last flush is quiet."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return


def _write(stream: TextIO, text: str, encoding: str | None) -> None:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # a text-only stand-in, as in tests and notebooks
        stream.write(text)
    else:
        stream.flush()
        buffer.write(text.encode(encoding or stream.encoding or "utf-8", "backslashreplace"))
    stream.flush()
