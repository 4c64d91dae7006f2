"""How full the repository's disk is, and when it will be full if snapshots go on as they did."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zitcache.machine.mounts import free_space
from zitcache.machine.trees import nearest_existing
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot
from zitcache.tasks.overview.ages import DAY, epoch_of

WINDOW_DAYS = 30.0
_LEAST_SPAN_DAYS = 2.0


class DiskForecast(msgspec.Struct, kw_only=True):
    """Bytes. ``growth_per_day``: what snapshots added in the last 30 days, the first one left out.

    ``days_left``: until the disk is full at that rate; None when nothing grows or it is too early to tell.
    """

    path: str
    bytes_free: int
    bytes_total: int
    stored_bytes: int
    growth_per_day: float | None
    days_left: float | None


def forecast(
    place: Path, repository: Repository, snapshots: Sequence[Snapshot], now: float
) -> DiskForecast | None:
    """The forecast for the disk of ``place``; None where the disk does not answer."""
    try:
        free = free_space(place).bytes_free
        found = os.statvfs(nearest_existing(place))
    except OSError:
        return None
    growth = growth_per_day(snapshots, now)
    return DiskForecast(
        path=str(place),
        bytes_free=free,
        bytes_total=found.f_blocks * found.f_frsize,
        stored_bytes=sum(repository.index.packs.values()),
        growth_per_day=growth,
        days_left=free / growth if growth else None,
    )


def growth_per_day(snapshots: Sequence[Snapshot], now: float) -> float | None:
    """Bytes a day that snapshots added within :data:`WINDOW_DAYS`; None if they span less than two days.

    The very first snapshot stores everything and says nothing about growth.
    """
    times = [(epoch_of(snapshot.record.time), snapshot.record.bytes_new_stored) for snapshot in snapshots]
    dated = sorted((moment, size) for moment, size in times if moment is not None and moment <= now)
    recent = [(moment, size) for moment, size in dated[1:] if now - moment <= WINDOW_DAYS * DAY]
    if not recent:
        return None
    begin = max(dated[0][0], now - WINDOW_DAYS * DAY)
    span = (now - begin) / DAY
    return sum(size for _, size in recent) / span if span >= _LEAST_SPAN_DAYS else None
