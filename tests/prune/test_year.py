"""A year of nights with a clock of its own: the repository stays small, the last good snapshot whole."""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta, timezone
from unittest import mock

import msgspec
import pytest

from tests.prune.memory import MemoryStorage
from tests.prune.scene import back_up, new_storage, require_whole
from zitcache.errors import NoSpace
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.repository.retention import protections
from zitcache.repository.selection import list_snapshots
from zitcache.storage.protocol import Buffer
from zitcache.tasks import deleting
from zitcache.tasks.forget import ForgetRequest, forget
from zitcache.tasks.prune import PruneRequest, prune

BEGIN = datetime(2025, 1, 1, 2, 0, tzinfo=timezone.utc)
WEIGHTS = 400_000
PACK_SIZE = 1 << 20
FULL_NIGHTS = range(200, 205)
SUSPECT_NIGHTS = range(250, 270)
MISSED_NIGHTS = range(300, 320)


class SometimesFull(MemoryStorage):
    """Refuses packs while ``is_full``."""

    is_full = False

    def store(self, name: str, data: Buffer) -> None:
        if self.is_full and name.startswith("packs/"):
            raise NoSpace("full")
        super().store(name, data)


def small_packs() -> SometimesFull:
    """A repository whose packs are not much larger than the weights."""
    storage = SometimesFull(new_storage().objects)
    config = msgspec.structs.replace(Repository.open(storage).config, pack_size=PACK_SIZE)
    storage.objects["config"] = (msgspec.json.encode(config), 0.0)
    return storage


def weights(night: int) -> bytes:
    """They are replaced every ten days."""
    return random.Random(night // 10).randbytes(WEIGHTS)


def one_night(storage: SometimesFull, night: int) -> None:
    moment = BEGIN + timedelta(days=night)
    storage.clock = moment.timestamp()
    storage.is_full = night in FULL_NIGHTS
    if night in MISSED_NIGHTS:
        return
    files = {"weights": weights(night), "log": f"night {night}".encode()}
    try:
        snapshot = back_up(storage, files, moment.strftime("%Y-%m-%dT%H:%M:%S.000000Z"))
    except NoSpace:
        return
    if night in SUSPECT_NIGHTS:
        repository = Repository.open(storage)
        record = msgspec.structs.replace(repository.load_snapshot(snapshot), suspect=True)
        storage.delete(f"snapshots/{snapshot}")
        repository.write_snapshot(record)
    forget(ForgetRequest(repository=storage), Session())  # type: ignore[arg-type]
    if night % 7 == 0:
        prune(PruneRequest(repository=storage), Session())  # type: ignore[arg-type]


def weights_of(day: str) -> int:
    """Which weights a night had."""
    return (datetime.fromisoformat(f"{day}T02:00:00+00:00") - BEGIN).days // 10


def test_a_year_of_nights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "open_repository", lambda storage, session: Repository.open(storage))
    storage = small_packs()
    last_good = ""
    largest = 0.0
    for night in range(365):
        now = (BEGIN + timedelta(days=night)).timestamp()
        with mock.patch.object(time, "time", lambda now=now: now):
            one_night(storage, night)
        snapshots, unreadable = list_snapshots(Repository.open(storage))
        assert not unreadable
        good = [snapshot for snapshot in snapshots if snapshot.is_good]
        assert good[-1].record.time >= last_good, "the last good snapshot is never older than it was"
        last_good = good[-1].record.time
        assert good[-1].id in protections(snapshots, datetime.now(timezone.utc))
        if night % 5 == 0:
            require_whole(storage)
        assert len(good) <= 7 + 4 + 6 and len(snapshots) <= 2 * (7 + 4 + 6)
        packs = sum(len(data) for name, (data, _) in storage.objects.items() if name.startswith("packs/"))
        distinct = {snapshot.record.time[:10] for snapshot in snapshots}
        largest = max(largest, packs / len({weights_of(day) for day in distinct}))
        assert len(storage.objects) < 120, "small objects do not pile up"
    # Beside what the snapshots need, there is what was forgotten or marked in the last two weeks.
    assert largest < 2.5 * WEIGHTS
    assert len(storage.names("index")) <= 16 and not storage.names("claims")
