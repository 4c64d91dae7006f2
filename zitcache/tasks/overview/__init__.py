"""What is protected, where, how old, and how much longer the disk lasts: for status, report and metrics.

``sizes``: before and after compression · ``ages``: when what was last done · ``disk``: space and forecast ·
here: all of it put together, from the repository, the cache and the history.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zitcache.cache.inventory import Inventory
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot, newest_good
from zitcache.schedule.history import Run
from zitcache.schedule.sections import StatusConfig
from zitcache.tasks.overview.ages import Moment, epoch_of, moments
from zitcache.tasks.overview.disk import DiskForecast, forecast


class ModelState(msgspec.Struct, kw_only=True):
    """A model and the newest good snapshot that holds it whole. ``snapshot_id`` None: it is not protected.

    ``in_cache``: "complete", "incomplete" or "absent". ``age_seconds``: of that snapshot.
    """

    id: str
    revision: str
    size_bytes: int
    in_cache: str
    snapshot_id: str | None
    snapshot_time: str | None
    age_seconds: float | None


class Overview(msgspec.Struct, kw_only=True):
    """``last_good``: id of the newest good snapshot. ``stale``: names of the moments that are too old."""

    repository: str
    cache: str | None
    last_good: str | None
    snapshots: int
    models: list[ModelState]
    moments: list[Moment]
    stale: list[str]
    disk: DiskForecast | None


def overview(
    repository: Repository,
    snapshots: Sequence[Snapshot],
    runs: Sequence[Run],
    stock: Inventory | None,
    limits: StatusConfig,
    *,
    now: float | None = None,
) -> Overview:
    """Put it together. ``stock``: the live cache, None if there is none. ``now``: seconds since the epoch."""
    now = time.time() if now is None else now
    good = newest_good([snapshot for snapshot in snapshots if snapshot.is_good])
    times = moments(repository, snapshots, runs, limits, now)
    location = repository.storage.location
    return Overview(
        repository=location,
        cache=None if stock is None else str(stock.root),
        last_good=None if good is None else good.id,
        snapshots=len(snapshots),
        models=model_states(snapshots, stock, now),
        moments=times,
        stale=[moment.what for moment in times if moment.stale],
        disk=None if "://" in location else forecast(Path(location), repository, snapshots, now),
    )


def model_states(snapshots: Sequence[Snapshot], stock: Inventory | None, now: float) -> list[ModelState]:
    """Every model of the cache and of the good snapshots, by id; those at risk are easy to tell."""
    protected: dict[tuple[str, str], tuple[Snapshot, int]] = {}
    for snapshot in snapshots:  # oldest first, so that the newest wins
        if snapshot.is_suspect:
            continue
        for model in snapshot.record.models:
            if model.complete:
                protected[model.id, model.revision] = snapshot, model.size_bytes
    live = {(model.id, model.revision): model for model in stock.models} if stock else {}
    states = []
    for key in sorted(protected.keys() | live.keys()):
        holder, size = protected.get(key, (None, 0))
        present = live.get(key)
        taken = None if holder is None else epoch_of(holder.record.time)
        states.append(
            ModelState(
                id=key[0],
                revision=key[1],
                size_bytes=present.size_bytes if present else size,
                in_cache="absent" if present is None else "complete" if present.complete else "incomplete",
                snapshot_id=None if holder is None else holder.id,
                snapshot_time=None if holder is None else holder.record.time,
                age_seconds=None if taken is None else max(0.0, now - taken),
            )
        )
    return states


__all__ = ["DiskForecast", "ModelState", "Moment", "Overview", "model_states", "overview"]
