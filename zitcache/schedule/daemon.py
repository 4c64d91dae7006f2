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
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from zitcache.errors import Locked, from_os_error
from zitcache.schedule.times import CronTimes

STOP_SECONDS = 1.5
LOCK_NAME = "scheduler.lock"


class Daemon:
    """Runs ``command`` at the given times until it is told to stop.

    ``last_run``: when it last ran, for catching up. ``say``: receives one line for each thing that happens.
    ``stopped``: asked now and then whether to stop; for a caller that handles the signals itself.
    """

    def __init__(
        self,
        command: Sequence[str],
        times: CronTimes,
        *,
        last_run: Callable[[], datetime | None],
        say: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._command = list(command)
        self._times = times
        self._last_run = last_run
        self._say = say
        self._stopped = stopped
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Block until stopped. A night that should have run since ``last_run`` is made up for at once."""
        from apscheduler.schedulers.background import BackgroundScheduler

        scheduler = BackgroundScheduler()
        scheduler.add_job(
            self.run_once,
            self._times.trigger(),
            id="night",
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )
        if self.missed():
            self._say("The last night was missed: running it now.")
            scheduler.add_job(self.run_once, id="missed", misfire_grace_time=None)
        scheduler.start()
        try:
            job = scheduler.get_job("night")
            if job is not None and job.next_run_time is not None:
                self._say(f"Next run: {job.next_run_time:%Y-%m-%d %H:%M %Z}. Stop with Ctrl-C.")
            while not self._stopping.wait(0.2):
                if self._stopped():
                    self._stopping.set()
        finally:
            self._end_child()
            scheduler.shutdown(wait=True)

    def stop(self) -> None:
        """Let :meth:`run` return; the night that is running is asked to stop and keeps what it has done."""
        self._stopping.set()

    def missed(self) -> bool:
        """Whether a time has passed since the last run; never so before the first run, which has its time."""
        last = self._last_run()
        if last is None:
            return False
        due = self._times.next_after(last)
        return due is not None and due <= datetime.now().astimezone()

    def run_once(self) -> None:
        """Run the command and wait for it. One at a time: a second call while one runs does nothing."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._stopping.is_set():
                return
            self._say("The night begins.")
            try:
                # A session of its own: Ctrl-C in the terminal reaches it through us, once.
                self._child = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, start_new_session=True
                )
            except OSError as error:
                self._say(f"The night could not be started: {error.strerror or error}.")
                return
            code = self._child.wait()
            self._say(f"The night ended with exit code {code}.")
        finally:
            self._child = None
            self._lock.release()

    def _end_child(self) -> None:
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_SECONDS + 1)
        except subprocess.TimeoutExpired:
            # Repositories withstand this anywhere.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


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
