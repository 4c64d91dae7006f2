"""Did a night not come? Told by a small file beside the lock, which costs next to nothing to look at.

Where that is gone, as after a reset of the system disk, the history in the repository tells.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.schedule.history import Run, own_runs, recent_runs
from zitcache.schedule.times import CronTimes
from zitcache.tasks.locations import open_repository

_NAME = "last-night"
_LOOKED_AT = 40


def was_missed(times: CronTimes, last: datetime | None, now: datetime) -> bool:
    """Whether a time has passed since ``last``; never so before the first night, which has its time.

    A night from the future was one with a wrong clock, and tells nothing.
    """
    if last is None:
        return False
    due = times.next_after(last)
    return last > now or (due is not None and due <= now)


def last_began(repository: str | None, state: Path) -> datetime | None:
    """When the last night with a backup began on this machine, as far as anything tells. Raises nothing."""
    noted = _noted(state)
    if noted is not None:
        return _local(noted)
    runs: list[Run] = []
    try:
        runs = recent_runs(open_repository(repository, Session()), state, _LOOKED_AT)
    except ZitcacheError:  # not mounted, perhaps: the history of this machine is better than none
        runs = recent_runs(None, state, _LOOKED_AT)
    began = [run.record.started for run in own_runs(runs) if run.record.step("backup") is not None]
    return _local(max(began)) if began else None


def note_night(began: float, state: Path) -> None:
    """Remember a night with a backup. Raises nothing: the history remembers it as well."""
    with contextlib.suppress(OSError):
        (state / _NAME).write_text(f"{began:.3f}\n")


def _noted(state: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return float((state / _NAME).read_text())
    return None


def _local(moment: float) -> datetime | None:
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(moment).astimezone()
    return None
