"""What is said when a command could not finish."""

from __future__ import annotations

import errno
import shlex
import signal
import sys
from collections.abc import Sequence

from zitcache.errors import Exit, Interrupted, ZitcacheError, from_os_error
from zitcache.ui.envelope import Failure

ISSUES = "Run it again with --debug and report what it prints"


def failure_of(error: BaseException, stopped_by: int | None = None) -> Failure:
    """Translate what a task raised. ``stopped_by``: the signal that asked it to stop, if one did."""
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return interrupted(stopped_by)
    if isinstance(error, ZitcacheError):
        return _failure(error.code, _with_cause(error), error.hint, error.exit_code)
    if stopped_by is not None:
        # Threads that are torn down in the middle of their work may raise anything.
        return interrupted(stopped_by)
    if isinstance(error, OSError):
        return failure_of(_from_os_error(error))
    if isinstance(error, MemoryError):
        return _failure(
            "no-memory", "There is not enough memory.", "Close other programs (see `free -h`).", Exit.NO_SPACE
        )
    return _failure(
        "bug",
        f"This is a bug in zitcache: {type(error).__name__}: {error}".rstrip(": "),
        f"{ISSUES}: {_same_command(sys.argv[1:], '--debug')}",
        Exit.BUG,
    )


def interrupted(stopped_by: int | None) -> Failure:
    """The failure for a signal; None counts as Ctrl-C."""
    word, code = (
        ("Terminated", Exit.TERMINATED) if stopped_by == signal.SIGTERM else ("Interrupted", Exit.INTERRUPTED)
    )
    return _failure(
        word.lower(),
        f"{word}. What was finished is kept.",
        f"Run the same command to go on: {_same_command(sys.argv[1:])}",
        code,
    )


def _failure(code: str, message: str, hint: str | None, exit_code: Exit) -> Failure:
    return Failure(code=code, message=message, hint=hint, exit_code=int(exit_code))


def _with_cause(error: ZitcacheError) -> str:
    """The message, and on a line of its own the reason it was raised from when that says more."""
    cause = error.__cause__
    reason = ""
    if isinstance(cause, ZitcacheError):
        reason = cause.message
    elif isinstance(cause, OSError):
        reason = cause.strerror or ""
    return error.message if not reason or reason in error.message else f"{error.message}\n{reason}"


def _from_os_error(error: OSError) -> ZitcacheError:
    name = error.filename
    path = name.decode(errors="surrogateescape") if isinstance(name, bytes) else name
    # A full file-descriptor table or a dead pipe has no file name; the number still says which error it was.
    doing = f"using {path}" if path else f"running ({errno.errorcode.get(error.errno or 0, 'no errno')})"
    return from_os_error(error, doing)


def _same_command(arguments: Sequence[str], *more: str) -> str:
    return shlex.join(["zitcache", *arguments, *(word for word in more if word not in arguments)])
