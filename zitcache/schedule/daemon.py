"""Our own scheduler, for machines where neither systemd nor cron runs: most rented containers.

It stays in the foreground and starts each night as a process of its own, so that nothing of a night can
linger. The times come from the configuration at every start and nothing is stored (APScheduler's own job
store pickles). APScheduler gives up on a job that is one second late unless told otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zitcache.errors import Locked, from_os_error
from zitcache.schedule.times import CronTimes

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler

STOP_SECONDS = 1.2
LOCK_NAME = "scheduler.lock"
_JOB = "night"
_POLL_SECONDS = 1.0
_JUMP_SECONDS = 5.0


class Daemon:
    """Runs ``command`` at the given times until it is told to stop.

    ``missed``: whether a night is to be made up for at the start. ``say``: receives one line for each thing
    that happens. ``wait``: waits so many seconds at most and says whether to stop; for a caller that handles
    the signals itself.
    """

    def __init__(
        self,
        command: Sequence[str],
        times: CronTimes,
        *,
        missed: Callable[[], bool],
        say: Callable[[str], None],
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._command = list(command)
        self._times = times
        self._missed = missed
        self._say = say
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Block until stopped. A night that should have run is made up for at once."""
        from apscheduler.schedulers.background import BackgroundScheduler
        from apscheduler.triggers.date import DateTrigger

        scheduler = BackgroundScheduler()
        scheduler.add_job(
            self.run_once,
            self._times.trigger(),
            id=_JOB,
            misfire_grace_time=None,
            coalesce=True,
            max_instances=2,  # the second one says why it does not run
        )
        if self._missed():
            self._say("The last night was missed: running it now.")
            # By class: names are looked up in the metadata of installed packages, which a kit does not have.
            scheduler.add_job(self.run_once, DateTrigger(), id="missed", misfire_grace_time=None)
        scheduler.start()
        try:
            self._say_next(scheduler)
            clock = _WallClock()
            while not self._wait(_POLL_SECONDS):
                moved = clock.moved()
                if moved:
                    self._after_a_jump(scheduler, moved)
        finally:
            self._stopping.set()
            self._end_child()
            scheduler.shutdown(wait=True)

    def stop(self) -> None:
        """Let :meth:`run` return; the night that is running is asked to stop and keeps what it has done."""
        self._stopping.set()

    def run_once(self) -> None:
        """Run the command and wait for it. One at a time: a second call while one runs does nothing."""
        if not self._lock.acquire(blocking=False):
            self._say("The last night is still running: this one is left out.")
            return
        try:
            if self._stopping.is_set():
                return
            self._say("The night begins.")
            try:
                # A session of its own: Ctrl-C in the terminal reaches it through us, once.
                self._child = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/"
                )
            except OSError as error:
                self._say(f"The night could not be started: {error.strerror or error}.")
                return
            self._say(_ended(self._child.wait()))
        finally:
            self._child = None
            self._lock.release()

    def _say_next(self, scheduler: BackgroundScheduler) -> None:
        job = scheduler.get_job(_JOB)
        if job is not None and job.next_run_time is not None:
            self._say(f"Next run: {job.next_run_time:%Y-%m-%d %H:%M %Z}. Stop with Ctrl-C.")

    def _after_a_jump(self, scheduler: BackgroundScheduler, seconds: float) -> None:
        """The machine slept, or its clock was set. APScheduler counts on a clock that does neither.

        Forwards, a night that should have come by now is due. Backwards, the next one may be years ahead.
        """
        if seconds > 0:
            scheduler.wakeup()
        else:
            scheduler.reschedule_job(_JOB, trigger=self._times.trigger())
            self._say("The clock was set back.")
            self._say_next(scheduler)

    def _end_child(self) -> None:
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Repositories withstand this anywhere.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


class _WallClock:
    """Tells when the wall clock and the time that a process lives come apart."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def moved(self) -> float:
        """Seconds by which the clock was moved since the last call; 0 for less than :data:`_JUMP_SECONDS`."""
        offset = time.time() - time.monotonic()
        moved = offset - self._offset
        if abs(moved) < _JUMP_SECONDS:
            return 0.0
        self._offset = offset
        return moved


def _ended(code: int) -> str:
    if code < 0:
        return f"The night was killed by signal {-code}."
    return f"The night ended with exit code {code}."


@contextlib.contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the lock of this machine's scheduler. Raises :class:`Locked` while another one runs."""
    path = state / LOCK_NAME
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os_error(error, f"opening {path}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 64, 0).decode(errors="replace").strip()
            raise Locked(
                f"A scheduler of zitcache is running already (process {owner or 'unknown'}).",
                hint="See it with: zitcache schedule status",
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def running_scheduler(state: Path) -> int | None:
    """The process id of the running scheduler; None if none runs (the lock of a dead one is free)."""
    try:
        handle = os.open(state / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(handle, 64, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    except OSError:
        return None
    finally:
        os.close(handle)
    return None
