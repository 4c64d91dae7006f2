"""The files that the newest good snapshot counts to complete models: these are no leftovers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.repository.selection import Snapshot, list_snapshots, newest_good
from zitcache.tasks.clean.candidate import is_below
from zitcache.tasks.locations import discovered_repositories, open_repository
from zitcache.tasks.settings import resolve_repository


@dataclass(slots=True)
class SnapshotNames:
    """``files``: real path of each such file, and what it is a file of, as a clause. Empty where there is no
    repository."""

    files: dict[str, str] = field(default_factory=dict)

    def owner_of(self, path: str) -> str | None:
        """What ``path``, or something below it, is a file of."""
        if path in self.files:
            return self.files[path]
        return next((owner for file, owner in self.files.items() if is_below(file, path)), None)


def snapshot_names(flag: str | None, caches: tuple[Path, ...], session: Session) -> SnapshotNames:
    """Ask the repository that was named, or the only one that lies around on a local disk.

    One that cannot be opened is an error if ``flag`` named it, and a warning otherwise: what a model needs
    now is known without it.
    """
    try:
        setting = resolve_repository(flag)
        place = setting.value
        if place is None:
            around = discovered_repositories()
            place = around[0] if len(around) == 1 else None
        if place is None or (flag is None and "://" in place):  # looking for leftovers needs no network
            return SnapshotNames()
        repository = open_repository(place, session)
        snapshots, _ = list_snapshots(repository)
        found = SnapshotNames()
        for cache in caches:
            chosen = newest_good([s for s in snapshots if _is_of(s, cache)])
            if chosen is not None:
                for entry in repository.tree(chosen.record):
                    model = _complete_model(chosen, entry.real_path)
                    if model is not None and entry.kind != "directory":
                        place = os.path.join(cache, entry.real_path)
                        found.files[place] = f"the model {model} in snapshot {chosen.short_id}"
    except ZitcacheError as error:
        if flag is not None:
            raise
        session.warn("repository-unused", f"The repository was not asked: {error.message}", error.hint)
        return SnapshotNames()
    return found


def _is_of(snapshot: Snapshot, cache: Path) -> bool:
    recorded = snapshot.record.real_cache
    return recorded == str(cache) or os.path.realpath(recorded) == str(cache)


def _complete_model(snapshot: Snapshot, path: str) -> str | None:
    for model in snapshot.record.models:
        for folder in (model.path, model.root):
            if model.complete and (folder == "" or path.startswith(folder + "/")):
                return model.id
    return None
