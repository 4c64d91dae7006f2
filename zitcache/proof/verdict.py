"""The words in which a proof is told."""

from __future__ import annotations

from enum import Enum
from typing import Literal


class Verdict(str, Enum):
    """``WARNED``: good enough to go on, with something to know. ``SKIPPED``: nothing was drawn."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


Tier = Literal["A", "B", "C"]
"""A: alive. B: equal to the golden. C: like the golden."""
