"""Shell commands of the user before and after a night. None of them can fail it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import IO

from zitcache.events import Notice

TIMEOUT_SECONDS = 600.0
_SHOWN_OUTPUT = 500


def run_hook(
    name: str,
    command: str | None,
    variables: Mapping[str, str],
    timeout_seconds: float = TIMEOUT_SECONDS,
    stopping: Callable[[], bool] = lambda: False,
) -> Notice | None:
    """Run a shell command with ``variables`` in its environment; a notice if it failed, None if all is well.

    Its output is in the notice, not on our stdout, which is the result of the night. It goes through a file:
    what the command leaves running in the background would hold a pipe open for ever. ``stopping``: asked
    now and then; once true, the command is stopped.
    """
    if not command:
        return None
    with tempfile.TemporaryFile() as output:
        try:
            child = _start_hook(command, variables, output)
        except OSError as error:
            return _hook_failed(name, f"could not be started: {error.strerror or error}")
        deadline = time.monotonic() + timeout_seconds
        code = None
        while code is None and time.monotonic() < deadline and not stopping():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(min(0.2, timeout_seconds))
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            was = "was stopped, as the night was" if stopping() else "was stopped"
            return _hook_failed(name, f"did not end within {timeout_seconds:.0f} s and {was}")
        if code == 0:
            return None
        output.seek(max(0, os.fstat(output.fileno()).st_size - _SHOWN_OUTPUT))
        said = output.read().decode(errors="replace").strip()
    return _hook_failed(name, f"ended with exit code {code}" + (f": {said}" if said else ""))


def launch_hook(command: str | None, variables: Mapping[str, str]) -> None:
    """Start a shell command and leave it to itself. Raises nothing."""
    if command:
        with contextlib.suppress(OSError):
            _start_hook(command, variables, subprocess.DEVNULL)


def _start_hook(
    command: str, variables: Mapping[str, str], output: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", command],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _hook_failed(name: str, problem: str) -> Notice:
    return Notice(
        code="hook-failed",
        message=f"The hook {name!r} {problem}.",
        hint=f"Try it by hand: sh -c '…' ([hooks] {name} in the configuration)",
    )
