"""Snapshots as retention sees them, without a repository."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from zitcache.codec.blob import blob_id
from zitcache.repository.notes import LossRecord
from zitcache.repository.records import SnapshotModel, SnapshotRecord
from zitcache.repository.selection import Snapshot

MODEL = "Tongyi-MAI/Z-Image-Turbo"
NOW = datetime(2026, 6, 30, 12, 0, tzinfo=timezone.utc)


def model(name: str = MODEL, *, complete: bool = True) -> SnapshotModel:
    return SnapshotModel(
        id=name, revision="master", layout="modelscope", path="", root="", size_bytes=1, complete=complete
    )


def taken(
    moment: datetime | str,
    *,
    suspect: bool = False,
    left_out: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    models: tuple[SnapshotModel, ...] | None = None,
    host: str = "box",
    cache: str = "/root/cache",
    pinned: bool = False,
    lost: bool = False,
) -> Snapshot:
    text = moment if isinstance(moment, str) else moment.astimezone(timezone.utc).strftime(FORMAT)
    record = SnapshotRecord(
        time=text,
        host=host,
        cache=cache,
        program="test",
        trees=[],
        models=[model()] if models is None else list(models),
        files=1,
        size_bytes=1,
        suspect=suspect,
        left_out=list(left_out),
        tags=list(tags),
    )
    identity = blob_id(f"{text} {suspect} {left_out} {host} {cache} {tags} {models}".encode()).hex()
    losses = LossRecord(time=0, host=host, snapshot=identity, files=[]) if lost else None
    return Snapshot(identity, record, pinned=pinned, losses=losses)


FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def nightly(count: int, last: datetime = NOW, **options: object) -> list[Snapshot]:
    """One a night, oldest first."""
    return [
        taken(last - timedelta(days=number), **options)  # type: ignore[arg-type]
        for number in reversed(range(count))
    ]
