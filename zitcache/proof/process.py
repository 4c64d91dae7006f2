"""Start the drawing process, talk to it, and end it.

It runs in a session of its own with a clean environment: no hub cache but an empty one, everything offline,
no proxies, no tokens. It is always ended with SIGKILL, whole group, so that Ctrl-C in the middle of a load
of 32 GB stops it at once; it holds nothing that could be lost.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import zitcache
from zitcache.errors import Interrupted
from zitcache.events import Cancel
from zitcache.proof.errors import DrawingFailed, error_of
from zitcache.proof.messages import (
    MAX_LINE_BYTES,
    Attempt,
    Command,
    Devices,
    Event,
    Failed,
    Hello,
    decode_event,
    encode,
)

_DROPPED_PREFIXES = ("HF_", "HUGGINGFACE_", "HUGGING_FACE_", "MODELSCOPE_", "TRANSFORMERS_CACHE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy")
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# Not -m: it would put the working directory, where users keep files called torch.py, in front of everything.
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p] + [sys.argv[1]]; "
    "from zitcache.proof.drawing.worker import main; main()"
)
_POLL_SECONDS = 0.05
_STDERR_TAIL_BYTES = 4000

EventT = TypeVar("EventT", bound=Event)


class DrawingProcess:
    """A running drawing process. Use it in a ``with`` block: leaving it ends the process."""

    def __init__(self, cancel: Cancel) -> None:
        self.packages: dict[str, str] = {}
        self.attempts: list[str] = []
        """What it tried to reach on the network."""
        self.scratch = Path(tempfile.mkdtemp(prefix="zitcache-proof-"))
        """A folder for it and for what it is given; gone in the end."""
        self._cancel = cancel
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._devices: Devices | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(Path(zitcache.__file__).parent.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=clean_environment(os.environ, self.scratch),
                start_new_session=True,
            )
        except BaseException:
            self._stderr.close()
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise
        self._pump = threading.Thread(target=self._receive, name="drawing", daemon=True)
        self._pump.start()

    @classmethod
    def start(cls, cancel: Cancel) -> DrawingProcess:
        """Start it, and wait the moment until it has said that all packages are there.

        It goes on to import them. Raises ``PackagesMissing``.
        """
        process = cls(cancel)
        try:
            process.packages = process.wait_for(Hello).packages
        except BaseException:
            process.close()
            raise
        return process

    def send(self, command: Command) -> None:
        """Send a command. Nothing happens if the process has ended: :meth:`wait_for` tells why."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(encode(command))
            self._process.stdin.flush()

    def devices(self) -> Devices:
        """What it found to draw on; waits until its imports are done."""
        if self._devices is None:
            self._devices = self.wait_for(Devices)
        return self._devices

    def wait_for(self, kind: type[EventT], on_other: Callable[[Event], None] | None = None) -> EventT:
        """Wait for an event of this kind; others go to ``on_other``.

        Raises what the process failed with, ``DrawingFailed`` if it ended without a word, and
        ``Interrupted``.
        """
        while True:
            if self._cancel:
                self.close()
                raise Interrupted
            try:
                event = self._events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if event is None:
                self._events.put(None)
                raise DrawingFailed(self._obituary())
            if isinstance(event, kind):
                return event
            if isinstance(event, Failed):
                raise error_of(event.code, event.message, event.hint)
            if isinstance(event, Attempt):
                self.attempts.append(event.target)
            elif isinstance(event, Devices):
                self._devices = event
            elif on_other is not None:
                on_other(event)

    def close(self) -> None:
        """End the process and remove its folder. May be called again."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pump.join()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self) -> DrawingProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in iter(lambda: self._process.stdout.readline(MAX_LINE_BYTES), b""):  # type: ignore[union-attr]
                self._events.put(decode_event(line))
        except (OSError, ValueError):
            pass
        finally:
            self._events.put(None)

    def _obituary(self) -> str:
        code = self._process.wait()
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES))
        last = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        said = f" Its last words: {last[0][:500]}" if last else ""
        if code == -signal.SIGKILL:
            return f"The drawing process was killed, most likely because the main memory ran out.{said}"
        return f"The drawing process ended with {code} in the middle of its work.{said}"


def clean_environment(inherited: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """The environment of the drawing process: ``inherited`` without what could lead it to another cache.

    Hub caches and their locks go to ``scratch``, which is empty: only the folder that it is given can be
    loaded.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(_DROPPED_PREFIXES) and name.lower() not in _PROXIES
    }
    # OpenMP's threads spin while they wait. Where others use the processors, too, that costs fifty times as
    # much as it saves.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    places = {
        "HF_HOME": scratch / "huggingface",
        "MODELSCOPE_CACHE": scratch / "modelscope",
        "MODELSCOPE_HOME": scratch / "modelscope-home",
    }
    return kept | _OFFLINE | {name: str(place) for name, place in places.items()}
