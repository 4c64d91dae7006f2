"""Bytes per second: how people write a rate, and a bucket of tokens that threads share."""

from __future__ import annotations

import re
import threading
import time

from zitcache.errors import UsageError

_RATE = re.compile(
    r"(?P<number>\d{1,9}(?:\.\d{1,3})?)\s*(?P<prefix>[kmg]?)(?P<binary>i?)(?P<unit>bit|bps|b|)(?:/s|ps)?",
    re.IGNORECASE,
)
_SMALLEST = 1024
_BURST_SECONDS = 0.25


def parse_rate(option: str, text: str) -> int:
    """Bytes per second, written as ``20M`` (bytes, decimal), ``20MiB``, ``500k`` or ``100Mbit``.

    Raises ``UsageError``. A "b" alone is a byte, as in most tools; bits are spelled out.
    """
    match = _RATE.fullmatch(text.strip())
    bytes_per_second = 0.0
    if match:
        base = 1024 if match["binary"] else 1000
        power = {"": 0, "k": 1, "m": 2, "g": 3}[match["prefix"].lower()]
        bits = match["unit"].lower() in {"bit", "bps"}
        bytes_per_second = float(match["number"]) * base**power / (8 if bits else 1)
    if not match or bytes_per_second < _SMALLEST:
        why = "it is less than 1 kB in a second" if match else "it is no rate"
        raise UsageError(
            f"{option} cannot be {text[:40]!r}: {why}.",
            hint="Write bytes in a second as 20M or 500k, or bits as 100Mbit.",
        )
    return int(bytes_per_second)


class RateLimit:
    """At most ``bytes_per_second`` through all threads that :meth:`take`; None: no limit."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        self.piece_size = 1 << 20
        """How many bytes to move at once, so that a slow line flows instead of jerking."""
        if bytes_per_second is not None:
            self.piece_size = max(4096, min(1 << 20, int(bytes_per_second * _BURST_SECONDS)))

    def take(self, byte_count: int) -> None:
        """Wait until ``byte_count`` more bytes may pass."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now - _BURST_SECONDS, self._free_at)
            self._free_at = begin + byte_count / self._rate
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)
