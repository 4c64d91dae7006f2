"""The drawing process's end of the pipes: commands from stdin, events to what was stdout.

stdout itself is turned to stderr, so that a library that prints cannot break the protocol. When stdin ends,
the parent is done with this process, or gone: it ends at once, in the middle of whatever it does.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable

from zitcache.proof.messages import MAX_LINE_BYTES, Command, Event, Ready, decode_command, encode


class Channel:
    """Reads commands in a thread of its own. ``on_ready`` is called from it, all others wait in line."""

    def __init__(self, on_ready: Callable[[str | None], None]) -> None:
        self._on_ready = on_ready
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._out = os.dup(1)
        os.dup2(2, 1)
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def say(self, event: Event) -> None:
        """Send an event. A parent that is gone ends this process."""
        line = memoryview(encode(event))
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._out, line) :]
            except OSError:
                os._exit(1)

    def next_command(self) -> Command:
        """Wait for the next command."""
        return self._commands.get()

    def _listen(self) -> None:
        try:
            for line in iter(lambda: sys.stdin.buffer.readline(MAX_LINE_BYTES), b""):
                command = decode_command(line)
                if isinstance(command, Ready):
                    self._on_ready(command.component)
                else:
                    self._commands.put(command)
        finally:
            # Not sys.exit: the main thread may be deep in a library, and tearing torch down takes its time.
            os._exit(0)
