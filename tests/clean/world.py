"""What the tests of ``clean`` share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zitcache.cache.inventory import inventory
from zitcache.events import Outcome, Progress, Session
from zitcache.tasks.clean import CleanItem, CleanReport, CleanRequest, clean

SNAPSHOT = "models/Tongyi-MAI--Z-Image-Turbo/snapshots/master"
LEGACY = "models/Tongyi-MAI/Z-Image-Turbo"
LATER = 7200.0
"""Two hours on, everything that a test has just made is old enough."""


def run(
    cache: Path | None = None, *, later: float = LATER, progress: Progress | None = None, **request: Any
) -> Outcome[CleanReport]:
    """``clean`` as it would be called ``later`` seconds from now."""
    wanted = CleanRequest(cache=None if cache is None else str(cache), **request)
    return clean(wanted, Session(progress), clock=lambda: time.time() + later)


def items_of(outcome: Outcome[CleanReport]) -> dict[str, CleanItem]:
    """The items by path."""
    found = {item.path: item for item in outcome.data.items}
    assert len(found) == len(outcome.data.items)
    return found


def only(outcome: Outcome[CleanReport]) -> CleanItem:
    """The one item there must be."""
    (item,) = outcome.data.items
    return item


def put(path: Path, content: bytes = b"x" * 5000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names_below(root: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(where, name), root) for where, d, f in os.walk(root) for name in d + f
    }


def require_complete(root: Path) -> None:
    """The first model of ``root`` has all its files."""
    assert inventory(root).models and inventory(root).models[0].complete


@contextmanager
def process(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs ``code`` and then waits; it has printed a line when this is entered."""
    program = f"import sys\n{code}\nprint('ready', flush=True)\nsys.stdin.read()"
    running = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        yield running
    finally:
        running.communicate("")
