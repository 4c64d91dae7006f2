"""Repositories to copy: small caches, many pieces and packs, and a comparison with what must be there."""

from __future__ import annotations

from pathlib import Path

from tests.backup.world import (
    KIB,
    MIB,
    back_up,
    bring_back,
    make_model,
    make_repository,
    noise,
    require_same,
    weights,
)
from zitcache.errors import Exit
from zitcache.events import Cancel, Outcome, Progress, Session
from zitcache.repository.repository import Repository
from zitcache.storage.opening import open_storage
from zitcache.tasks.copy import CopyReport, CopyRequest, copy


def make_source(root: Path, *, nights: int = 1, pack_size: int = MIB) -> tuple[Path, Path]:
    """A cache, and a repository with ``nights`` snapshots of it, each with a change."""
    cache = make_model(
        root / "cache",
        {
            "model.safetensors": weights({f"layer{number}": 300 * KIB for number in range(6)}),
            "vae/model.safetensors": weights({"vae": 500 * KIB, "vae2": 200 * KIB}),
            "tokenizer.json": noise(30 * KIB, "tokenizer"),
        },
    )
    repository = make_repository(
        root / "source", piece_size=256 * KIB, merge_below=64 * KIB, pack_size=pack_size
    )
    for night in range(nights):
        if night:
            (cache / f"night{night}.bin").write_bytes(noise(100 * KIB, str(night)))
        back_up(repository, cache)
    return cache, repository


def run_copy(
    source: Path | str,
    to: Path | str,
    *snapshots: str,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    init: bool = True,
    dry_run: bool = False,
) -> Outcome[CopyReport]:
    request = CopyRequest(source=str(source), to=str(to), snapshots=snapshots, init=init, dry_run=dry_run)
    return copy(request, Session(progress, cancel))


def opened(place: Path | str) -> Repository:
    return Repository.open(open_storage(str(place)))


def ids(place: Path | str) -> set[str]:
    return set(opened(place).snapshot_ids())


def require_restorable(place: Path | str, cache: Path, target: Path, snapshot: str = "latest") -> None:
    """The snapshot comes back from ``place`` as the cache is."""
    outcome = bring_back(place, target, snapshot=snapshot)  # type: ignore[arg-type]
    assert outcome.exit_code is Exit.OK
    require_same(cache, target)


def stored_copies(place: Path | str) -> dict[tuple[str, int], int]:
    """How often each blob is stored."""
    index = opened(place).index
    counts: dict[tuple[str, int], int] = {}
    for blob in index:
        for location in index.locations(blob):
            counts[blob, location.kind] = counts.get((blob, location.kind), 0) + 1
    return counts
